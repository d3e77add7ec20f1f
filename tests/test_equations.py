"""The equations against a calculation by hand, `torch.nn` and finite differences, all in float64."""

from collections.abc import Callable
from functools import partial
from math import log, tanh

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from conveyor.equations import Weights, gru, gru_step, lstm, lstm_step, rnn, rnn_step

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
    if module.bias:
        return [Weights(*tensors) for tensors in module.all_weights]
    return [Weights(w_ih, w_hh, None, None, *w_hr) for w_ih, w_hh, *w_hr in module.all_weights]


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


def test_one_gru_unit_by_hand() -> None:
    # r = σ(ln 3) = 3/4, z = σ(-ln 3) = 1/4, n = tanh(0.2 + 0.3 + 0.75 (0.4 - 0.1)) of unequal parts
    w_ih, w_hh = column(0.5 * log(3), -0.5 * log(3), 0.1), column(0, 0, 0.1)
    weights = Weights(w_ih, w_hh, column(0, 0, 0.3).flatten(), column(0, 0, -0.1).flatten())
    n = tanh(0.2 + 0.3 + 0.75 * (0.4 - 0.1))
    assert gru_step(column(2), column(4), weights).item() == pytest.approx(0.75 * n + 0.25 * 4, rel=1e-14)


@pytest.mark.parametrize("P", [0, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("T", "B", "I", "H"), SIZES[1:])
def test_lstm_is_torchs(T: int, B: int, I: int, H: int, bias: bool, P: int, agree: Agree) -> None:
    module = nn.LSTM(I, H, bias=bias, bidirectional=True, proj_size=P).double()
    input, h_0, c_0 = random(T, B, I), random(2, B, P or H), random(2, B, H)
    output, (h_n, c_n) = module(input, (h_0, c_0))
    inputs = [input, h_0, c_0, *module.parameters()]
    want = [output, h_n, c_n, *gradients([output, h_n, c_n], inputs)]
    both = [lstm(input, h_0[d], c_0[d], w, reverse=d == 1) for d, w in enumerate(weights(module))]
    outputs, h_n, c_n, _ = zip(*both, strict=True)
    got = [torch.cat(outputs, dim=-1), torch.stack(h_n), torch.stack(c_n)]
    for mine, torchs in zip([*got, *gradients(got, inputs)], want, strict=True):
        agree(mine, torchs)


OTHERS = {
    "tanh": (nn.RNN, rnn, {}),
    "relu": (nn.RNN, rnn, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, gru, {}),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", OTHERS)
@pytest.mark.parametrize(("T", "B", "I", "H"), SIZES)
def test_rnn_and_gru_are_torchs(T: int, B: int, I: int, H: int, cell: str, bias: bool, agree: Agree) -> None:
    kind, ours, options = OTHERS[cell]
    module = kind(I, H, bias=bias, bidirectional=True, **options).double()
    input, h_0 = random(T, B, I), random(2, B, H)
    output, h_n = module(input, h_0)
    inputs = [input, h_0, *module.parameters()]
    want = [output, h_n, *gradients([output, h_n], inputs)]
    both = [ours(input, h_0[d], w, **options, reverse=d == 1) for d, w in enumerate(weights(module))]
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


LENGTHS = torch.tensor([6, 0, 3, 1])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cut", ["lengths", "resets", "both"])
def test_lengths_and_resets_by_single_steps(cut: str, reverse: bool) -> None:
    """Each row by itself, a step at a time, in the words of the contract."""
    w = weights(nn.LSTM(3, 5, proj_size=2).double())[0]
    input, h_0, c_0 = random(6, 4, 3), random(4, 2), random(4, 5)
    lengths = LENGTHS if cut != "resets" else torch.full((4,), 6)
    resets = torch.rand(6, 4) < (0.4 if cut != "lengths" else 0)
    output, h_n, c_n, gates = lstm(
        input, h_0, c_0, w, reverse=reverse,
        lengths=None if cut == "resets" else lengths, resets=None if cut == "lengths" else resets,
    )  # fmt: skip
    for b, length in enumerate(lengths):
        h, c = h_0[b], c_0[b]
        for t in reversed(range(length)) if reverse else range(length):
            if resets[t, b] and not reverse:
                h, c = torch.zeros_like(h), torch.zeros_like(c)
            h, (*shown, c) = lstm_step(input[t, b], h, c, w)
            torch.testing.assert_close(output[t, b], h)
            for gate, value in zip(gates, (*shown, c), strict=True):
                torch.testing.assert_close(gate[t, b], value)
            if resets[t, b] and reverse:
                h, c = torch.zeros_like(h), torch.zeros_like(c)
        torch.testing.assert_close(h_n[b], h)
        torch.testing.assert_close(c_n[b], c)
        assert not any(t[length:, b].any() for t in (output, *gates))


def test_nan_past_the_end_stays_there(agree: Agree) -> None:
    module = nn.GRU(3, 5).double()
    input, h_0 = random(6, 4, 3), random(4, 5)
    past = (torch.arange(6).unsqueeze(1) >= LENGTHS).unsqueeze(2)
    broken = torch.where(past, torch.nan, input.detach()).requires_grad_()
    found = []
    for x in (input, broken):
        output, h_n = gru(x, h_0, weights(module)[0], lengths=LENGTHS)
        found.append([output, h_n, *gradients([output, h_n], [x, h_0, *module.parameters()])])
    for clean, broken in zip(*found, strict=True):
        agree(broken, clean)


CUTS = [{}, {"lengths": torch.tensor([3, 1]), "resets": torch.tensor([[False, True], [True, False], [False, False]])}]


@pytest.mark.parametrize("cut", CUTS, ids=["whole", "cut"])
@pytest.mark.parametrize("check", [gradcheck, partial(gradgradcheck, fast_mode=True)], ids=["first", "second"])
@pytest.mark.parametrize("reverse", [False, True])
def test_derivatives_are_those_of_finite_differences(check: Callable[..., bool], reverse: bool, cut: dict) -> None:
    T, B, I, H, P = 3, 2, 2, 3, 2
    x, h, c = random(T, B, I), random(B, H), random(B, H)
    options = {"reverse": reverse, **cut}
    four, three, one = ([random(G * H, I), random(G * H, H), random(G * H), random(G * H)] for G in (4, 3, 1))
    assert check(lambda x, h, c, *w: lstm(x, h, c, Weights(*w), **options)[:3], (x, h, c, *four))
    assert check(lambda x, h, c, *w: tuple(lstm(x, h, c, Weights(*w), **options)[3]), (x, h, c, *four))
    assert check(lambda x, h, *w: gru(x, h, Weights(*w), **options), (x, h, *three))
    assert check(lambda x, h, *w: rnn(x, h, Weights(*w), **options), (x, h, *one))
    assert check(lambda x, h, *w: rnn(x, h, Weights(*w), "relu", **options), (x, h, *one))
    projected = [random(4 * H, I), random(4 * H, P), random(4 * H), random(4 * H), random(P, H)]
    assert check(lambda x, h, c, *w: lstm(x, h, c, Weights(*w), **options)[:3], (x, random(B, P), c, *projected))
