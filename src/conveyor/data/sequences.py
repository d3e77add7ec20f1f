"""What a reader of labelled sequences gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from conveyor.errors import ConveyorError


class Record(NamedTuple):
    """A sequence."""

    name: str
    where: str
    """File and line, for error texts."""
    label: str | None
    content: Any
    """Values [T, C] of float32, or a text."""


@dataclass
class Records:
    """The sequences of a file."""

    kind: str
    """series or text"""
    channels: tuple[str, ...]
    """Names; empty ones where the format has none, none for texts."""
    records: list[Record]
    declared: dict[str, str]
    """Classes that a header names, and which file's."""


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns."""

    id: str = "id"
    step: str = "step"
    label: str = "label"
    text: str = "text"
    channels: tuple[str, ...] = ()
    """Those to read; if none are named, all that are nothing else."""


def complete(values: np.ndarray, fill: bool, where: str) -> np.ndarray:
    """Values [T, C] of float32, all of them numbers; with `fill`, missing ones are as the one before, at the beginning
    as the first."""
    if fill:
        there = ~np.isnan(values)
        steps = np.arange(len(values))[:, None]
        last = np.maximum.accumulate(np.where(there, steps, -1))
        values = np.take_along_axis(values, np.where(last < 0, there.argmax(0), last), 0)
    with np.errstate(over="ignore"):
        kept = values.astype(np.float32)
    wrong = np.argwhere(~np.isfinite(kept))
    if len(wrong):
        step, channel = wrong[0]
        missing = "fill in one of the channel's values" if fill else "fill it in, or train with --missing fill"
        remedy = missing if np.isnan(values[step, channel]) else "scale the channel down"
        raise ConveyorError(
            f"[data] {where}, channel {channel + 1}, step {step + 1}: expected a number that float32 holds, got "
            f"{values[step, channel]:.5g}; {remedy}"
        )
    return kept
