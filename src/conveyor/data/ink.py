"""Handwriting as ink, the way of a pen: InkML, the XML of IAM-OnDB, and strokes in .npz; with what is written.

Of a file in InkML the text is its annotation `truth` (or transcription, label); of IAM-OnDB's XML, a line in a file of
texts (.tsv: id, part, text; with a header) or a .txt of the same name beside. A .npz holds lines end to end: dx, dy and
eos (1 at the last point of a stroke) [points], offsets [lines + 1]; and, as they are there, text (bytes of UTF-8) with
text_offsets, id and split.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from conveyor.data import text
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

SUFFIXES = (".npz", ".inkml", ".xml")
PART = re.compile(r"(?:^|[._-])(train|valid|val|dev|test)$", re.IGNORECASE)
TRUTHS = ("truth", "transcription", "label", "textual")
APART = 0.2
"""Points of a line that was resampled are so far from each other, in deviations of its height."""
MOST_POINTS = 100_000


class Ink(NamedTuple):
    """A line of handwriting."""

    name: str
    points: np.ndarray
    """[N, 3]: x, y, which grows downwards, and 1 at the last point of a stroke."""
    text: str
    """What is written; empty where nobody said."""
    part: str
    """What it is for, in the words of its file; or empty."""
    where: str


def read(paths: Sequence[Path], bad: BadRecords) -> list[Ink]:
    """The lines of files, and of those in folders."""
    lines: list[Ink] = []
    for file in _files(paths):
        if file.suffix == ".npz":
            lines += _npz(file, bad)
            continue
        with bad.record():
            lines.append(_inkml(file) if file.suffix == ".inkml" else _xml(file))
    if not lines:
        raise ConveyorError(
            f"[data] {', '.join(map(str, paths))}: expected handwriting in .npz, .inkml or IAM-OnDB's .xml, got none"
            f"{bad.summary()}"
        )
    return lines


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        elif path.is_file():
            yield path
        else:
            raise ConveyorError(f"[data] {path}: no such file or folder; check the path given to --data")


def checked(points: np.ndarray, where: str) -> np.ndarray:
    """Points [N, 3] that are a line; the last one lifts the pen."""
    if points.ndim != 2 or points.shape[1] != 3 or not 2 <= len(points) <= MOST_POINTS:
        raise ConveyorError(
            f"[ink] {where}: expected 2 to {MOST_POINTS:,} points of x, y and whether the pen is lifted, got "
            f"{[*points.shape]}; give a line of writing"
        )
    if not np.isfinite(points).all():
        raise ConveyorError(f"[ink] {where}: expected finite coordinates, got NaN or infinity; mend it")
    if not np.ptp(points[:, :2], axis=0).any():
        raise ConveyorError(f"[ink] {where}: expected a line of writing, got {len(points)} points in one place")
    points = points.astype(np.float64)
    points[-1, 2] = 1
    return points


def _npz(file: Path, bad: BadRecords) -> Iterator[Ink]:
    try:
        with np.load(file, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConveyorError(f"[ink] {file}: expected arrays in .npz, but {error!s:.100}; copy it again") from None
    missing = {"dx", "dy", "eos", "offsets"} - arrays.keys()
    if missing:
        raise ConveyorError(f"[ink] {file}: expected arrays dx, dy, eos and offsets, got no {', '.join(missing)}")
    count = len(arrays["offsets"]) - 1
    _check_offsets(file, "offsets", arrays["offsets"], len(arrays["dx"]), len(arrays["dy"]), len(arrays["eos"]))
    texts = [""] * count
    if "text" in arrays and "text_offsets" in arrays:
        _check_offsets(file, "text_offsets", arrays["text_offsets"], len(arrays["text"]))
        ends, raw = arrays["text_offsets"], arrays["text"].tobytes()
        texts = [raw[a:b].decode("utf-8", "replace") for a, b in pairwise(ends)]
    names = arrays["id"].tolist() if "id" in arrays else [f"{n + 1}" for n in range(count)]
    parts = arrays["split"].tolist() if "split" in arrays else [part_of(file)] * count
    steps = np.stack([arrays["dx"], arrays["dy"]], 1).astype(np.float64)
    for n, (a, b) in enumerate(pairwise(arrays["offsets"])):
        where = f"{file}, line {names[n]}"
        with bad.record():
            points = np.concatenate([steps[a:b].cumsum(0), arrays["eos"][a:b, None]], 1)
            yield Ink(str(names[n]), checked(points, where), texts[n], str(parts[n]), where)


def _check_offsets(file: Path, name: str, offsets: np.ndarray, *lengths: int) -> None:
    good = offsets.ndim == 1 and len(offsets) > 1 and offsets[0] == 0 and (np.diff(offsets) >= 0).all()
    if not good or {*lengths} != {int(offsets[-1])}:
        raise ConveyorError(
            f"[ink] {file}, {name}: expected rising numbers from 0 to the length of the arrays, "
            f"{', '.join(map(str, lengths))}; mend it"
        )


def _root(file: Path) -> ElementTree.Element:
    content = text.read(file)
    if "<!DOCTYPE" in content or "<!ENTITY" in content:
        raise ConveyorError(f"[ink] {file}: expected no document type, which may hold bombs; take it out")
    try:
        return ElementTree.fromstring(content.encode())
    except ElementTree.ParseError as error:
        raise ConveyorError(f"[ink] {file}: expected XML, but {error}; copy it again") from None


def _strokes(file: Path, strokes: Sequence[Sequence[Sequence[float]]]) -> np.ndarray:
    points = [(*point[:2], float(n == len(stroke) - 1)) for stroke in strokes for n, point in enumerate(stroke)]
    return checked(np.array(points, np.float64).reshape(-1, 3), str(file))


def _inkml(file: Path) -> Ink:
    root = _root(file)
    strokes, said = [], ""
    for element in root.iter():
        kind = element.tag.rpartition("}")[2]
        if kind == "trace":
            try:
                points = [[*map(float, point.split())] for point in (element.text or "").split(",") if point.strip()]
            except ValueError:
                raise ConveyorError(f"[ink] {file}: expected numbers in a trace, got {element.text!r:.40}") from None
            if any(len(point) < 2 for point in points):
                raise ConveyorError(f"[ink] {file}: expected x and y of each point, got {element.text!r:.40}")
            strokes.append(points)
        elif kind == "annotation" and element.get("type", "").lower() in TRUTHS and not said:
            said = (element.text or "").strip()
    return Ink(file.stem, _strokes(file, strokes), said or _beside(file), part_of(file), str(file))


def _xml(file: Path) -> Ink:
    try:
        strokes = [
            [(float(point.attrib["x"]), float(point.attrib["y"])) for point in stroke.iter("Point")]
            for stroke in _root(file).iter("Stroke")
        ]
    except (KeyError, ValueError) as error:
        raise ConveyorError(f"[ink] {file}: expected x and y of each Point, got {error}; mend it") from None
    said, part = _transcripts(file.parent).get(file.stem, ("", ""))
    return Ink(file.stem, _strokes(file, strokes), said or _beside(file), part or part_of(file), str(file))


def _transcripts(folder: Path) -> dict[str, tuple[str, str]]:
    """Of each line its text and part, from the tables of a folder."""
    found: dict[str, tuple[str, str]] = {}
    for file in sorted(folder.glob("*.tsv")):
        rows = csv.reader(text.read(file).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
        found |= {row[0]: (row[2], row[1]) for row in rows if len(row) == 3}
    return found


def _beside(file: Path) -> str:
    said = file.with_suffix(".txt")
    return " ".join(text.read(said).split()) if said.is_file() else ""


def part_of(file: Path) -> str:
    """What a file's name says that it is for, or nothing."""
    said = PART.search(file.stem)
    return said[1].lower() if said else ""


