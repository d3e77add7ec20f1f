"""Text to tokens and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conveyor.data import text, tokenizer
from conveyor.errors import ConveyorError

SAMPLE = "the cat saw the dog\nthe dog ran\r\n  Ünïcode 🚂 \x0b and\ttabs\n\n"


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_round_trip(kind: str) -> None:
    tokens = tokenizer.learn(kind, SAMPLE, 300)
    assert tokens.decode(tokens.encode(SAMPLE).tolist()) == SAMPLE
    assert tokens.encode(SAMPLE).max() < len(tokens)


def test_words_round_trip_up_to_white_space() -> None:
    tokens = tokenizer.learn("word", SAMPLE, 100)
    assert tokens.decode(tokens.encode(SAMPLE).tolist()).split() == SAMPLE.split()
    assert tokens.decode(tokens.encode("the dog\nran\n").tolist()) == "the dog\nran\n"


def test_characters_by_hand() -> None:
    tokens = tokenizer.learn("char", "banana", 2)
    assert tokens.encode("bananas").tolist() == [2, 1, 3, 1, 3, 1, 0]
    assert tokens.decode([2, 0]) == "b\ufffd"
    assert len(tokens) == 4


def test_words_by_hand() -> None:
    tokens = tokenizer.learn("word", "b a b\nc b a\n", 4)  # b 3, a 2, <eos> 2, c 1, <unk> 0
    assert tokens.to_json() == {"kind": "word", "words": ["b", "<eos>", "a", "<unk>"]}
    assert tokens.encode("a c\nb").tolist() == [2, 3, 1, 0]


def test_bpe_knows_every_character_and_merges_what_is_frequent() -> None:
    tokens = tokenizer.learn("bpe", "the cat the dog\n" * 50, 280)
    assert tokens.decode(tokens.encode("naïve 🚂").tolist()) == "naïve 🚂"
    assert len(tokens.encode("the dog")) < 4


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_json_round_trip(kind: str) -> None:
    tokens = tokenizer.learn(kind, SAMPLE, 300)
    again = tokenizer.from_json(json.loads(json.dumps(tokens.to_json())))
    np.testing.assert_array_equal(again.encode(SAMPLE + "new!"), tokens.encode(SAMPLE + "new!"))
    assert len(again) == len(tokens)


GAP = tokenizer.learn("bpe", "abc", 300).to_json()["model"]
GAP["model"]["vocab"]["a"] = 1000


@pytest.mark.parametrize(
    "description",
    [
        None,
        {"kind": "char", "alphabet": ""},
        {"kind": "char", "alphabet": ["a"]},
        {"kind": "word", "words": ["a", "b"]},
        {"kind": "word", "words": [[1], "<unk>", "<eos>"]},
        {"kind": "word", "words": {"<unk>": 0, "<eos>": 1}},
        {"kind": "bpe", "model": {}},
        {"kind": "bpe", "model": {"model": {"type": "BPE", "vocab": {}, "merges": []}}},
        {"kind": "bpe", "model": GAP},
    ],
)
def test_damaged_description(description: object) -> None:
    with pytest.raises(ConveyorError, match=r"^\[tokenizer\] expected the description of a char, word or bpe"):
        tokenizer.from_json(description)


def test_penn_treebank_counts(conveyor_data: Path) -> None:
    parts = text.read_parts([conveyor_data / "ptb"], 0.1, 0.1)
    tokens = tokenizer.learn("word", parts.train, 10_000)
    assert len(tokens) == 10_000
    assert [len(tokens.encode(part)) for part in parts] == [929_589, 73_760, 82_430]
    assert tokens.decode(tokens.encode(parts.valid).tolist()).split() == parts.valid.split()  # nothing unknown
