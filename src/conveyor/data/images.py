"""Images of any mode and shape, as pixels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from conveyor.errors import ConveyorError

MOST = 50_000_000
"""Most pixels of an image that is read."""
LEAST = 8
"""Fewest pixels of an image's side."""


def read(path: Path, size: int) -> np.ndarray:
    """The pixels [size, size, 3] of an image, whatever its mode and shape; bytes of RGB."""
    return _read(path, lambda image: np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)))


def grey(path: Path, size: int) -> np.ndarray:
    """The grey values [size, size] of an image."""
    return _read(path, lambda image: np.asarray(image.convert("L").resize((size, size), Image.Resampling.BICUBIC)))


def line(path: Path, height: int) -> np.ndarray:
    """The columns [W, height] of the image of a line of text, of its own shape: 0 is paper, 255 ink."""

    def columns(image: Image.Image) -> np.ndarray:
        width = max(1, round(image.width * height / image.height))
        grey = np.asarray(image.convert("L").resize((width, height), Image.Resampling.BICUBIC)).T
        return 255 - grey if np.median(grey) > 127 else grey

    return _read(path, columns)


def _read(path: Path, use: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as image,
        ):
            if image.width * image.height > MOST or min(image.size) < LEAST:
                raise ConveyorError(
                    f"[image] {path}: expected {LEAST} pixels or more on each side and at most {MOST:,} in all, got "
                    f"{image.width:,} x {image.height:,}; enlarge or shrink it"
                )
            deep = image.mode.startswith("I")  # 16 bits, which Pillow would cut off above 255
            return use(Image.fromarray((np.asarray(image) // 257).astype(np.uint8)) if deep else image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        said = str(error).partition(" <")[0]
        raise ConveyorError(f"[image] {path}: expected a whole image, but {said}; copy it again") from None
