"""The cells as their papers write them, in plain torch, one short function each.

This file says what the kernels compute, is the oracle they are tested against, and is the path taken on every
device and dtype they do not serve. All of it is differentiable to any order, forward and backward.

Shapes: `x` [B, I] is one step and `input` [T, B, I] a sequence; `h`, `c` and the gates are [B, H] at one
step and [T, B, H] over a sequence. Weights are laid out as in torch: the gates stacked along the first
dimension, for the LSTM in the order i, f, g, o, for the GRU r, z, n.

Over a sequence all cells take the same three options:

- `reverse` runs from the last step to the first: output[t] has seen input[t:], and h_n is the state after step 0.
- `lengths` [B], int64: row b has the steps t < lengths[b]. Past them output and gates are zero, the state stays as
  it is, and nothing takes a gradient; `reverse` starts at the row's own last step. A row of length 0 keeps its
  initial state.
- `resets` [T, B], bool: the state of row b is zero before step t where resets[t, b]; with `reverse` after step t,
  h_n included, so that both directions see the same segments. At t >= lengths[b] they change nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}


class Weights(NamedTuple):
    """One layer and direction, of G gates: w_ih [G*H, I], w_hh [G*H, H], b_ih and b_hh [G*H] or None.

    w_hr [P, H], of the LSTM alone: the projection of the output, after which h is [B, P] and w_hh [4*H, P].
    """

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    w_hr: Tensor | None = None

    def to(self, dtype: torch.dtype) -> "Weights":
        """The same in another precision."""
        b_ih, b_hh, w_hr = (None if w is None else w.to(dtype) for w in self[2:])
        return Weights(self.w_ih.to(dtype), self.w_hh.to(dtype), b_ih, b_hh, w_hr)


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
    >>> rnn_step(x, h, Weights(torch.randn(4, 3), torch.randn(4, 4))).shape
    torch.Size([2, 4])
    """
    w_ih, w_hh, b_ih, b_hh, _ = weights
    return NONLINEARITIES[nonlinearity](linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh))


def rnn(
    input: Tensor, h_0: Tensor, weights: Weights, nonlinearity: str = "tanh", *,
    reverse: bool = False, lengths: Tensor | None = None, resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`rnn_step` over a sequence: output [T, B, H] and h_n [B, H].

    >>> weights = Weights(torch.randn(4, 3), torch.randn(4, 4))
    >>> output, h_n = rnn(torch.randn(5, 2, 3), torch.zeros(2, 4), weights, lengths=torch.tensor([5, 3]))
    >>> torch.equal(h_n, torch.stack([output[4, 0], output[2, 1]]))
    True
    """

    def step(x: Tensor, h: Tensor) -> tuple[tuple[Tensor], tuple[Tensor]]:
        h = rnn_step(x, h, weights, nonlinearity)
        return (h,), (h,)

    (output,), (h_n,) = _over_time(step, input, (h_0,), reverse, lengths, resets)
    return output, h_n


def gru_step(x: Tensor, h: Tensor, weights: Weights) -> Tensor:
    """One step of the gated recurrent unit: the new h [B, H].

        r_t = σ(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)                 (5)
        z_t = σ(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)                 (6)
        n_t = tanh(W_in x_t + b_in + r_t ⊙ (W_hn h_{t-1} + b_hn))      (8)
        h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}                          (7)

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (2014), section 2.3. There r_t meets
    h_{t-1} before the product, and there are no biases; (8) is torch's form, in which it meets the product.

    >>> x, h = torch.randn(2, 3), torch.zeros(2, 4)
    >>> gru_step(x, h, Weights(torch.randn(12, 3), torch.randn(12, 4))).shape
    torch.Size([2, 4])
    """
    w_ih, w_hh, b_ih, b_hh, _ = weights
    r_x, z_x, n_x = linear(x, w_ih, b_ih).chunk(3, dim=-1)
    r_h, z_h, n_h = linear(h, w_hh, b_hh).chunk(3, dim=-1)
    r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
    n = (n_x + r * n_h).tanh()
    return (1 - z) * n + z * h


def gru(
    input: Tensor, h_0: Tensor, weights: Weights, *,
    reverse: bool = False, lengths: Tensor | None = None, resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`gru_step` over a sequence: output [T, B, H] and h_n [B, H].

    >>> weights = Weights(torch.randn(12, 3), torch.randn(12, 4))
    >>> output, h_n = gru(torch.randn(5, 2, 3), torch.zeros(2, 4), weights, reverse=True)
    >>> torch.equal(output[0], h_n)
    True
    """

    def step(x: Tensor, h: Tensor) -> tuple[tuple[Tensor], tuple[Tensor]]:
        h = gru_step(x, h, weights)
        return (h,), (h,)

    (output,), (h_n,) = _over_time(step, input, (h_0,), reverse, lengths, resets)
    return output, h_n


