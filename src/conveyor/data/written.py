"""Texts that a decoder writes: one token, number 0, stands before the first and behind the last of a tokenizer's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from conveyor.data import tokenizer
from conveyor.data.batches import pad

BOUNDARY = 0
NOTHING = -100
"""What `torch.nn.functional.cross_entropy` passes over."""


class Written:
    """A tokenizer with the boundary in front of its numbers."""

    def __init__(self, tokens: tokenizer.Tokenizer) -> None:
        self.tokens = tokens
        unknown = tokens.words.index(tokenizer.UNKNOWN) + 1 if isinstance(tokens, tokenizer.Words) else None
        self.never = [] if unknown is None else [unknown]
        """Numbers that stand for no text, so that none may be written."""

    @classmethod
    def learn(cls, kind: str, texts: Sequence[str], size: int) -> Written:
        """Of texts; byte-pair pieces and words are at most `size` with the boundary."""
        lines = [_spaced(kind, text) for text in texts]
        return cls(tokenizer.learn(kind, "\n".join(lines), size - 1))

    @classmethod
    def from_json(cls, description: Any) -> Written:
        """What `to_json` described."""
        return cls(tokenizer.from_json(description))

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return self.tokens.to_json()

    def __len__(self) -> int:
        return 1 + len(self.tokens)

    def encode(self, text: str) -> np.ndarray:
        """Numbers of a text, without the boundary."""
        kind = "bpe" if isinstance(self.tokens, tokenizer.Pieces) else ""
        return self.tokens.encode(_spaced(kind, text)) + 1

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of numbers."""
        return self.tokens.decode([number - 1 for number in numbers if number != BOUNDARY]).strip()

    def pieces(self, numbers: Sequence[int]) -> list[str]:
        """What each number stands for, for pictures."""
        return [self.tokens.decode([number - 1]).strip() or "␣" if number else "⏎" for number in numbers]

    def said(self, numbers: Sequence[int]) -> list[str]:
        """The same with a space behind each, for steps that are read one behind the other."""
        return [f"{piece} " for piece in self.pieces(numbers)]


class Teacher(NamedTuple):
    """Texts as a decoder is taught them."""

    inputs: Tensor
    """[T, B]: the boundary, then the text."""
    targets: Tensor
    """[T, B]: the text, then the boundary; behind it NOTHING."""

    @classmethod
    def of(cls, rows: Sequence[np.ndarray]) -> Teacher:
        """Of the numbers of each text."""
        inputs = pad([np.concatenate([[BOUNDARY], row]) for row in rows])
        targets = pad([np.concatenate([row, [BOUNDARY]]) for row in rows], NOTHING)
        return cls(torch.from_numpy(inputs), torch.from_numpy(targets))


def _spaced(kind: str, text: str) -> str:
    """For byte pairs with a space in front, so that a word is the same piece wherever it stands."""
    return f" {text}" if kind == "bpe" else text
