"""The gates that an LSTM returns, against the equations, and the derivatives through them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from conveyor import equations
from conveyor.equations import Gates, Weights
from conveyor.nn import LSTM

Agree = Callable[[Tensor, Tensor], None]
T, B, I, H = 6, 3, 5, 4
CUTS: dict[str, dict[str, Any]] = {
    "whole": {},
    "lengths": {"lengths": torch.tensor([2, 0, 6])},
    "resets": {"resets": torch.arange(T * B).reshape(T, B) % 4 == 0},
}
CUTS["both"] = CUTS["lengths"] | CUTS["resets"]


def by_equations(lstm: LSTM, x: Tensor, hx: tuple[Tensor, Tensor], **cuts: Any) -> list[Gates]:
    """Layer by layer, one direction after the other, in float64."""
    found = []
    for layer in range(lstm.num_layers):
        outputs = []
        for d in range(2):
            n = 2 * layer + d
            weights = Weights(*(w.double() for w in lstm.all_weights[n]))
            output, *_, gates = equations.lstm(x, hx[0][n], hx[1][n], weights, reverse=d == 1, **cuts)
            outputs.append(output)
            found.append(gates)
        x = torch.cat(outputs, dim=-1)
    return found


@pytest.fixture(params=[0, 2], ids=["", "projected"])
def lstm(request: pytest.FixtureRequest) -> LSTM:
    torch.manual_seed(0)
    return LSTM(I, H, num_layers=2, bidirectional=True, proj_size=request.param)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("training", [True, False])
def test_gates_are_those_of_the_equations(
    lstm: LSTM, states: Any, run: Any, cut: str, training: bool, agree: Agree
) -> None:
    input, hx = torch.randn(T, B, I), states(lstm)
    with torch.set_grad_enabled(training):
        output, last, gates = lstm(input, hx, return_gates=True, **CUTS[cut])
    want = by_equations(lstm, input.double(), tuple(s.double() for s in hx), **CUTS[cut])
    assert len(gates) == 4
    for mine, witness in zip(gates, want, strict=True):
        assert isinstance(mine, Gates)
        for gate, value in zip(mine, witness, strict=True):
            agree(gate, value.detach())
    plain = lstm(input, hx, **CUTS[cut])
    agree(output, plain[0].double())
    for mine, witness in zip(last, plain[1], strict=True):
        agree(mine, witness.double())


@pytest.mark.parametrize("cut", CUTS)
def test_gradients_go_through_every_gate(lstm: LSTM, states: Any, run: Any, cut: str, agree: Agree) -> None:
    input, hx = torch.randn(T, B, I), states(lstm)

    def ours(module: LSTM, input: Tensor, hx: Any) -> Any:
        return [list(gates) for gates in module(input, hx, return_gates=True, **CUTS[cut])[2]]

    def equation(module: LSTM, input: Tensor, hx: Any) -> Any:
        return [list(gates) for gates in by_equations(module, input, hx, **CUTS[cut])]

    got = run(lstm, input, hx, dtype=torch.float32, by=ours)
    want = run(lstm, input, hx, dtype=torch.float64, by=equation)
    for mine, witness in zip(got, want, strict=True):
        agree(mine, witness)


def test_gates_lie_as_the_input_does(lstm: LSTM, agree: Agree) -> None:
    input = torch.randn(T, B, I)
    want = lstm(input, return_gates=True)[2]
    lstm.batch_first = True
    turned = lstm(input.transpose(0, 1), return_gates=True)[2]
    single = lstm(input[:, 1], return_gates=True)[2]
    for whole, first, one in zip(want, turned, single, strict=True):
        for gate, other, row in zip(whole, first, one, strict=True):
            agree(other, gate.detach().double().transpose(0, 1))
            agree(row, gate[:, 1].detach().double())


def test_gates_are_views_of_one_tensor(lstm: LSTM) -> None:
    gates = lstm(torch.randn(T, B, I), return_gates=True)[2][0]
    owners = {gate.untyped_storage().data_ptr() for gate in gates[:4]}
    assert len(owners) == 1
