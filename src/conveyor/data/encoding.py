"""Labelled sequences as batches of arrays, scaled or numbered by what the training part taught."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from conveyor.data import tokenizer
from conveyor.data.batches import Batches, pad
from conveyor.data.sequences import Record, Records
from conveyor.errors import ConveyorError


class Batch(NamedTuple):
    """Sequences side by side, the longest first."""

    inputs: Tensor  # [T, B, C], or tokens [T, B]
    lengths: Tensor  # [B]
    labels: Tensor  # [B]


class Encoder:
    """Sequences to arrays; `facts` come from a file that may be damaged, and are checked.

    scaling: (x - mean) / deviation a channel, by those of the training part ("channel"), by the sequence's own
    ("sequence"), or not at all ("none").
    """

    def __init__(self, facts: dict[str, Any], scaling: str, longest: int | None) -> None:
        self.scaling, self.longest, self.kind = scaling, longest, str(facts.get("kind"))
        self.classes: list[str] = _names(facts, "classes")
        if self.kind == "text":
            self.channels: list[str] = []
            self.tokens = tokenizer.from_json(facts.get("tokenizer"))
            self.width = len(self.tokens)
            return
        self.channels = _names(facts, "channels")
        self.width = len(self.channels)
        self.mean, self.deviation = (_numbers(facts, name, self.width) for name in ("mean", "deviation"))

    def __call__(self, content: Any) -> np.ndarray:
        """Scaled values [T, C], or tokens [T]."""
        if self.kind == "text":
            return self.tokens.encode(content)[: self.longest]
        values: np.ndarray = content[: self.longest]
        if self.scaling == "none":
            return values
        mean, deviation = moments(values) if self.scaling == "sequence" else (self.mean, self.deviation)
        scaled: np.ndarray = ((values - mean) / deviation).astype(np.float32)
        return scaled

    def fitting(self, found: Records) -> list[Record]:
        """Sequences of another reading, if they are like those trained on."""
        width = self.width if self.kind != "text" else 0
        if (found.kind == "text") != (self.kind == "text") or len(found.channels) != width:
            raise ConveyorError(
                f"[data] {found.records[0].where}: expected {self.kind} of {width} channels, as in training, got "
                f"{found.kind} of {len(found.channels)}"
            )
        return found.records

    def batches(self, records: list[Record], size: int, seed: int | None = None) -> Batches:
        """Batches of records; one without a label counts as of the first class."""
        rows = [self(record.content) for record in records]
        numbers = {name: k for k, name in enumerate(self.classes)}
        labels = np.array([numbers.get(record.label or "", 0) for record in records])

        def collate(chosen: np.ndarray) -> Batch:
            inputs = pad([rows[n] for n in chosen])
            lengths = torch.tensor([len(rows[n]) for n in chosen])
            return Batch(torch.from_numpy(inputs), lengths, torch.from_numpy(labels[chosen]))

        return Batches([len(row) for row in rows], size, collate, seed)


def learn(records: list[Record], kind: str, channels: Sequence[str], tokens: str, vocabulary: int) -> dict[str, Any]:
    """The facts: mean and deviation of each channel, or the vocabulary of the texts."""
    if kind == "text":
        learned = tokenizer.learn(tokens, "\n".join(record.content for record in records), vocabulary)
        return {"kind": kind, "tokenizer": learned.to_json()}
    mean, deviation = moments(np.concatenate([record.content for record in records]))
    return {"kind": kind, "channels": list(channels), "mean": mean.tolist(), "deviation": deviation.tolist()}


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel of [T, C]; that of a constant is 1, lest its rounding be blown up."""
    mean, deviation = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    return mean, np.where(deviation > 1e-6 * np.abs(mean), deviation, 1.0)


def _names(facts: dict[str, Any], key: str) -> list[str]:
    names = facts.get(key)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConveyorError(f"[model] {key}: expected a list of names, got {names!r:.40}; copy the model's file again")
    return names


def _numbers(facts: dict[str, Any], key: str, count: int) -> np.ndarray:
    try:
        numbers = np.array(facts.get(key), dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ConveyorError(f"[model] {key}: expected {count} numbers, one a channel; copy the model's file again")
    return numbers
