"""Rows of unequal lengths in batches."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from conveyor.data.batches import POOL, Batches, pad
from conveyor.errors import ConveyorError

LENGTHS = np.random.default_rng(0).integers(1, 100, 1003)


def batches(size: int, seed: int | None) -> Batches:
    return Batches(LENGTHS, size, lambda numbers: numbers, seed)


def epoch(split: Batches, number: int) -> list[list[int]]:
    return [split.batch(number, index).tolist() for index in range(len(split))]


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("size", [1, 4, 1003, 5000])
def test_each_record_once(size: int, seed: int | None) -> None:
    rows = epoch(batches(size, seed), 0)
    assert sorted(chain.from_iterable(rows)) == [*range(1003)]
    sizes = {len(row) for row in rows}
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= size
    for row in rows:
        assert (np.diff(LENGTHS[row]) <= 0).all()


def test_order_is_of_seed_and_epoch_alone() -> None:
    split = batches(4, 1)
    first = epoch(split, 0)
    assert epoch(split, 1) != first
    assert epoch(split, 0) == first == epoch(batches(4, 1), 0)
    assert epoch(batches(4, 2), 0) != first


def test_little_is_padded() -> None:
    def padded(rows: list[list[int]]) -> float:
        return sum(len(row) * LENGTHS[row].max() for row in rows) / LENGTHS.sum()

    assert padded(epoch(batches(4, 1), 0)) < 1.05
    assert padded(epoch(batches(4, None), 0)) < 1.02
    assert len(batches(4, 1)) > POOL


def test_shares_make_the_whole() -> None:
    whole = batches(6, 1)
    parts = [whole.share(index, 3) for index in range(3)]
    for index in range(len(whole)):
        rows = [part.batch(2, index) for part in parts]
        assert sorted(np.concatenate(rows)) == sorted(whole.batch(2, index))
        assert max(map(len, rows)) - min(map(len, rows)) <= 1
    with pytest.raises(ConveyorError, match="7 processes: expected batches of 7 records or more, got one of 5"):
        whole.share(0, 7)


def test_no_records() -> None:
    assert len(Batches([], 4, lambda numbers: numbers)) == 0


def test_pad() -> None:
    rows = [np.array([[1, 2], [3, 4]]), np.array([[5, 6]])]
    assert pad(rows, -1).tolist() == [[[1, 2], [5, 6]], [[3, 4], [-1, -1]]]
