"""The equations against a calculation by hand, `torch.nn` and finite differences, all in float64."""

from collections.abc import Callable
from math import log, tanh

import pytest
import torch
from torch import Tensor, nn

from conveyor.equations import Weights, lstm, lstm_step, rnn, rnn_step

Agree = Callable[[Tensor, Tensor], None]
SIZES = [(1, 1, 1, 1), (1, 3, 2, 5), (7, 1, 5, 3), (6, 4, 3, 5)]  # T, B, I, H


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def weights(module: nn.RNNBase) -> list[Weights]:
    """One tuple for each direction of the module's only layer."""
    return [Weights(*tensors) for tensors in module.all_weights]


def gradients(outputs: list[Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(y.shape, dtype=y.dtype, generator=generator) for y in outputs]
    return torch.autograd.grad(outputs, inputs, cotangents)


def test_one_lstm_unit_by_hand() -> None:
    # σ(ln 3) = 3/4, σ(-ln 3) = 1/4, σ(ln 7) = 7/8, tanh(ln 2) = 3/5, each net input the sum of four unequal parts
    net = column(log(3), -log(3), log(2), log(7))
    parts = Weights(0.1 * net / 2, 0.2 * net / -3, 0.3 * net.flatten(), 0.4 * net.flatten())
    c = column((log(2) - 0.75 * 0.6) / 0.25)  # so that the next c is ln 2
    h, gates = lstm_step(column(2), column(-3), c, parts)
    assert [gate.item() for gate in gates] == pytest.approx([0.75, 0.25, 0.6, 0.875, log(2)], rel=1e-14)
    assert h.item() == pytest.approx(0.875 * 0.6, rel=1e-14)


def test_one_rnn_unit_by_hand() -> None:
    parts = Weights(column(0.5), column(0.25), column(0.125).flatten(), column(-0.375).flatten())
    x, h = column(-2), column(-3)  # ±(1 + 0.75) + 0.125 - 0.375
    assert rnn_step(x, h, parts).item() == pytest.approx(tanh(-2), rel=1e-14)
    assert rnn_step(x, h, parts, "relu").item() == 0
    assert rnn_step(-x, -h, parts, "relu").item() == 1.5


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("T", "B", "I", "H"), SIZES)
def test_lstm_is_torchs(T: int, B: int, I: int, H: int, bias: bool, agree: Agree) -> None:
    module = nn.LSTM(I, H, bias=bias, bidirectional=True).double()
    input, h_0, c_0 = random(T, B, I), random(2, B, H), random(2, B, H)
    output, (h_n, c_n) = module(input, (h_0, c_0))
    inputs = [input, h_0, c_0, *module.parameters()]
    want = [output, h_n, c_n, *gradients([output, h_n, c_n], inputs)]
    both = [lstm(input, h_0[d], c_0[d], w, reverse=d == 1) for d, w in enumerate(weights(module))]
    outputs, h_n, c_n, _ = zip(*both, strict=True)
    got = [torch.cat(outputs, dim=-1), torch.stack(h_n), torch.stack(c_n)]
    for mine, torchs in zip([*got, *gradients(got, inputs)], want, strict=True):
        agree(mine, torchs)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize(("T", "B", "I", "H"), SIZES)
def test_rnn_is_torchs(T: int, B: int, I: int, H: int, nonlinearity: str, agree: Agree) -> None:
    module = nn.RNN(I, H, nonlinearity=nonlinearity, bidirectional=True).double()
    input, h_0 = random(T, B, I), random(2, B, H)
    output, h_n = module(input, h_0)
    inputs = [input, h_0, *module.parameters()]
    want = [output, h_n, *gradients([output, h_n], inputs)]
    both = [rnn(input, h_0[d], w, nonlinearity, reverse=d == 1) for d, w in enumerate(weights(module))]
    outputs, h_n = zip(*both, strict=True)
    got = [torch.cat(outputs, dim=-1), torch.stack(h_n)]
    for mine, torchs in zip([*got, *gradients(got, inputs)], want, strict=True):
        agree(mine, torchs)


@pytest.mark.parametrize("reverse", [False, True])
def test_gates_are_those_of_the_run(reverse: bool, agree: Agree) -> None:
    module = nn.LSTM(3, 5).double()
    input, h_0, c_0 = random(6, 4, 3), random(4, 5), random(4, 5)
    output, _, c_n, (i, f, g, o, c) = lstm(input, h_0, c_0, weights(module)[0], reverse=reverse)
    before = torch.cat([c[1:], c_0[None]]) if reverse else torch.cat([c_0[None], c[:-1]])
    agree(c, f * before + i * g)
    agree(output, o * c.tanh())
    agree(c[0 if reverse else -1], c_n)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@pytest.mark.parametrize("reverse", [False, True])
def test_derivatives_are_those_of_finite_differences(check: Callable[..., bool], reverse: bool) -> None:
    T, B, I, H = 3, 2, 2, 3
    states = random(T, B, I), random(B, H), random(B, H)
    four, one = ([random(G * H, I), random(G * H, H), random(G * H), random(G * H)] for G in (4, 1))
    assert check(lambda x, h, c, *w: lstm(x, h, c, Weights(*w), reverse=reverse)[:3], (*states, *four))
    assert check(lambda x, h, c, *w: tuple(lstm(x, h, c, Weights(*w), reverse=reverse)[3]), (*states, *four))
    assert check(lambda x, h, *w: rnn(x, h, Weights(*w), reverse=reverse), (*states[:2], *one))
    assert check(lambda x, h, *w: rnn(x, h, Weights(*w), "relu", reverse=reverse), (*states[:2], *one))
