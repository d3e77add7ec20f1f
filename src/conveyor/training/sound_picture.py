"""A spectrogram with what is said in it, and when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from conveyor.training import pictures

Token = tuple[str, float, float]
"""What is said, from a second to a second."""


def draw(path: Path, bands: Sequence[np.ndarray], said: Sequence[Sequence[Token]], hop: float) -> None:
    """For each recording its bands [T, bands], `hop` seconds apart, and tokens, each from a second to a second."""
    figure = pictures.figure(12, 2.4 * len(bands))
    for axes, frames, tokens in zip(figure.subplots(len(bands), squeeze=False)[:, 0], bands, said, strict=True):
        extent = (0, len(frames) * hop, 0, frames.shape[1])
        axes.imshow(frames.T, origin="lower", aspect="auto", cmap="magma", extent=extent)
        for token, first, last in tokens:
            axes.axvline(first, color="white", linewidth=0.5, alpha=0.6)
            axes.text((first + last) / 2, frames.shape[1] * 1.02, token, ha="center", va="bottom", fontsize=9)
        axes.set_yticks([])
        axes.set_xlabel("seconds", fontsize=8)
        axes.tick_params(labelsize=8)
    pictures.write(path, figure)
