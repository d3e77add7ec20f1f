"""Handwriting with what was read in it, and where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from conveyor.training import pictures

COLOURS = ("#1f6fb2", "#c0392b", "#2e8b57", "#8e44ad")
"""Of characters in turn."""


class Read(NamedTuple):
    """A line of ink or of pixels, and the characters read in it."""

    values: np.ndarray
    """Points [N, 4] as `conveyor.data.ink.even` gives them, or columns [W, height]."""
    characters: Sequence[str]
    spans: Sequence[tuple[float, float]]
    """Of each character, the first of its points or columns and the one behind the last."""


def draw(path: Path, lines: Sequence[Read]) -> None:
    """A picture: each line, its characters in colours, each above the place where it was read."""
    figure = pictures.figure(12, 1.5 * len(lines))
    for axes, one in zip(figure.subplots(len(lines), squeeze=False)[:, 0], lines, strict=True):
        axes.set_axis_off()
        if one.values.ndim == 2 and one.values.shape[1] == 4:
            _ink(axes, one)
        else:
            axes.imshow(one.values.T, cmap="Greys", aspect="auto")
            for n, (character, (first, last)) in enumerate(zip(one.characters, one.spans, strict=True)):
                _name(axes, character, (first + last) / 2, -1.0, n)
    pictures.write(path, figure)


def _ink(axes: Axes, one: Read) -> None:
    points = one.values
    which = np.full(len(points), -1)
    for n, (first, last) in enumerate(one.spans):
        which[int(first) : int(last)] = n
    seen = np.flatnonzero(which >= 0)
    if len(seen):  # what lies between two characters goes to the nearest
        which = which[seen[np.abs(np.arange(len(points))[:, None] - seen).argmin(1)]]
    for a, b in zip(range(len(points) - 1), range(1, len(points)), strict=True):
        if not points[b, 2]:
            colour = COLOURS[which[b] % len(COLOURS)] if which[b] >= 0 else "#444444"
            axes.plot(points[[a, b], 0], points[[a, b], 1], color=colour, linewidth=1.2, solid_capstyle="round")
    top = points[:, 1].min() - 0.4
    for n, character in enumerate(one.characters):
        own = points[which == n, 0]
        if len(own):
            _name(axes, character, float(own.mean()), top, n)
    axes.set_aspect("equal")
    axes.invert_yaxis()


def _name(axes: Axes, character: str, x: float, y: float, n: int) -> None:
    axes.text(x, y, character, ha="center", va="bottom", fontsize=9, color=COLOURS[n % len(COLOURS)])
