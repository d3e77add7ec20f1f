"""Secondary structure, drawn along its sequence: helices as waves, strands as arrows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from conveyor.training import pictures

ROW = 60
"""Residues side by side."""
TURN = 3.6
"""Residues to a turn of the α helix; so many make a wave."""
COLOURS = {"H": "#c0392b", "E": "#1f6fb2", "C": "#8a8a8a"}
NAMES = {"H": "helix", "E": "strand", "C": "coil"}
TRUE, LETTERS, PREDICTED, SURE = 3.2, 2.35, 1.5, 0.0
"""Where these stand; how sure goes from 0 to 0.8."""


def draw(path: Path, title: str, sequence: str, true: str, predicted: str, sure: Sequence[float]) -> None:
    """A picture: true above predicted structure, letters H, E and C, and how sure each predicted letter is."""
    rows = -(-len(sequence) // ROW)
    figure = pictures.figure(12, 0.6 + 1.25 * rows)
    figure.suptitle(title, fontsize=11)
    for row, axes in enumerate(np.atleast_1d(figure.subplots(rows))):
        begin, end = row * ROW, min((row + 1) * ROW, len(sequence))
        _track(axes, true, TRUE, begin, end)
        _track(axes, predicted, PREDICTED, begin, end)
        for n in range(begin, end):
            axes.text(n, LETTERS, sequence[n], ha="center", va="center", fontsize=8, family="monospace")
        right = np.array([a in (b, "?") for a, b in zip(predicted, true, strict=True)])[begin:end]
        places, heights = np.arange(begin, end), 0.8 * np.asarray(sure[begin:end])
        axes.bar(places, heights, 0.8, SURE, color=np.where(right, "#b8c4b8", "#e08a2e"))
        _frame(axes, begin, end)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    pictures.write(path, figure)


def segments(structure: str) -> Iterator[tuple[str, int, int]]:
    """State, first place and the place behind the last, of each stretch of one state."""
    begin = 0
    for state, letters in groupby(structure):
        end = begin + len(list(letters))
        yield state, begin, end
        begin = end


def _track(axes: Axes, structure: str, y: float, begin: int, end: int) -> None:
    """The part of a structure that falls into a row."""
    for state, first, last in segments(structure):
        left, right = max(first, begin) - 0.5, min(last, end) - 0.5
        if left >= right:
            continue
        if state == "H":
            x = np.linspace(left, right, round(12 * (right - left)))
            wave = 0.3 * np.sin((x - first + 0.5) * 2 * np.pi / TURN)
            axes.fill_between(x, y + wave - 0.14, y + wave + 0.14, color=COLOURS["H"], linewidth=0)
        elif state == "E":
            head = min(1.5, right - left) if last <= end else 0  # an arrow that goes on has its head in the next row
            corners = [left, right - head, right - head, right]
            high = np.array([0.17, 0.17, 0.4 if head else 0.17, 0.0 if head else 0.17])
            axes.fill_between(corners, y - high, y + high, color=COLOURS["E"], linewidth=0)
        elif state == "C":
            axes.plot([left, right], [y, y], color=COLOURS["C"], linewidth=1.4, solid_capstyle="butt")


def _frame(axes: Axes, begin: int, end: int) -> None:
    axes.set(xlim=(begin - 1, begin + ROW), ylim=(-0.1, 3.8))
    axes.set_yticks([SURE + 0.4, PREDICTED, TRUE], ["confidence", "predicted", "true"], fontsize=8)
    places = [*range(begin + 9, end, 10)]
    axes.set_xticks(places, [str(n + 1) for n in places], fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _legend() -> list[Patch]:
    states = [Patch(color=COLOURS[state], label=name) for state, name in NAMES.items()]
    return [*states, Patch(color="#b8c4b8", label="right"), Patch(color="#e08a2e", label="wrong")]
