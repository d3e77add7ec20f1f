"""Streams: every token is predicted exactly once, and windows follow each other."""

from __future__ import annotations

import pytest
import torch

from conveyor.data.streams import IGNORE, Streams


@pytest.mark.parametrize("count", [2, 3, 12, 13, 14, 100])
@pytest.mark.parametrize("streams", [1, 3, 4])
@pytest.mark.parametrize("length", [1, 4, 50])
def test_every_token_is_predicted_once(count: int, streams: int, length: int) -> None:
    split = Streams(torch.arange(count), streams, length, characters=3 * count)
    batches = [split.batch(0, index) for index in range(len(split))]
    pairs = [
        (int(source), int(target))
        for batch in batches
        for source, target in zip(batch.inputs.flatten(), batch.targets.flatten(), strict=True)
        if target != IGNORE
    ]
    assert sorted(pairs) == [(token, token + 1) for token in range(count - 1)]
    assert sum(batch.tokens for batch in batches) == count - 1
    assert sum(batch.characters for batch in batches) == pytest.approx(3 * (count - 1))


def test_windows_by_hand() -> None:
    split = Streams(torch.arange(10), streams=2, length=3, characters=10)  # 9 targets: streams of 5
    first, second = split.batch(0, 0), split.batch(0, 1)
    assert first.inputs.tolist() == [[0, 5], [1, 6], [2, 7]]
    assert first.targets.tolist() == [[1, 6], [2, 7], [3, 8]]
    assert second.inputs.tolist() == [[3, 8], [4, 0]]
    assert second.targets.tolist() == [[4, 9], [5, IGNORE]]
    assert (first.tokens, second.tokens) == (6, 3)
