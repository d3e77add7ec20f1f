"""Where a decoder looked in an image as it wrote each word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from conveyor.training import pictures

MOST_ACROSS = 6
"""Images side by side."""


def draw(path: Path, image: np.ndarray, words: Sequence[str], weights: np.ndarray) -> None:
    """The image [S, S, 3], then for each word the image, light where its weights [T, P] are large; P is a square."""
    side = round(weights.shape[1] ** 0.5)
    rows = -(-(len(words) + 1) // MOST_ACROSS)
    across = -(-(len(words) + 1) // rows)
    figure = pictures.figure(2 * across, 2.2 * rows)
    axes = figure.subplots(rows, across, squeeze=False).flatten()
    for one in axes:
        one.set_axis_off()
    axes[0].imshow(image)
    for one, word, looked in zip(axes[1:], words, weights, strict=False):
        map_ = Image.fromarray((looked / max(looked.max(), 1e-9)).reshape(side, side).astype(np.float32))
        light = np.asarray(map_.resize(image.shape[1::-1], Image.Resampling.BICUBIC)).clip(0, 1)[..., None]
        one.imshow((image * (0.25 + 0.75 * light)).astype(np.uint8))
        one.set_title(word, fontsize=10)
    pictures.write(path, figure)
