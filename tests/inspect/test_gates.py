"""The recorder, with the layers themselves as witnesses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from conveyor.inspect import gates as gates_of
from conveyor.nn import LSTM

Agree = Callable[[Tensor, Tensor], None]
T, B, I, H = 6, 3, 5, 4


@pytest.mark.parametrize("given", [False, True], ids=["no states", "states"])
@pytest.mark.parametrize("batch", ["time first", "batch first", "single"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [LSTM, nn.LSTM])
def test_gates_are_those_of_every_layer_and_direction(
    kind: Any, bias: bool, batch: str, given: bool, agree: Agree
) -> None:
    torch.manual_seed(0)
    first = batch == "batch first"
    lstm = kind(I, H, 3, bias=bias, batch_first=first, bidirectional=True, dropout=0.5).double()
    shape = {"time first": (T, B, I), "batch first": (B, T, I), "single": (T, I)}[batch]
    input = torch.randn(shape, dtype=torch.float64)
    state = (6, H) if batch == "single" else (6, B, H)
    hx = (torch.randn(state).double(), torch.randn(state).double()) if given else None
    recorded = gates_of(lstm, input, hx)  # in training mode: the recorder drops nothing out
    output, (h_n, c_n) = lstm.eval()(input, hx)
    assert len(recorded) == 6
    for number, (i, f, g, o, c) in enumerate(recorded):
        assert i.shape == f.shape == g.shape == (T, 1 if batch == "single" else B, H)
        last = 0 if number % 2 else -1
        agree(c[last].reshape(c_n[number].shape), c_n[number])
        agree((o * c.tanh())[last].reshape(h_n[number].shape), h_n[number])
    shown = torch.cat([gates.o * gates.c.tanh() for gates in recorded[-2:]], dim=-1)
    agree(shown.transpose(0, 1) if first else shown.reshape(output.shape), output)


def test_nothing_is_kept_for_a_backward_pass() -> None:
    gates = gates_of(LSTM(I, H), torch.randn(T, B, I, requires_grad=True))[0]
    assert not any(gate.requires_grad for gate in gates)


def test_the_module_stays_as_it_is(agree: Agree) -> None:
    """In training, and torch's own; a subclass of torch's, or one with parametrized weights, is read as well."""

    class Special(nn.LSTM):
        pass

    torch.manual_seed(0)
    special = weight_norm(Special(I, H, 2, proj_size=2, dropout=0.5), "weight_hh_l0")
    special.parametrizations.weight_hh_l0.original0.data.mul_(2)
    plain = LSTM(I, H, 2, proj_size=2, dropout=0.5)
    input = torch.randn(T, B, I)
    for lstm in (special, plain):
        kind, recorded = type(lstm), gates_of(lstm, input)
        assert lstm.training
        assert type(lstm) is kind
        _, (_, c_n) = lstm.double().eval()(input.double())
        for number, gates in enumerate(recorded):
            agree(gates.c[-1], c_n[number].detach())
