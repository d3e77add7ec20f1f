"""Sequences as arrays: scaling, tokens, batches, and facts that are damaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conveyor.data.encoding import Encoder, learn
from conveyor.data.sequences import Record, Records
from conveyor.errors import ConveyorError


def record(values: Any, label: str | None = "a") -> Record:
    return Record("1", "a.ts, line 9", label, values if isinstance(values, str) else np.array(values, np.float32))


TRAIN = [record([[1, 5], [2, 5]]), record([[6, 5]], "b")]
FACTS = {"classes": ["a", "b"]} | learn(TRAIN, "series", ("x", "y"), "word", 9)


def test_scaling() -> None:
    """By the training part: mean 3, deviation √(14/3); a constant channel becomes 0, not 0/0."""
    deviation = np.sqrt(14 / 3)
    by_channel = Encoder(FACTS, "channel", None)(TRAIN[0].content)
    assert by_channel == pytest.approx(np.array([[-2 / deviation, 0], [-1 / deviation, 0]]), rel=1e-6)
    assert by_channel.dtype == np.float32
    assert Encoder(FACTS, "sequence", None)(TRAIN[0].content).tolist() == [[-1, 0], [1, 0]]
    assert Encoder(FACTS, "none", 1)(TRAIN[0].content).tolist() == [[1, 5]]


def test_tokens() -> None:
    facts = {"classes": ["a", "b"]} | learn([record("to be or not to be")], "text", (), "word", 4)
    encoder = Encoder(facts, "channel", 5)
    assert encoder.tokens.decode(encoder("to be unheard to be to").tolist()) == "to be <unk> to be"
    assert encoder.width == 4


def test_batches() -> None:
    split = Encoder(FACTS, "none", None).batches(TRAIN[::-1], 2)
    inputs, lengths, labels = split.batch(0, 0)
    assert inputs.tolist() == [[[1, 5], [6, 5]], [[2, 5], [0, 0]]]
    assert lengths.tolist() == [2, 1]
    assert labels.tolist() == [0, 1]
    assert split.share(1, 2).batch(0, 0).labels.tolist() == [1]


def test_other_sequences_must_be_alike() -> None:
    encoder = Encoder(FACTS, "none", None)
    assert encoder.fitting(Records("series", ("", ""), TRAIN, {})) is TRAIN
    for kind, channels in (("series", ("x",)), ("text", ())):
        with pytest.raises(ConveyorError, match=r"a\.ts, line 9: expected series of 2 channels, as in training, got"):
            encoder.fitting(Records(kind, channels, TRAIN, {}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": None}, "classes: expected a list of names, got None"),
        ({"classes": [1, 2]}, "classes: expected a list of names"),
        ({"channels": []}, "channels: expected a list of names"),
        ({"mean": [0]}, "mean: expected 2 numbers, one a channel"),
        ({"deviation": ["x", "y"]}, "deviation: expected 2 numbers"),
        ({"deviation": [1, float("nan")]}, "deviation: expected 2 numbers"),
        ({"kind": "text"}, "expected the description of a char, word or bpe tokenizer"),
    ],
)
def test_damaged_facts(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConveyorError, match=said):
        Encoder(FACTS | change, "channel", None)
