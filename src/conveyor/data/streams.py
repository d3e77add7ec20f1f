"""One long sequence of tokens, cut into streams that are read side by side: the data of truncated back-propagation."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

IGNORE = -100
"""The target of a place behind the end of the text; cross-entropy leaves it out."""


class Batch(NamedTuple):
    """A window of every stream; `targets[t, b]` is the token behind `inputs[t, b]`."""

    inputs: Tensor  # [T, B]
    targets: Tensor  # [T, B]
    tokens: int  # how many targets are real
    characters: float  # how many characters of text these stand for


class Streams:
    """The tokens [N] as `streams` contiguous streams, in windows of `length` steps.

    Every token but the first is predicted exactly once: stream b holds the targets b·L … (b+1)·L-1 of the N-1, with
    L = ceil((N-1) / streams); where the last stream runs out, the targets are IGNORE. Window after window goes on where
    the one before ended, so that the recurrent state can be carried over.
    """

    def __init__(self, tokens: Tensor, streams: int, length: int, characters: int) -> None:
        count = len(tokens) - 1
        columns = -(-count // streams)
        padding = streams * columns - count
        inputs = torch.nn.functional.pad(tokens[:-1], (0, padding))
        targets = torch.nn.functional.pad(tokens[1:], (0, padding), value=IGNORE)
        self.inputs = inputs.view(streams, columns).t().contiguous()  # [L, B]: a window is a view
        self.targets = targets.view(streams, columns).t().contiguous()
        self.length = length
        self.characters_per_token = characters / len(tokens)
        self._count()

    def _count(self) -> None:
        self.tokens = [int((window != IGNORE).sum()) for window in self.targets.split(self.length)]

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, epoch: int, index: int) -> Batch:
        """Window `index`; the order is the same in every epoch."""
        window = slice(index * self.length, (index + 1) * self.length)
        tokens = self.tokens[index]
        return Batch(self.inputs[window], self.targets[window], tokens, tokens * self.characters_per_token)

    def share(self, index: int, count: int) -> Streams:
        """Every `count`-th stream from `index` on. Fewer streams than shares are not shared: the first has them all."""
        part = copy.copy(self)
        if self.inputs.shape[1] >= count:
            part.inputs, part.targets = (rows[:, index::count].contiguous() for rows in (self.inputs, self.targets))
        elif index:
            part.inputs, part.targets = self.inputs[:0], self.targets[:0]
        part._count()
        return part
