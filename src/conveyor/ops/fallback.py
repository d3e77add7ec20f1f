"""A layer in plain torch, for every device, dtype, order of derivative and transform that the kernels do not serve."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from conveyor import equations
from conveyor.ops.cells import cell_named


class Layer(NamedTuple):
    """What one layer of D directions gives: output [T, B, D*H], h_n and c_n [D, B, H] (with a projection h [., B, P]).

    c_n is empty but for the LSTM; gates [D, T, B, 4, H] (i, f, g, o) and cells [D, T, B, H] unless asked for.
    """

    output: Tensor
    h_n: Tensor
    c_n: Tensor
    gates: Tensor
    cells: Tensor


def by_equations(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor | None, weights: Sequence[equations.Weights], *,
    lengths: Tensor | None = None, resets: Tensor | None = None, noise: Tensor | None = None, gates: bool = False,
) -> Layer:  # fmt: skip
    """The same layer in plain torch, for any device, dtype, order of derivative and transform."""
    belts = [None] * len(weights) if c_0 is None else c_0
    noises = [None] * len(weights) if noise is None else noise.to(input.dtype)
    belt = cell_named(cell).belt
    directions = [
        _direction(cell, input, h_0[d], belts[d] if belt else None, noises[d], weights[d], d == 1, lengths, resets)
        for d in range(len(weights))
    ]
    outputs, h_n, c_n, seen = zip(*directions, strict=True)
    output, kept, cells = torch.cat(outputs, dim=-1), input.new_empty(0), input.new_empty(0)
    if belt and gates:
        kept = torch.stack([torch.stack(direction[:4], dim=2) for direction in seen])
        cells = torch.stack([direction.c for direction in seen])
    return Layer(output, torch.stack(h_n), torch.stack(c_n) if belt else input.new_empty(0), kept, cells)


def _direction(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor | None, noise: Tensor | None, weights: equations.Weights,
    reverse: bool, lengths: Tensor | None, resets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, equations.Gates | None]:  # fmt: skip
    """One direction by the equations: output, h_n, c_n and the gates, these two of the LSTM alone."""
    variant = cell_named(cell).variant
    if c_0 is not None and variant:
        return equations.variant(
            input, h_0, c_0, weights, variant, noise, reverse=reverse, lengths=lengths, resets=resets
        )
    if c_0 is not None:
        return equations.lstm(input, h_0, c_0, weights, reverse=reverse, lengths=lengths, resets=resets)
    run = equations.gru if cell == "gru" else partial(equations.rnn, nonlinearity=cell.removeprefix("rnn_"))
    output, h_n = run(input, h_0, weights, reverse=reverse, lengths=lengths, resets=resets)
    return output, h_n, None, None


def transformed() -> bool:
    """Whether a transform of torch.func is at work; a graph being compiled sees to that by itself."""
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None
