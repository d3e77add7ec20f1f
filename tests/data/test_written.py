"""Texts that a decoder writes: there and back, and as they are taught."""

import numpy as np
import pytest

from conveyor.data.written import BOUNDARY, NOTHING, Teacher, Written

TEXTS = ["the dog runs", "the dogs run over the hill", "über den Hügel"]


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_there_and_back(kind: str) -> None:
    learned = Written.learn(kind, TEXTS, 400)
    again = Written.from_json(learned.to_json())
    for text in TEXTS:
        numbers = again.encode(text)
        assert numbers.min() > BOUNDARY
        assert numbers.max() < len(again)
        assert again.decode(numbers.tolist()) == text
        assert len(again.pieces(numbers.tolist())) == len(numbers)
    assert len(again) == len(learned)


def test_a_word_is_one_piece_wherever_it_stands() -> None:
    learned = Written.learn("bpe", ["dog dog dog", "a dog", "dog"], 300)
    first, second = learned.encode("dog dog")
    assert first == second


def test_unknown_words_are_not_written() -> None:
    learned = Written.learn("word", TEXTS, 6)
    [unknown] = learned.never
    assert learned.encode("zebra").tolist() == [unknown]
    assert Written.learn("bpe", TEXTS, 300).never == []


def test_teacher() -> None:
    inputs, targets = Teacher.of([np.array([5, 6, 7]), np.array([8])])
    assert inputs.T.tolist() == [[0, 5, 6, 7], [0, 8, 0, 0]]
    assert targets.T.tolist() == [[5, 6, 7, 0], [8, 0, NOTHING, NOTHING]]
