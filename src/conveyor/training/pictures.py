"""Pictures of a run, drawn without a screen and written whole."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from conveyor.training import files


def figure(width: float = 7, height: float = 4) -> Figure:
    """An empty figure of that size, in inches."""
    empty = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(empty)
    return empty


def write(path: Path, drawn: Figure) -> None:
    """Write it as PNG."""
    image = io.BytesIO()
    drawn.savefig(image, format="png", dpi=130, bbox_inches="tight", pad_inches=0.1)
    files.write(path, image.getvalue())
