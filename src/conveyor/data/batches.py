"""Records of unequal lengths in batches of nearly equal ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from conveyor.errors import ConveyorError

POOL = 50
"""So many batches are sorted by length together: enough that little is padded, few enough that batches differ."""


class Batches:
    """Batches of about `size` records, of which `collate` makes one out of the records' numbers.

    Record n has `lengths[n]` steps. For training the order is drawn anew from `seed` for each epoch, and records of
    like length come together; otherwise it is by length alone, the longest first. No batch is more than one record
    smaller than another. `collate` gets numbers in the order of falling lengths, and must be a function of them alone.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        size: int,
        collate: Callable[[np.ndarray], Any],
        seed: int | None = None,
    ) -> None:
        self.lengths, self.collate, self.seed = np.asarray(lengths), collate, seed
        count = -(-len(self.lengths) // size)
        self.bounds = len(self.lengths) * np.arange(count + 1) // max(count, 1)
        self.part, self.parts = 0, 1
        self._order: tuple[int, list[np.ndarray]] | None = None

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def batch(self, epoch: int, index: int) -> Any:
        """Batch `index` of an epoch."""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self._rows(epoch)
        return self.collate(self._order[1][index][self.part :: self.parts])

    def share(self, index: int, count: int) -> Batches:
        """The same batches, of each only every `count`-th record from `index` on."""
        smallest = int(np.diff(self.bounds).min(initial=count))
        if smallest < count:
            raise ConveyorError(
                f"[batches] {count} processes: expected batches of {count} records or more, got one of {smallest}; "
                "take a larger --batch-size, or fewer --devices"
            )
        part = copy.copy(self)
        part.part, part.parts = index, count
        return part

    def _rows(self, epoch: int) -> list[np.ndarray]:
        if self.seed is None:
            return self._cut(np.argsort(-self.lengths, kind="stable"), 0, len(self))
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.lengths))
        batches = []
        for first in range(0, len(self), POOL):
            last = min(first + POOL, len(self))
            pool = order[self.bounds[first] : self.bounds[last]]
            batches += self._cut(pool[np.argsort(-self.lengths[pool], kind="stable")], first, last)
        return [batches[n] for n in random.permutation(len(batches))]

    def _cut(self, rows: np.ndarray, first: int, last: int) -> list[np.ndarray]:
        bounds = self.bounds[first : last + 1] - self.bounds[first]
        return [rows[a:b] for a, b in pairwise(bounds)]


def pad(rows: Sequence[np.ndarray], fill: float = 0) -> np.ndarray:
    """Arrays [T_b, …] of unequal lengths side by side, as [T, B, …], `fill` behind the ends."""
    longest = max(map(len, rows))
    padded = np.full((longest, len(rows), *rows[0].shape[1:]), fill, rows[0].dtype)
    for b, row in enumerate(rows):
        padded[: len(row), b] = row
    return padded
