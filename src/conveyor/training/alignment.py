"""Where a decoder looked: the weights of its attention, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from conveyor.training import pictures


class Alignment(NamedTuple):
    """What was read, what was written, and how one looked at the other."""

    read: Sequence[str]
    written: Sequence[str]
    weights: np.ndarray
    """[len(written), len(read)]"""


def draw(path: Path, alignments: Sequence[Alignment], captions: Sequence[str] = ()) -> None:
    """A picture with a matrix for each: written tokens down, read tokens across, the darker the more looked at."""
    inches = [0.4 + 0.22 * len(one.written) for one in alignments]
    widest = max(len(one.read) for one in alignments)
    figure = pictures.figure(2.5 + 0.28 * widest, sum(inches) + 0.9 * len(alignments))
    rows = figure.subplots(len(alignments), squeeze=False, height_ratios=inches)[:, 0]
    for axes, one in zip(rows, alignments, strict=True):
        axes.imshow(one.weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(one.read)), one.read, rotation=60, ha="left", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(one.written)), one.written, fontsize=8)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
    for axes, caption in zip(rows, captions, strict=False):
        axes.set_xlabel(caption, fontsize=9)
    pictures.write(path, figure)
