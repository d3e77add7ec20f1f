"""What tests all over the house need."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

# A job in the background of a script ignores Ctrl-C, and so would every command that a test starts and ends by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

TOLERANCE = {  # largest error over largest magnitude, of one tensor
    torch.float64: 1e-12,  # the same sums of some hundred terms in another order, each rounded to 1e-16
    torch.float32: 1e-5,  # what the kernels promise; 35 steps rounded to 6e-8 reach about 2e-6
    torch.float16: 1e-2,  # a few roundings to 5e-4 in every step of a short sequence
    torch.bfloat16: 5e-2,  # the same with 4e-3
}


def assert_agree(got: Tensor, want: Tensor) -> None:
    """That `got` is `want`, usually known to more digits, within what its dtype allows."""
    assert got.shape == want.shape
    assert got.isfinite().all()
    error = (got.to(want) - want).abs().max() if want.numel() else 0
    bound = TOLERANCE[got.dtype] * (want.abs().max() if want.numel() else 1)
    assert error <= bound, f"largest error {error:.3g}, allowed {bound:.3g}"


@pytest.fixture
def agree() -> Callable[[Tensor, Tensor], None]:
    """`assert_agree`, with the one table of tolerances."""
    return assert_agree


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Under torch.use_deterministic_algorithms."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def conveyor_data() -> Path:
    """The folder with the public data sets, named by CONVEYOR_DATA."""
    folder = os.environ.get("CONVEYOR_DATA")
    if not folder:
        pytest.skip("CONVEYOR_DATA is not set: it names a folder with the public data sets")
    assert Path(folder).is_dir(), f"CONVEYOR_DATA={folder} is not a folder"
    return Path(folder)


@pytest.fixture
def nobody() -> Callable[[], AbstractContextManager[None]]:
    """A context in which files may be forbidden; to root they never are."""

    @contextmanager
    def context() -> Iterator[None]:
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            yield
        finally:
            os.seteuid(user)

    return context
