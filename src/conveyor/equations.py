"""The cells as their papers write them, in plain torch, one short function each.

This file says what the kernels compute, is the oracle they are tested against, and is the path taken on every
device and dtype they do not serve. All of it is differentiable to any order.

Shapes: `x` [B, I] is one step and `input` [T, B, I] a sequence; `h`, `c` and the gates are [B, H] at one
step and [T, B, H] over a sequence. Weights are laid out as in torch: the gates stacked along the first
dimension, for the LSTM in the order i, f, g, o.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import linear

Weights: TypeAlias = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""One layer and direction: w_ih [G*H, I], w_hh [G*H, H], b_ih [G*H] or None, b_hh [G*H] or None."""

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}


class Gates(NamedTuple):
    """What an LSTM did at one step, each [B, H], or over a sequence, each [T, B, H].

    i: how much of the candidate is put on the belt; f: how much of the belt is kept; g: the candidate;
    o: how much of the belt is shown; c: the belt itself, after the step.
    """

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    c: Tensor


def rnn_step(x: Tensor, h: Tensor, weights: Weights, nonlinearity: str = "tanh") -> Tensor:
    """One step of the simple recurrent network: the new h [B, H].

        h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)

    Elman, "Finding Structure in Time", Cognitive Science 14 (1990), figure 2: the context units hold h_{t-1}.
    `nonlinearity` "relu" puts max(0, ·) in the place of tanh.

    >>> x, h = torch.randn(2, 3), torch.zeros(2, 4)
    >>> rnn_step(x, h, (torch.randn(4, 3), torch.randn(4, 4), None, None)).shape
    torch.Size([2, 4])
    """
    w_ih, w_hh, b_ih, b_hh = weights
    return NONLINEARITIES[nonlinearity](linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh))


def rnn(
    input: Tensor, h_0: Tensor, weights: Weights, nonlinearity: str = "tanh", *, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """`rnn_step` over a sequence: output [T, B, H] and h_n [B, H].

    `reverse` runs from the last step to the first: output[t] has seen input[t:], and h_n is output[0].

    >>> weights = (torch.randn(4, 3), torch.randn(4, 4), None, None)
    >>> output, h_n = rnn(torch.randn(5, 2, 3), torch.zeros(2, 4), weights)
    >>> torch.equal(output[-1], h_n)
    True
    """
    h, outputs = h_0, []
    for x in _in_time(input.unbind(0), reverse):
        h = rnn_step(x, h, weights, nonlinearity)
        outputs.append(h)
    return torch.stack(_in_time(outputs, reverse)), h


def lstm_step(x: Tensor, h: Tensor, c: Tensor, weights: Weights) -> tuple[Tensor, Gates]:
    """One step of the LSTM: the new h [B, H], and the gates, of which the last is the new c.

        i_t = σ(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)       (7)
        f_t = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf)       the forget gate of 2000
        g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)    (9), net input and g
        o_t = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho)       (8)
        c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t                      (9), internal state; f_t = 1 in 1997
        h_t = o_t ⊙ tanh(c_t)                                (9), output

    Numbers: Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8) (1997), appendix A.1,
    which writes y^in, y^out, s for i, o, c, and squashes by g = 4σ - 2 and h = 2σ - 1, (5) and (4), where now
    both are tanh. f: Gers, Schmidhuber & Cummins, "Learning to Forget: Continual Prediction with LSTM",
    Neural Computation 12(10) (2000), section 3.1.

    >>> x, h, c = torch.randn(2, 3), torch.zeros(2, 4), torch.zeros(2, 4)
    >>> h, gates = lstm_step(x, h, c, (torch.randn(16, 3), torch.randn(16, 4), None, None))
    >>> torch.equal(h, gates.o * gates.c.tanh())
    True
    """
    w_ih, w_hh, b_ih, b_hh = weights
    i, f, g, o = (linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)).chunk(4, dim=-1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + i * g
    h = o * c.tanh()
    return h, Gates(i, f, g, o, c)


def lstm(
    input: Tensor, h_0: Tensor, c_0: Tensor, weights: Weights, *, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """`lstm_step` over a sequence: output [T, B, H], h_n [B, H], c_n [B, H].

    `reverse` runs from the last step to the first: output[t] has seen input[t:], and h_n is output[0].

    >>> weights = (torch.randn(16, 3), torch.randn(16, 4), None, None)
    >>> output, h_n, c_n = lstm(torch.randn(5, 2, 3), torch.zeros(2, 4), torch.zeros(2, 4), weights)
    >>> torch.equal(output[-1], h_n)
    True
    """
    h, c, outputs = h_0, c_0, []
    for x in _in_time(input.unbind(0), reverse):
        h, (*_, c) = lstm_step(x, h, c, weights)
        outputs.append(h)
    return torch.stack(_in_time(outputs, reverse)), h, c


def lstm_gates(input: Tensor, h_0: Tensor, c_0: Tensor, weights: Weights, *, reverse: bool = False) -> Gates:
    """What the LSTM did at every step of a sequence, each [T, B, H]. Its output is o ⊙ tanh(c).

    >>> weights = (torch.randn(16, 3), torch.randn(16, 4), None, None)
    >>> lstm_gates(torch.randn(5, 2, 3), torch.zeros(2, 4), torch.zeros(2, 4), weights).f.shape
    torch.Size([5, 2, 4])
    """
    h, c, steps = h_0, c_0, []
    for x in _in_time(input.unbind(0), reverse):
        h, gates = lstm_step(x, h, c, weights)
        c = gates.c
        steps.append(gates)
    return Gates(*(torch.stack(_in_time(gate, reverse)) for gate in zip(*steps, strict=True)))


def _in_time(steps: Sequence[Tensor], reverse: bool) -> list[Tensor]:
    """Steps in the order they are computed; applied again, in the order they are returned."""
    return list(reversed(steps)) if reverse else list(steps)
