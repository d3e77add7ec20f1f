"""Lengths and resets, with torch's layers as the witness: each row cut where it ends and is reset, piece by piece."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Agree = Callable[[Tensor, Tensor], None]
T, B, I, H = 7, 5, 3, 4
LENGTHS = [7, 0, 3, 1, 6]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bidirectional": True, "batch_first": True},
    {"num_layers": 2, "bidirectional": True, "bias": False},
]


def segments(length: int, resets: Tensor) -> Iterator[tuple[int, int]]:
    """Where a row of so many steps is cut: before each step with a reset."""
    cuts = sorted({0, *(t for t in range(length) if resets[t]), length})
    return pairwise(cuts)


def by_segments(
    module: nn.Module, input: Tensor, hx: Any, *, lengths: list[int] | None, resets: Tensor | None
) -> tuple[Tensor, Any]:
    """What the layers are to give, [T, B, ·], of torch's module."""
    steps, rows = input.shape[:2]
    given = hx if isinstance(hx, tuple) else (hx,)
    resets = torch.zeros(steps, rows, dtype=torch.bool) if resets is None else resets
    outputs, finals = [], []
    for b, length in enumerate(lengths or [steps] * rows):
        output, last = _row(module, input[:length, b], [s[:, b] for s in given], resets[:length, b])
        outputs.append(torch.cat([output, output.new_zeros(steps - length, output.shape[1])]))
        finals.append(last)
    states = tuple(torch.stack(parts, dim=1) for parts in zip(*finals, strict=True))
    return torch.stack(outputs, dim=1), states if isinstance(hx, tuple) else states[0]


def _row(module: nn.Module, row: Tensor, given: list[Tensor], resets: Tensor) -> tuple[Tensor, list[Tensor]]:
    D = 2 if module.bidirectional else 1
    backward = (torch.arange(len(given[0])) % D == 1).unsqueeze(1)
    back = last = given
    outputs = [row.new_zeros(0, D * (module.proj_size or module.hidden_size))]
    for start, end in segments(len(row), resets):
        # Forward the first segment goes on from hx, unless it starts with a reset; backward the last one does.
        on = torch.where(backward, torch.tensor(end == len(row)), torch.tensor(start == 0) & ~resets[0])
        first = tuple(torch.where(on, s, 0) for s in given)
        output, after = module(row[start:end], first if len(first) == 2 else first[0])
        last = list(after) if isinstance(after, tuple) else [after]
        back = last if start == 0 else back  # backward the first segment is run last
        outputs.append(output)
    back = [torch.where(resets[0], 0, s) for s in back] if len(row) else back
    return torch.cat(outputs), [torch.where(backward, b, s) for b, s in zip(back, last, strict=True)]


@pytest.mark.parametrize("cut", ["lengths", "resets", "both"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_results_and_gradients(
    make: Any, states: Any, run: Any, options: dict[str, Any], cut: str, agree: Agree
) -> None:
    ours, torchs = make(I, H, **options)
    lengths = None if cut == "resets" else LENGTHS
    resets = None if cut == "lengths" else torch.rand(T, B) < 0.4
    if resets is not None:
        resets[0] = torch.tensor(
            [True, True, False, False, True]
        )  # before the first step there is one, and there is none
    input, hx = torch.randn(T, B, I), states(ours, B)
    first = options.get("batch_first", False)

    def call(module: nn.Module, input: Tensor, hx: Any, **cuts: Any) -> Any:
        if not first:
            return module(input, hx, **cuts)
        turned = None if resets is None else resets.T
        output, last = module(input.transpose(0, 1), hx, **{**cuts, "resets": turned})
        return output.transpose(0, 1), last

    want = run(torchs, input, hx, dtype=torch.float64, by=by_segments, lengths=lengths, resets=resets)
    for dtype in (torch.float32, torch.float64):
        got = run(ours, input, hx, dtype=dtype, by=call, lengths=lengths, resets=resets)
        for mine, witness in zip(got, want, strict=True):
            agree(mine, witness)
