"""Where a decoder looked in a video as it wrote each word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conveyor.training import pictures


def draw(path: Path, frames: np.ndarray, words: Sequence[str], weights: np.ndarray) -> None:
    """For each word the frame [T, h, w] that was looked at most, above the weights [U, T] of all words over time."""
    U = len(words)
    figure = pictures.figure(max(6, 1.4 * U), 3.4)
    if U:
        parts: Any = figure.subfigures(2, 1, height_ratios=[1, 1.3])
        above, below = parts
        for n, axes in enumerate(np.atleast_1d(above.subplots(1, U))):
            best = int(weights[n].argmax())
            axes.imshow(frames[best], cmap="gray", vmin=0, vmax=255)
            axes.set_title(f"{words[n]}\nframe {best}", fontsize=9)
            axes.set_axis_off()
        axes = below.subplots()
        axes.imshow(weights[:U], cmap="Greys", vmin=0, aspect="auto", interpolation="nearest")
        axes.set_yticks(range(U), words, fontsize=8)
        axes.set_xlabel("frame", fontsize=8)
        axes.tick_params(length=0, labelsize=8)
    pictures.write(path, figure)
