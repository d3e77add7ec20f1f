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

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import linear

from conveyor.variant import Squash, Variant

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}


class Weights(NamedTuple):
    """One layer and direction, of G gates: w_ih [G*H, I], w_hh [G*H, H], b_ih and b_hh [G*H] or None.

    Of the LSTM alone: w_hr [P, H], the projection of the output, after which h is [B, P] and w_hh [4*H, P]; and what
    its variants have besides, where n gates are gates proper, all but the candidate: w_gh [n*H, n*H], the recurrence
    of the gates; peepholes [n*H]; norm_ih and norm_hh [G*H], the gains of the normalised sums; norm_c and norm_b [H],
    gain and shift of the normalised belt.
    """

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    w_hr: Tensor | None = None
    w_gh: Tensor | None = None
    peepholes: Tensor | None = None
    norm_ih: Tensor | None = None
    norm_hh: Tensor | None = None
    norm_c: Tensor | None = None
    norm_b: Tensor | None = None

    def to(self, dtype: torch.dtype) -> "Weights":
        """The same in another precision."""
        return Weights(*(None if w is None else w.to(dtype) for w in self))  # type: ignore[arg-type]


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
    w_ih, w_hh, b_ih, b_hh, *_ = weights
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

    def step(_: int, x: Tensor, h: Tensor) -> tuple[tuple[Tensor], tuple[Tensor]]:
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
    w_ih, w_hh, b_ih, b_hh, *_ = weights
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

    def step(_: int, x: Tensor, h: Tensor) -> tuple[tuple[Tensor], tuple[Tensor]]:
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
    w_ih, w_hh, b_ih, b_hh, w_hr, *_ = weights
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

    def step(_: int, x: Tensor, h: Tensor, c: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        h, gates = lstm_step(x, h, c, weights)
        return (h, gates.c), (h, *gates)

    (output, *gates), (h_n, c_n) = _over_time(step, input, (h_0, c_0), reverse, lengths, resets)
    return output, h_n, c_n, Gates(*gates)


def variant_step(
    x: Tensor, h: Tensor, c: Tensor, weights: Weights, variant: Variant, noise: Tensor | None = None
) -> tuple[Tensor, Gates]:
    """One step of any `Variant`: the new h, and the gates, of which the last is the new c.

    noise [B, N, H]: the random factors m of this step, in the order of `variant.noise`: where dropped 0, else 1 / (1 -
    the rate), of the variational dropout the first P are used; of zoneout 1 where a unit stays as it was, else 0, in
    evaluation the rate.

        i_t, f_t, o_t = σ(⌊W_ix x_t + b_ix + W_hx h_{t-1} + b_hx⌋)           each a gate
        g_t = γ(⌊W_ig x_t + b_ig + W_hg h_{t-1} + b_hg⌋)                     γ: tanh
        ĉ_t = ⌊f_t ⊙ c_{t-1} + i_t ⊙ g_t⌋
        c_t = ĉ_t
        ĥ_t = o_t ⊙ φ(ĉ_t)                                                   φ: tanh; with W_hr: W_hr ĥ_t
        h_t = ĥ_t

    with σ, γ, φ any of `squash`, ⌊·⌋ nothing or a bound on the magnitude, and in these places, if asked for:

        + p_i ⊙ c_{t-1}, + p_f ⊙ c_{t-1}, + p_o ⊙ ĉ_t inside of σ                peepholes
        + W_gx (i, f, o)_{t-1} inside of σ                                   gate recurrence; h_t holds (i, f, o)_t
        α_x ⊙ norm(W_ix x_t) + α_h ⊙ norm(W_hx h_{t-1}) + b, φ(α_c ⊙ norm(ĉ_t) + β_c)    layer normalisation
        f_t = 1 - i_t                                                        coupled
        i_t = 1, f_t = 1, o_t = 1                                            no such gate
        i_t ⊙ g_t ⊙ m, W_hx (h_{t-1} ⊙ m)                                    dropout
        c_t = m ⊙ c_{t-1} + (1 - m) ⊙ ĉ_t, h_t = m ⊙ h_{t-1} + (1 - m) ⊙ ĥ_t    zoneout

    norm(a) = (a - mean(a)) / √(var(a) + 1e-5), over all sums of a row, all units of a belt.

    Peepholes: Gers, Schraudolph & Schmidhuber, "Learning Precise Timing with LSTM Recurrent Networks" (2002), section
    3. Gates left out, coupled and seen: Greff et al., "LSTM: A Search Space Odyssey" (2015), section 3. Normalised: Ba,
    Kiros & Hinton, "Layer Normalization" (2016), (20) to (22). Dropped: Semeniuta, Severyn & Barth, "Recurrent Dropout
    without Memory Loss" (2016), (15); Gal & Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent
    Neural Networks" (2016), (7). Kept: Krueger et al., "Zoneout" (2016), section 3.2. Bounds: of the sums in ONNX's
    LSTM, of the belt and the projection in Sak et al. (2014).

    >>> x, h, c, variant = torch.randn(2, 3), torch.zeros(2, 4), torch.zeros(2, 4), Variant(coupled=True)
    >>> h, gates = variant_step(x, h, c, Weights(torch.randn(12, 3), torch.randn(12, 4)), variant)
    >>> torch.equal(gates.f, 1 - gates.i)
    True
    """
    h, seen = _parts(h, c, variant)
    m = {} if noise is None else dict(zip(variant.noise, noise.unbind(-2), strict=True))
    fed = h * m["variational_dropout"][..., : h.shape[-1]] if "variational_dropout" in m else h
    sums = _sums(x, fed, seen, weights, variant)
    peepholes = {} if weights.peepholes is None else _by_name(variant.doors, weights.peepholes)
    of_gate, of_candidate, of_belt = variant.squashes

    def gate(name: str, belt: Tensor) -> Tensor:
        if name not in sums:
            return torch.ones_like(c)
        total = sums[name] + peepholes[name] * belt if peepholes else sums[name]
        return squash(of_gate, _bounded(total, variant.clip))

    i = gate("i", c)
    f = 1 - i if variant.coupled else gate("f", c)
    g = squash(of_candidate, _bounded(sums["g"], variant.clip))
    new = _bounded(f * c + i * (g * m["recurrent_dropout"] if "recurrent_dropout" in m else g), variant.cell_clip)
    o = gate("o", new)
    shown = new
    if weights.norm_c is not None and weights.norm_b is not None:
        shown = _norm(new) * weights.norm_c + weights.norm_b
    out = o * squash(of_belt, shown)
    if weights.w_hr is not None:
        out = _bounded(linear(out, weights.w_hr), variant.proj_clip)
    c = _stayed(m.get("zoneout_cell"), c, new)
    out = _stayed(m.get("zoneout_hidden"), h, out)
    doors = {"i": i, "f": f, "o": o}
    state = torch.cat([out, *(doors[name] for name in variant.doors)], -1) if variant.gate_recurrence else out
    return state, Gates(i, f, g, o, c)


def _parts(state: Tensor, c: Tensor, variant: Variant) -> tuple[Tensor, Tensor]:
    """A state's h, and the gates that it holds behind: [B, 0] where no gate is seen."""
    seen = variant.seen(c.shape[-1])
    h, gates = state.split([state.shape[-1] - seen, seen], -1)
    return h, gates


def _by_name(names: Sequence[str], stacked: Tensor) -> dict[str, Tensor]:
    return dict(zip(names, stacked.chunk(len(names), -1), strict=True))


def _sums(x: Tensor, h: Tensor, seen: Tensor, weights: Weights, variant: Variant) -> dict[str, Tensor]:
    """What the gates are activations of, but for the peepholes: [B, H] by their names."""
    w_ih, w_hh, b_ih, b_hh, *_ = weights
    if weights.norm_ih is None or weights.norm_hh is None:
        sums = linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)
    else:
        sums = _norm(linear(x, w_ih)) * weights.norm_ih + _norm(linear(h, w_hh)) * weights.norm_hh
        sums = sums if b_ih is None or b_hh is None else sums + (b_ih + b_hh)
    named = _by_name(variant.gates, sums)
    of_gates = {} if weights.w_gh is None else _by_name(variant.doors, linear(seen, weights.w_gh))
    return named | {name: named[name] + more for name, more in of_gates.items()}


