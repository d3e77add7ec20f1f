"""Labels over time, above one another, under the frames of their video if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Patch

from conveyor.data.events import segments
from conveyor.training import pictures

SHOWN = 12
"""Frames of a video that are shown."""


def draw(
    path: Path, tracks: Sequence[tuple[str, Sequence[str]]], classes: Sequence[str], frames: np.ndarray | None
) -> None:
    """A bar for each named track of labels, a colour for each class, and frames [T, h, w] above them."""
    rows = len(tracks) + (frames is not None)
    figure = pictures.figure(12, 0.7 * len(tracks) + 0.8 + (1.1 if frames is not None else 0))
    axes = figure.subplots(rows, squeeze=False, height_ratios=[2] * (frames is not None) + [1] * len(tracks))[:, 0]
    colours = {name: colormaps["tab10"](n % 10) for n, name in enumerate(classes)}
    length = max(len(labels) for _, labels in tracks)
    if frames is not None:
        shown = frames[np.linspace(0, len(frames) - 1, min(SHOWN, len(frames))).round().astype(int)]
        axes[0].imshow(np.concatenate([*shown], 1), cmap="gray", vmin=0, vmax=255, aspect="auto")
        axes[0].set_axis_off()
    for one, (name, labels) in zip(axes[rows - len(tracks) :], tracks, strict=True):
        for first, last, label in segments(labels):
            one.axvspan(first, last, color=colours.get(label, "#444444"))
        one.set(xlim=(0, length), yticks=[])
        one.set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
        one.tick_params(labelsize=8)
    axes[-1].set_xlabel("step", fontsize=8)
    legend = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=legend, loc="outside lower center", ncols=min(8, len(legend)), fontsize=8, frameon=False)
    pictures.write(path, figure)
