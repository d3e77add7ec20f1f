"""`.ts` files of sktime, aeon and the UEA & UCR archive: a header, then a case a line.

    @univariate false
    @dimensions 2
    @classLabel true left right
    @data
    0.1,0.2,0.3:5,6,7:left

Channels are parted by `:`, their values by `,`, and the class comes last. `?` or NaN is a missing value. Lines that
begin with `#` are comments. Time stamps in the data are not read.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from conveyor.data import text
from conveyor.data.records import BadRecords
from conveyor.data.sequences import Record, Records, complete
from conveyor.errors import ConveyorError

Lines = Iterator[tuple[int, str]]


def read(path: Path, bad: BadRecords, fill: bool) -> Records:
    """The cases of one file, and the classes that its header names."""
    lines = ((n, line.strip()) for n, line in enumerate(io.StringIO(text.read(path), newline=""), 1))
    kept = ((n, line) for n, line in lines if line and not line.startswith("#"))
    header = _header(path, kept)
    said, *classes = header.get("classlabel", "false").split()
    labelled, given = said.lower() == "true", header.get("dimensions")
    count = int(given) if given else 1 if header.get("univariate", "").lower() == "true" else None
    records: list[Record] = []
    for n, line in kept:
        with bad.record():
            where = f"{path}, line {n}"
            record = _case(line, where, str(len(records)), labelled, count, fill)
            if labelled and record.label not in classes:
                raise ConveyorError(
                    f"[data] {where}: expected a class of the header ({', '.join(classes)}), got {record.label!r}; "
                    "mend the line or @classLabel"
                )
            count = count or record.content.shape[1]
            records.append(record)
    return Records("series", ("",) * (count or 0), records, {name: str(path) for name in classes})


def _header(path: Path, lines: Lines) -> dict[str, str]:
    """The lines up to @data, by their names in lower case."""
    header: dict[str, str] = {}
    for n, line in lines:
        name, _, value = line.partition(" ")
        if name.lower() == "@data":
            _check(path, header)
            return header
        if not name.startswith("@"):
            raise ConveyorError(
                f"[data] {path}, line {n}: expected the header of a .ts file, lines that begin with @ up to @data, got "
                f"{line[:40]!r}"
            )
        header[name[1:].lower()] = value.strip()
    raise ConveyorError(f"[data] {path}: expected a line @data and cases behind it; the file ends before")


def _check(path: Path, header: dict[str, str]) -> None:
    if header.get("timestamps", "false").lower() == "true":
        raise ConveyorError(f"[data] {path}: @timeStamps true is not read; write the values without their times")
    if header.get("targetlabel", "false").lower() == "true":
        raise ConveyorError(f"[data] {path}: @targetLabel gives numbers to predict; expected @classLabel with classes")
    if not header.get("dimensions", "1").isdecimal() or int(header.get("dimensions", "1")) < 1:
        raise ConveyorError(
            f"[data] {path}: @dimensions: expected a whole number, 1 or more, got {header['dimensions']!r}"
        )
    if not header.get("classlabel", "false"):
        raise ConveyorError(f"[data] {path}: @classLabel: expected true and the classes, or false")


def _case(line: str, where: str, name: str, labelled: bool, count: int | None, fill: bool) -> Record:
    """The record of one line."""
    parts = [part.strip() for part in line.split(":")]
    label = parts.pop() if labelled else None
    if not parts or (count and len(parts) != count):
        expected = f"{count} channels" + (" and a class" if labelled else "")
        raise ConveyorError(
            f"[data] {where}: expected {expected}, parted by ':', got {len(parts)} channels; mend the line"
        )
    channels = [_values(part, f"{where}, channel {c}") for c, part in enumerate(parts, 1)]
    for c, values in enumerate(channels, 1):
        if len(values) != len(channels[0]):
            raise ConveyorError(
                f"[data] {where}: expected as many values in channel {c} as in channel 1, {len(channels[0])}, got "
                f"{len(values)}; give all channels of a case the same steps"
            )
    return Record(name, where, label, complete(np.stack(channels, 1), fill, where))


def _values(part: str, where: str) -> np.ndarray:
    try:
        return np.array([np.nan if value.strip() == "?" else float(value) for value in part.split(",")])
    except ValueError as error:
        raise ConveyorError(f"[data] {where}: expected numbers parted by ',' ({error}); mend the line") from None