def _stayed(m: Tensor | None, before: Tensor, after: Tensor) -> Tensor:
    return after if m is None else m * before + (1 - m) * after


def _norm(a: Tensor) -> Tensor:
    """Of mean 0 and variance 1 over the last dimension."""
    return functional.layer_norm(a, a.shape[-1:])


def _bounded(a: Tensor, bound: float | None) -> Tensor:
    return a if bound is None else a.clamp(-bound, bound)


def squash(activation: Squash, a: Tensor) -> Tensor:
    """An activation of `conveyor.variant.ACTIVATIONS`; α and β are its numbers.

        sigmoid 1/(1+e^-a)   tanh   identity a   relu max(0, a)   softsign a/(1+|a|)   softplus ln(1+e^a)
        leaky-relu a or αa below 0   thresholded-relu a above α, else 0   elu a or α(e^a - 1) below 0
        affine αa+β   scaled-tanh α tanh(βa)   hard-sigmoid αa+β within 0 and 1

    They are those of ONNX's recurrent operators, and their names.
    """
    name, alpha, beta = activation
    if name == "affine":
        return alpha * a + beta
    if name == "scaled-tanh":
        return alpha * (beta * a).tanh()
    if name == "hard-sigmoid":
        return (alpha * a + beta).clamp(0, 1)
    if name == "leaky-relu":
        return functional.leaky_relu(a, alpha)
    if name == "thresholded-relu":
        return torch.where(a > alpha, a, 0)
    if name == "elu":
        return functional.elu(a, alpha)
    plain: dict[str, Callable[[Tensor], Tensor]] = {
        "sigmoid": torch.sigmoid, "tanh": torch.tanh, "identity": torch.clone, "relu": torch.relu,
        "softsign": functional.softsign, "softplus": functional.softplus,
    }  # fmt: skip
    return plain[name](a)


def variant(
    input: Tensor, h_0: Tensor, c_0: Tensor, weights: Weights, variant: Variant, noise: Tensor | None = None, *,
    reverse: bool = False, lengths: Tensor | None = None, resets: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Gates]:  # fmt: skip
    """`variant_step` over a sequence: what `lstm` gives; noise [T, B, N, H]."""
    noises = [None] * len(input) if noise is None else noise.unbind(0)

    def step(t: int, x: Tensor, h: Tensor, c: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        h, gates = variant_step(x, h, c, weights, variant, noises[t])
        return (h, gates.c), (_parts(h, c, variant)[0], *gates)

    (output, *gates), (h_n, c_n) = _over_time(step, input, (h_0, c_0), reverse, lengths, resets)
    return output, h_n, c_n, Gates(*gates)


Step = Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]
"""(t, x, *states) -> the states after it, and what is recorded of it."""


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
        after, record = step(t, _kept(live, x), *before)
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
