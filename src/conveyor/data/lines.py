"""Images of lines of text, with a CSV of what they say (columns image and text)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from conveyor.data import images, ink, text
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


class Line(NamedTuple):
    """The image of a line of text."""

    name: str
    columns: np.ndarray
    """[W, height]: 0 is paper, 255 ink."""
    text: str
    part: str
    """What its CSV is for by its name, or empty."""
    where: str


def read(paths: Sequence[Path], height: int, bad: BadRecords) -> list[Line]:
    """The lines that tables among the files and folders name, at that height; without tables all images, unread."""
    inside = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    tables = [file for file in inside if file.suffix == ".csv"]
    found = {file.name: file for file in inside if file.suffix.lower() in SUFFIXES}
    lines = []
    for table in tables:
        found |= {file.name: file for file in table.parent.iterdir() if file.suffix.lower() in SUFFIXES}
        for n, row in enumerate(csv.DictReader(text.read(table).splitlines()), 2):
            where = f"{table}:{n}"
            with bad.record():
                name, said = row.get("image"), row.get("text")
                if not name or said is None:
                    got = ", ".join(map(str, row))
                    raise ConveyorError(f"[data] {where}: expected columns image and text, got {got}")
                if name not in found:
                    raise ConveyorError(f"[data] {where}: no image {name} is there; give it, or mend its name")
                lines.append(Line(name, images.line(found[name], height), said.strip(), ink.part_of(table), where))
    for file in found.values() if not tables else ():
        with bad.record():
            lines.append(Line(file.name, images.line(file, height), "", "", str(file)))
    return lines