def even(points: np.ndarray, apart: float = APART) -> np.ndarray:
    """A line [N, 4] whatever its place, size, slope and speed: x, y, and 1 at a stroke's first and at its last point.

    Its slope is taken out, its height has deviation 1 about 0, and points of a stroke lie `apart` from each other.
    """
    x, y = points[:, 0] - points[:, 0].mean(), points[:, 1] - points[:, 1].mean()
    spread = float(x @ x)
    slope = float(np.clip(x @ y / spread, -0.3, 0.3)) if spread and np.ptp(x) > 2 * np.ptp(y) else 0.0
    y = y - slope * x
    scale = max(float(y.std()), 0.02 * float(np.ptp(x)), 1e-9)
    ends = np.flatnonzero(points[:, 2])
    strokes = np.split(np.stack([x - x[0], y], 1) / scale, ends[:-1] + 1)
    return np.concatenate([_resampled(stroke, apart) for stroke in strokes if len(stroke)])


def _resampled(stroke: np.ndarray, apart: float) -> np.ndarray:
    way = np.concatenate([[0.0], np.hypot(*np.diff(stroke, axis=0).T).cumsum()])
    places = np.linspace(0, way[-1], 1 + min(int(np.ceil(way[-1] / apart)), MOST_POINTS))
    found = np.zeros((len(places), 4))
    found[:, 0], found[:, 1] = (np.interp(places, way, stroke[:, k]) for k in (0, 1))
    found[0, 2] = found[-1, 3] = 1
    return found
