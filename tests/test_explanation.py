"""What a call will run on, told before it runs."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import conveyor
from conveyor import LSTM, _kernels, explain


def test_each_layer_of_a_model_is_told_by_its_name() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below = conveyor.LSTM(3, 8, num_layers=2, checkpoint_every=5)
            self.above = conveyor.GRU(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.above(self.below(x)[0])[0]
            return output

    told = explain(Model(), torch.randn(5, 2, 3))
    assert [(call.module, call.cell) for call in told] == [("below", "lstm"), ("below", "lstm"), ("above", "gru")]
    assert all((call.path, call.isa, call.reason) == ("kernels", _kernels.isa(), None) for call in told)
    assert "5th tick" in told[0].keeps
    assert "every step" in told[2].keeps
    assert len(str(told).splitlines()) == 3
    with torch.no_grad():
        assert explain(Model(), torch.randn(5, 2, 3))[0].keeps == "nothing"


def test_what_takes_a_call_off_the_kernels() -> None:
    lstm, x = conveyor.LSTM(3, 8), torch.randn(5, 2, 3)
    assert explain(lstm, x)[0].reason is None
    assert "float64" in str(explain(lstm.double(), x.double()))
    with torch.autograd.forward_ad.dual_level():
        assert "forward-mode" in str(explain(lstm.float(), x))


@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_packed_sequences(dtype: torch.dtype, enforce_sorted: bool) -> None:
    packed = pack_padded_sequence(torch.randn(5, 2, 3, dtype=dtype), [5, 3], enforce_sorted=enforce_sorted)
    (call,) = explain(conveyor.LSTM(3, 8, dtype=dtype), packed)
    assert (call.path, call.dtype) == ("kernels" if dtype is torch.float32 else "equations", dtype)


def test_a_model_that_packs_inside() -> None:
    """It has to be run, since the shapes depend on the lengths; that changes nothing."""

    class Packs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop, self.lstm = nn.BatchNorm1d(3), nn.Dropout(), LSTM(3, 4)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            x = self.drop(self.norm(x.transpose(1, 2)).transpose(1, 2))
            return pad_packed_sequence(self.lstm(pack_padded_sequence(x, lengths, enforce_sorted=False))[0])[0]

    model, x = Packs(), torch.randn(6, 2, 3)
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    (call,) = explain(model, x, torch.tensor([2, 6]))
    assert (call.module, call.path) == ("lstm", "kernels")
    assert torch.equal(torch.get_rng_state(), drawn)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("lengths", [[5, 3], torch.tensor([5, 3])], ids=["list", "tensor"])
def test_lengths(lengths: Any) -> None:
    """Which have no values here."""
    for module in (conveyor.LSTM(3, 8), conveyor.GRU(3, 8)):
        assert explain(module, torch.randn(5, 2, 3), lengths=lengths)[0].path == "kernels"
        wide = explain(module.double(), torch.randn(5, 2, 3).double(), lengths=lengths)
        assert wide[0].path == "equations"


def test_under_transforms() -> None:
    lstm, x, told = conveyor.LSTM(3, 8), torch.randn(4, 5, 2, 3), []

    def run(x: torch.Tensor) -> torch.Tensor:
        told.extend(explain(lstm, x))
        return x.sum()

    jvp(run, (x[0],), (x[0],))
    grad(run)(x[0])
    vmap(run)(x)
    assert [call.path for call in told] == ["equations", "kernels", "kernels"]
    assert "forward-mode" in str(told[0])


def test_what_is_no_module() -> None:
    with pytest.raises(TypeError, match=r"^\[explain\] module: expected a torch\.nn\.Module, got int$"):
        explain(3, torch.randn(5, 2, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(("sizes", "threads"), [((2, 1, 3, 4), 1), ((100, 64, 256, 256), 2)])
def test_threads(sizes: tuple[int, ...], threads: int) -> None:
    T, B, I, H = sizes
    conveyor.set_num_threads(2)
    try:
        assert explain(conveyor.LSTM(I, H), torch.randn(T, B, I))[0].threads == threads
    finally:
        conveyor.set_num_threads(None)


def test_nothing_is_computed_or_left_behind() -> None:
    """The numbers would take minutes; and no hook stays."""
    lstm = conveyor.LSTM(2000, 2000)
    assert explain(lstm, torch.empty(1, 1, 2000).expand(100_000, 64, 2000))[0].path == "kernels"
    assert not lstm._forward_hooks
    assert not lstm._forward_pre_hooks


def test_bfloat16() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        (call,) = explain(conveyor.LSTM(3, 4), torch.randn(5, 2, 3))
    assert (call.path, call.dtype) == ("kernels", torch.bfloat16)


def test_a_model_without_a_layer() -> None:
    assert str(explain(nn.Linear(3, 4), torch.randn(2, 3))) == "no layer of Conveyor's runs here"
