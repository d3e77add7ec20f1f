"""The kernels' sigmoid and tanh against float64: the error they promise, and their limits."""

from collections.abc import Callable

import numpy as np
import pytest

from conveyor import _kernels

Array = np.ndarray
FUNCTIONS: dict[str, tuple[Callable[[Array, Array], None], Callable[[Array], Array]]] = {
    "sigmoid": (_kernels.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (_kernels.tanh, np.tanh),
}
BOUND = 4  # units in the last place; 3.0 were measured


def every(step: int) -> Array:
    """Every `step`-th float32 there is, NaN and infinities left out."""
    x = np.arange(0, 2**32, step, dtype=np.uint32).view(np.float32)
    return x[np.isfinite(x)]


def apply(function: str, x: Array) -> Array:
    y = np.empty_like(x)
    FUNCTIONS[function][0](x, y)
    return y


@pytest.mark.parametrize("function", FUNCTIONS)
def test_within_four_units_in_the_last_place(function: str) -> None:
    x = np.concatenate([every(1021), np.linspace(-89, 89, 1_000_003, dtype=np.float32)])
    with np.errstate(over="ignore"):
        want = FUNCTIONS[function][1](x.astype(np.float64))
    got = apply(function, x).astype(np.float64)
    smallest = float(np.finfo(np.float32).tiny)  # what is smaller may be flushed to zero
    error = np.abs(got - want) / np.spacing(np.maximum(np.abs(want), smallest).astype(np.float32))
    normal = np.abs(want) >= smallest
    assert error[normal].max() <= BOUND
    assert (np.abs(got[~normal]) <= smallest).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_number_gives_nan(function: str) -> None:
    # From here on exp(x) is below the smallest normal float32, and the bits of its scale become those of zero.
    edge = np.linspace(-88.8, -87.2, 200_001, dtype=np.float32)
    assert np.isfinite(apply(function, edge)).all()


def test_limits() -> None:
    x = np.array([0, -0.0, np.inf, -np.inf, 1e30, -1e30, np.nan], np.float32)
    assert apply("sigmoid", x)[:6].tolist() == [0.5, 0.5, 1, 0, 1, 0]
    assert apply("tanh", x)[:6].tolist() == [0, 0, 1, -1, 1, -1]
    assert np.isnan([apply("sigmoid", x)[6], apply("tanh", x)[6]]).all()
