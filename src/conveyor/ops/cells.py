"""What the operators know of a cell from its name, and its weights as the kernels take them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from conveyor import _kernels
from conveyor.equations import Weights
from conveyor.variant import Variant


class Cell(NamedTuple):
    """kernel: its name there; gates: G, how many sums a unit has; kept: K, values a unit and step that training keeps;
    sums: how many gradients of sums; belt: whether there is a c; extras: the weights a variant has besides."""

    kernel: str
    gates: int
    kept: int
    sums: int
    belt: bool
    variant: Variant | None = None
    options: tuple[float, ...] = ()
    extras: tuple[str, ...] = ()

    def seen(self, hidden_size: int) -> int:
        """How many values the state holds besides h: the gates of the step before."""
        return self.variant.seen(hidden_size) if self.variant else 0


@cache
def cell_named(name: str) -> Cell:
    """The cell of that name: "lstm", "gru", "rnn_tanh", "rnn_relu", or `Variant.cell`."""
    variant = Variant.of_cell(name)
    kernel, options = (name, ()) if variant is None else ("lstm variant", variant.options)
    gates, kept, sums = _kernels.widths(kernel, options)
    extras = tuple(variant.extras(1)) if variant else ()
    return Cell(kernel, gates, kept, sums, name.startswith("lstm"), variant, options, extras)


def by_direction(name: str, weights: Sequence[Tensor], directions: int) -> list[Weights]:
    """The weights of each direction, of those in a row that there are."""
    each = len(weights) // directions
    return [_named(name, weights[d * each : (d + 1) * each]) for d in range(directions)]


def _named(name: str, weights: Sequence[Tensor]) -> Weights:
    extras = cell_named(name).extras
    plain, more = weights[: len(weights) - len(extras)], weights[len(weights) - len(extras) :]
    w_ih, w_hh, *others = plain
    w_hr = others.pop() if len(others) % 2 else None  # an odd one is the projection: there are two biases or none
    b_ih, b_hh = others or (None, None)
    return Weights(w_ih, w_hh, b_ih, b_hh, w_hr, **dict(zip(extras, more, strict=True)))


def flat(weights: Weights) -> list[Tensor]:
    """Those that there are, in a row."""
    return [w for w in weights if w is not None]


def for_kernels(name: str, weights: Sequence[Tensor], directions: int) -> list[Tensor]:
    """The gates' recurrence beside that of h, and all vectors of a variant's own in one."""
    if not cell_named(name).extras:
        return list(weights)
    return [w for of in by_direction(name, weights, directions) for w in _for_kernels(name, of)]


def _for_kernels(name: str, of: Weights) -> list[Tensor]:
    w_hh = of.w_hh if of.w_gh is None else torch.cat([of.w_hh, _rows_of_gates(name, of.w_gh)], dim=1)
    vectors = flat(Weights(*of)._replace(w_gh=None))[len(flat(Weights(*of[:5]))) :]
    return [*flat(Weights(of.w_ih, w_hh, *of[2:5])), *([torch.cat(vectors)] if vectors else [])]


def _rows_of_gates(name: str, w_gh: Tensor) -> Tensor:
    """[n*H, n*H] as [G*H, n*H]: the candidate sees no gate."""
    variant = cell_named(name).variant
    assert variant is not None
    parts = iter(w_gh.chunk(len(variant.doors)))
    return torch.cat([w_gh.new_zeros(len(w_gh) // len(variant.doors), w_gh.shape[1]) if gate == "g" else next(parts)
                      for gate in variant.gates])  # fmt: skip


def from_kernels(name: str, dweights: Sequence[Tensor], weights: Sequence[Tensor], directions: int) -> list[Tensor]:
    """Gradients of what `for_kernels` gives, as those of the weights."""
    variant = cell_named(name).variant
    if variant is None or not cell_named(name).extras:
        return list(dweights)
    each, found = len(dweights) // directions, list[Tensor]()
    for d, of in enumerate(by_direction(name, weights, directions)):
        own = list(dweights[d * each : (d + 1) * each])
        vectors = [w for w in of[6:] if w is not None]
        parts = list(own.pop().split([len(w) for w in vectors])) if vectors else []
        if of.w_gh is not None:
            P, rows = of.w_hh.shape[1], own[1].chunk(len(variant.gates))
            parts.insert(
                0, torch.cat([row[:, P:] for gate, row in zip(variant.gates, rows, strict=True) if gate != "g"])
            )
            own[1] = own[1][:, :P].contiguous()
        found += [*own, *parts]
    return [dw.reshape(w.shape) for dw, w in zip(found, weights, strict=True)]


def past_end(lengths: Tensor, T: int) -> Tensor:
    """Which steps [T, B] are past their row's end."""
    return torch.arange(T, device=lengths.device).unsqueeze(-1) >= lengths


def before(state: Tensor, first: Tensor, reverse: bool, lengths: Tensor | None, resets: Tensor | None) -> Tensor:
    """What each step of one direction started from, [T, B, H]: of the states after each and the initial one [B, H].

    Past a row's end, whatever.
    """
    T, first = state.shape[0], first.unsqueeze(0)
    if not reverse:
        before = torch.cat([first, state[:-1]])
        return before if resets is None else before.masked_fill(resets.unsqueeze(-1), 0)
    before = torch.cat([state[1:], first])
    if resets is not None:
        ends = torch.cat([resets[1:], torch.zeros_like(resets[:1])])
        before = before.masked_fill(ends.unsqueeze(-1), 0)
    if lengths is None:
        return before
    last = torch.arange(T).unsqueeze(-1) == lengths - 1
    return torch.where(last.unsqueeze(-1), first, before)
