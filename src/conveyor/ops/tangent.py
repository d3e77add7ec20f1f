"""The tangent of the LSTM, by the kernels: how what it gives changes as what it is given does.

Where x, h_0, c_0 and the weights change by x', h_0', c_0' and W', Pearlmutter's (1994) R-operator gives

    z'   = W_ih x' + W_hh h_{t-1}' + W_ih' x + W_hh' h_{t-1} + b'
    c'   = f c_{t-1}' + g i(1 - i) z_i' + c_{t-1} f(1 - f) z_f' + i (1 - g²) z_g'
    h'   = tanh(c) o(1 - o) z_o' + o (1 - tanh²(c)) c'

an LSTM whose step is linear. It is differentiable once, so that second derivatives are the gradient of a tangent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from conveyor.ops.cells import before, by_direction, cell_named, past_end
from conveyor.ops.operators import Results, backward, forward

TANGENT = "lstm tangent"


def has_tangent(cell: str, weights: Sequence[Tensor], directions: int) -> bool:
    """Whether the kernels have one: of the plain LSTM without a projection."""
    return cell_named(cell).kernel == "lstm" and by_direction(cell, weights, directions)[0].w_hr is None


def tangent(
    input: Tensor, h_0: Tensor, c_0: Tensor, weights: Sequence[Tensor], lengths: Tensor | None, resets: Tensor | None,
    output: Tensor, gates: Tensor, cells: Tensor, changes: Sequence[Tensor | None],
) -> Results:  # fmt: skip
    """How output, h_n, c_n, the gates' sums and cells change, where `conveyor::recurrent` gave such of every step.

    Past a row's end, by nothing. changes: of input, h_0, c_0 and each of the weights; None is zero. All of float32.
    """
    D = len(h_0)
    c_before = torch.stack([before(cells[d], c_0[d], d == 1, lengths, resets) for d in range(D)])
    ran = torch.cat([gates, c_before.unsqueeze(3), cells.unsqueeze(3)], dim=3)
    of_input, of_h, of_c, *of_weights = changes
    x = [torch.zeros_like(input) if of_input is None else of_input]
    if any(change is not None for change in of_weights):
        outputs = zip(output.chunk(D, dim=-1), h_0, strict=True)
        x += [input, *(before(y, h, d == 1, lengths, resets) for d, (y, h) in enumerate(outputs))]
    summed = _weights(weights, of_weights, D) if len(x) > 1 else _unbiased(weights, D)
    first = [torch.zeros_like(t) if change is None else change for t, change in ((h_0, of_h), (c_0, of_c))]
    y, h_n, c_n, sums, belts = _Tangent.apply(lengths, resets, ran, torch.cat(x, dim=-1), *first, *summed)
    return y, h_n, c_n, sums, belts


def of_gates(gates: Tensor, sums: Tensor, lengths: Tensor | None) -> Tensor:
    """How the gates [D, T, B, 4, H] change as their sums do."""
    if lengths is not None:  # what was kept there may be anything
        gates = gates.masked_fill(past_end(lengths, gates.shape[1])[..., None, None], 0)
    i, f, g, o = gates.unbind(3)
    return torch.stack([i * (1 - i), f * (1 - f), 1 - g * g, o * (1 - o)], dim=3) * sums


def _unbiased(weights: Sequence[Tensor], directions: int) -> list[Tensor]:
    return [w for of in by_direction("lstm", weights, directions) for w in of[:2] if w is not None]


def _weights(weights: Sequence[Tensor], changes: Sequence[Tensor | None], directions: int) -> list[Tensor]:
    """Those of the widened input: its change, itself, and the h before the step of each direction."""
    each, found = len(weights) // directions, list[Tensor]()
    filled = [torch.zeros_like(w) if change is None else change for w, change in zip(weights, changes, strict=True)]
    for d in range(directions):
        w_ih, w_hh = weights[d * each : d * each + 2]
        of_ih, of_hh, *biases = filled[d * each : (d + 1) * each]
        of_each = [of_hh if own == d else torch.zeros_like(of_hh) for own in range(directions)]
        found += [torch.cat([w_ih, of_ih, *of_each], dim=1), w_hh, *biases]
    return found


class _Tangent(torch.autograd.Function):
    """The linear LSTM along the steps `ran` [D, T, B, 6, H] of one that ran: i, f, g, o, c before the step and c."""

    @staticmethod
    def forward(ctx: Any, lengths: Tensor | None, resets: Tensor | None, ran: Tensor, *tensors: Tensor) -> Results:
        input, h_0, c_0, *weights = tensors
        results = forward(TANGENT, input, h_0, c_0, weights, lengths, resets, ran, 1)
        y, _, _, sums, belts = results
        if lengths is not None:
            past = past_end(lengths, len(input))
            sums[:, past], belts[:, past] = 0, 0
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(lengths, resets, ran, y, sums, belts, *tensors)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        lengths, resets, ran, y, sums, belts, input, h_0, c_0, *weights = ctx.saved_tensors
        dy, dh_n, dc_n, dsums, dbelts = cotangents
        dran, of_input = torch.empty_like(ran), ctx.needs_input_grad[3]
        dx, dh_0, dc_0, dweights, _ = backward(
            TANGENT, dy, dh_n, dc_n, dsums, dbelts, input, h_0, c_0, weights, y, sums, belts, lengths, resets, ran, 1,
            of_input, True, True, False, dnoise=dran,
        )  # fmt: skip
        return None, None, dran, dx, dh_0, dc_0, *dweights
