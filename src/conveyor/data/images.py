"""Images of any mode and shape, as pixels."""

from __future__ import annotations

import warnings
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
            small = Image.fromarray((np.asarray(image) // 257).astype(np.uint8)) if deep else image
            return np.asarray(small.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        said = str(error).partition(" <")[0]
        raise ConveyorError(f"[image] {path}: expected a whole image, but {said}; copy it again") from None
