"""Small grey pictures side by side, and as they were drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from conveyor.training import files

LARGER = 3
GAP = 2
RED = (220, 40, 40)


def sheet(pictures: np.ndarray) -> Image.Image:
    """Pictures [N, h, w] of 0 to 1, in rows of nearly a square, larger than they are."""
    count, h, w = pictures.shape
    across = int(np.ceil(np.sqrt(count)))
    down = -(-count // across)
    page = np.ones((down * (h + GAP), across * (w + GAP)), np.float32)
    for n, one in enumerate(pictures):
        y, x = n // across * (h + GAP), n % across * (w + GAP)
        page[y : y + h, x : x + w] = one
    grey = Image.fromarray((255 * page.clip(0, 1)).astype(np.uint8))
    return grey.resize((grey.width * LARGER, grey.height * LARGER), Image.Resampling.NEAREST)


def write(path: Path, pictures: np.ndarray) -> None:
    """A sheet of them, as PNG."""
    content = io.BytesIO()
    sheet(pictures).save(content, "PNG")
    files.write(path, content.getvalue())


def film(path: Path, steps: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> None:
    """A GIF: sheets of the pictures [N, h, w] after each step, with the square [N, 4] that each step wrote within.

    A square is given by its centre down and across, half its side, and the thickness of its line, in pixels.
    """
    frames = []
    for n, pictures in enumerate(steps):
        page = sheet(pictures).convert("RGB")
        pen, (count, h, w) = ImageDraw.Draw(page), pictures.shape
        across = int(np.ceil(np.sqrt(count)))
        for k, (y, x, half, thick) in enumerate(boxes[n] if n < len(boxes) else ()):
            top, left = k // across * (h + GAP), k % across * (w + GAP)
            corners = [left + x - half, top + y - half, left + x + half, top + y + half]
            inside = np.clip(corners, [left, top] * 2, [left + w, top + h] * 2) * LARGER
            pen.rectangle(inside.tolist(), outline=RED, width=max(1, min(6, round(thick))))
        frames.append(page.quantize(32))
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=[*frames[1:], *[frames[-1]] * 8], duration=150, loop=0)
    files.write(path, content.getvalue())