def lstm_step(x: Tensor, h: Tensor, c: Tensor, weights: Weights) -> tuple[Tensor, Gates]:
    """One step of the LSTM: the new h [B, H], and the gates, of which the last is the new c.

        i_t = σ(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)       (7)
        f_t = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf)       the forget gate of 2000
        g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)    (9), net input and g
        o_t = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho)       (8)
        c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t                      (9), internal state; f_t = 1 in 1997
        h_t = o_t ⊙ tanh(c_t)                                (9), output
        h_t = W_hr (o_t ⊙ tanh(c_t))                         instead, with a projection: h is [B, P]

    Numbers: Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8) (1997), appendix A.1,
    which writes y^in, y^out, s for i, o, c, and squashes by g = 4σ - 2 and h = 2σ - 1, (5) and (4), where now
    both are tanh. f: Gers, Schmidhuber & Cummins, "Learning to Forget: Continual Prediction with LSTM",
    Neural Computation 12(10) (2000), section 3.1. W_hr: Sak, Senior & Beaufays, "Long Short-Term Memory Based
    Recurrent Neural Network Architectures for Large Vocabulary Speech Recognition" (2014), (12), without peepholes.

    >>> x, h, c = torch.randn(2, 3), torch.zeros(2, 4), torch.zeros(2, 4)
    >>> h, gates = lstm_step(x, h, c, Weights(torch.randn(16, 3), torch.randn(16, 4)))
    >>> torch.equal(h, gates.o * gates.c.tanh())
    True
    """
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    i, f, g, o = (linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)).chunk(4, dim=-1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + i * g
    h = o * c.tanh()
    return h if w_hr is None else linear(h, w_hr), Gates(i, f, g, o, c)


def lstm(
    input: Tensor, h_0: Tensor, c_0: Tensor, weights: Weights, *,
    reverse: bool = False, lengths: Tensor | None = None, resets: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Gates]:  # fmt: skip
    """`lstm_step` over a sequence: output [T, B, H], h_n [B, H], c_n [B, H], and the gates, each [T, B, H].

    >>> weights = Weights(torch.randn(16, 3), torch.randn(16, 4))
    >>> output, h_n, c_n, gates = lstm(torch.randn(5, 2, 3), torch.zeros(2, 4), torch.zeros(2, 4), weights)
    >>> torch.equal(output[-1], h_n), torch.equal(gates.c[-1], c_n)
    (True, True)
    """

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        h, gates = lstm_step(x, h, c, weights)
        return (h, gates.c), (h, *gates)

    (output, *gates), (h_n, c_n) = _over_time(step, input, (h_0, c_0), reverse, lengths, resets)
    return output, h_n, c_n, Gates(*gates)


Step = Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]
"""(x, *states) -> the states after it, and what is recorded of it."""


def _over_time(
    step: Step, input: Tensor, states: tuple[Tensor, ...], reverse: bool,
    lengths: Tensor | None, resets: Tensor | None,
) -> tuple[list[Tensor], tuple[Tensor, ...]]:  # fmt: skip
    """What `step` records over the sequence, each [T, B, ·], and the states after it."""
    records = []
    times = list(enumerate(input.unbind(0)))  # not range(T): under jit.trace T is a tensor
    for t, x in reversed(times) if reverse else times:
        live = None if lengths is None else (t < lengths).unsqueeze(-1)
        cut = None if resets is None else resets[t].unsqueeze(-1)
        # Dead rows see zeros, not what stands in the padding: a NaN there would meet a gradient of 0 and spread.
        before = [_kept(live, s if reverse else _zeroed(cut, s)) for s in states]
        after, record = step(_kept(live, x), *before)
        after = tuple(_zeroed(cut, s) for s in after) if reverse else after
        states = after if live is None else tuple(torch.where(live, *pair) for pair in zip(after, states, strict=True))
        records.append([_kept(live, r) for r in record])
    if reverse:
        records.reverse()
    return [torch.stack(steps) for steps in zip(*records, strict=True)], states


def _kept(rows: Tensor | None, x: Tensor) -> Tensor:
    """x [B, ·], zero outside of these rows [B, 1]."""
    return x if rows is None else torch.where(rows, x, 0)


def _zeroed(rows: Tensor | None, x: Tensor) -> Tensor:
    """x [B, ·], zero in these rows [B, 1]."""
    return x if rows is None else torch.where(rows, 0, x)
