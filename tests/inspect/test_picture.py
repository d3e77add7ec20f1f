"""The picture of the gates."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from conveyor.equations import Gates
from conveyor.inspect.picture import order, picture

SENTENCE = "Bob is a nice person. Dan, on the other hand, is evil."


def gates(T: int, H: int, opening: float = 0.5) -> Gates:
    return Gates(*torch.full((5, T, 2, H), opening))


def test_it_is_wide_enough_for_its_tokens(tmp_path: Path) -> None:
    picture(gates(55, 128), list(SENTENCE) + ["\n"], tmp_path / "sentence.png", title="A sentence at $5")
    picture(gates(5, 3), ["one", "two", "$3$", "", "five"], tmp_path / "words.png")
    sentence, words = imread(tmp_path / "sentence.png"), imread(tmp_path / "words.png")
    assert sentence.shape[1] / len(SENTENCE) > 20  # pixels a character
    assert words.shape[1] < sentence.shape[1]


def test_open_gates_are_darker(tmp_path: Path) -> None:
    brightness = []
    for opening in (0.0, 0.5, 1.0):
        picture(gates(8, 16, opening), list("conveyor"), tmp_path / "gates.png")
        brightness.append(imread(tmp_path / "gates.png")[..., :3].mean())
    assert brightness == sorted(brightness, reverse=True)
    assert brightness[0] - brightness[2] > 0.1


def test_units_that_forget_least_come_first() -> None:
    f = np.array([[0.1, 0.9, 0.4], [0.3, 0.7, 0.6]])
    assert order(f).tolist() == [1, 2, 0]
    many = order(np.linspace(0, 1, 1000)[None])
    assert len(many) == 64
    assert (many[0], many[-1]) == (999, 0)
    assert (np.diff(many) < 0).all()


def test_tokens_and_steps_must_be_as_many(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokens: expected one for each of T = 8 steps, got 3"):
        picture(gates(8, 4), list("abc"), tmp_path / "gates.png")
    assert not list(tmp_path.iterdir())
