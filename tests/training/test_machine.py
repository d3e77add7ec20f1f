"""What the machine does not have is told by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from conveyor.errors import ConveyorError
from conveyor.training import machine


@pytest.mark.parametrize(("device", "backend"), [("cuda", torch.cuda), ("mps", torch.backends.mps)])
def test_device(device: str, backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "is_available", lambda: True)
    machine.check_device(device)
    monkeypatch.setattr(backend, "is_available", lambda: False)
    with pytest.raises(ConveyorError, match=rf"^\[train\] --device {device}: torch finds no such device here"):
        machine.check_device(device)
    machine.check_device("auto")


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Linear(1024, 1024, bias=False, device="meta")  # 4 MiB, and 4 MiB of gradients
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 2048, "SC_PAGE_SIZE": 4096}.get)
    machine.check_memory(network)
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 2047, "SC_PAGE_SIZE": 4096}.get)
    with pytest.raises(ConveyorError, match=r"^\[train\] the network's weights and gradients: expected at most the 0 "):
        machine.check_memory(network)


def test_matmul_precision() -> None:
    """Products in bfloat16 are off by its rounding at most, and only within; where no unit has it, by nothing."""
    torch.manual_seed(1)
    x, linear = torch.randn(64, 300), nn.Linear(300, 200, bias=False)
    exact = linear(x)
    with machine.matmul_precision("medium"):
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        near = linear(x)
        with machine.matmul_precision("highest"):
            assert torch.equal(linear(x), exact)
    assert torch.equal(linear(x), exact)
    assert (near - exact).abs().max() < 2**-8 * (x.abs() @ linear.weight.abs().T).max()
