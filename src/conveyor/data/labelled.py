"""Sequences with labels, out of `.ts` files and tables: what trains, validates and tests, and which classes there are.

Files whose names end in train, valid (or val) and test (`Vowels_TRAIN.ts`, `reviews.test.csv`) say what is what. Where
they do not, each class is split by the shares asked for, always in the same way.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from conveyor.data import sequence_tables, ts_file
from conveyor.data.records import BadRecords
from conveyor.data.sequences import Columns, Record, Records
from conveyor.errors import ConveyorError

T = TypeVar("T")
PART = re.compile(r"(?:^|[._-])(train|valid|val|test)$", re.IGNORECASE)
SUFFIXES = (".ts", *sequence_tables.SUFFIXES)


class Reader(NamedTuple):
    """How files are read."""

    columns: Columns
    bad: BadRecords
    fill: bool
    """Whether missing values are filled."""

    def read_parts(self, paths: Sequence[Path]) -> dict[str, Records]:
        """The sequences of each part there is; all are "train" where no file says that it is for training."""
        found = find(paths)
        train = self.read(found.pop("train"))
        return {"train": train} | {name: self.read(files, train) for name, files in found.items()}

    def read(self, paths: Sequence[Path], like: Records | None = None) -> Records:
        """The sequences of files that belong together, of the same channels as those of an earlier reading."""
        found: list[Records] = []
        labels: dict[str, tuple[str, str]] = {}
        for path in paths:
            table = self._file(path, like)
            if isinstance(table, Records):
                like = like or table
                found.append(table)
            else:
                labels |= table
        records = [self._labelled(record, labels) for table in found for record in table.records]
        if not like or not records:
            files = ", ".join(map(str, paths))
            raise ConveyorError(f"[data] {files}: expected sequences, got none{self.bad.summary()}")
        for name, (_, where) in labels.items():
            with self.bad.record():
                raise ConveyorError(f"[data] {where}: a label for {name!r}, but no sequence has this id; mend it")
        declared = {name: file for table in found for name, file in table.declared.items()}
        return Records(like.kind, like.channels, records, declared)

    def _file(self, path: Path, like: Records | None) -> Records | dict[str, tuple[str, str]]:
        if path.suffix == ".ts":
            table: Records | dict[str, tuple[str, str]] = ts_file.read(path, self.bad, self.fill)
        else:
            named = like is not None and all(like.channels)
            columns = replace(self.columns, channels=like.channels) if like and named else self.columns
            table = sequence_tables.read(path, columns, self.bad, self.fill)
        if isinstance(table, Records) and like and (like.kind, len(like.channels)) != (table.kind, len(table.channels)):
            expected, got = (f"{one.kind} of {len(one.channels)} channels" for one in (like, table))
            raise ConveyorError(f"[data] {path}: expected {expected}, as in the files before, got {got}")
        return table

    @staticmethod
    def _labelled(record: Record, labels: dict[str, tuple[str, str]]) -> Record:
        label, _ = labels.pop(record.name, (record.label, ""))
        return record._replace(label=label)

    def with_labels(self, records: list[Record], classes: Sequence[str] | None = None) -> list[Record]:
        """Those that have a label, of the known classes if there are such."""
        kept = []
        for record in records:
            with self.bad.record():
                if record.label is None:
                    raise ConveyorError(
                        f"[data] {record.where}: no label; add it in column {self.columns.label!r} or in a table of id "
                        "and label, or train with --label-column"
                    )
                if classes is not None and record.label not in classes:
                    raise ConveyorError(
                        f"[data] {record.where}: the label {record.label!r} is of none of the classes trained on "
                        f"({_some(classes)}); mend it, or train on such sequences too"
                    )
                kept.append(record)
        return kept

    def split(self, parts: dict[str, Records], valid_share: float, test_share: float) -> tuple[Parts, list[str]]:
        """What trains, validates and tests, and the classes, in the order of a header or sorted.

        Each class that is split must have a sequence for every part that is cut.
        """
        shares = {"valid": valid_share, "test": test_share}
        wanted = [part for part in ("valid", "test") if part not in parts and shares[part]]
        train = self.with_labels(parts["train"].records)
        counts = Counter(record.label for record in train)
        classes = list(parts["train"].declared) or sorted({record.label or "" for record in train}, key=_by_number)
        for name in [*classes]:
            with self.bad.record():
                if counts[name] <= len(wanted):
                    where = parts["train"].declared.get(name) or train[0].where.partition(", ")[0]
                    classes.remove(name)
                    raise ConveyorError(_too_few(where, name, counts[name], wanted))
        if len(classes) < 2:
            got = _some(classes) or "none"
            raise ConveyorError(f"[data] expected two classes or more to tell apart, got {got}{self.bad.summary()}")
        train = [record for record in train if record.label in classes]
        found = dict(zip(["train", *wanted], _cut(train, [shares[part] for part in wanted]), strict=True))
        found |= {part: self.with_labels(parts[part].records, classes) for part in parts.keys() - {"train"}}
        if not found.get("test"):
            raise ConveyorError(f"[data] there is nothing to test on; raise --test-share{self.bad.summary()}")
        return Parts(found["train"], found.get("valid", []), found["test"]), classes


class Parts(NamedTuple):
    """Sequences for each use; without a share for it there are none to validate by."""

    train: list[Record]
    valid: list[Record]
    test: list[Record]


def find(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each part; all of them as "train" if no name says that there is a training part."""
    files = [file for path in paths for file in files_of(path)]
    parts: dict[str, list[Path]] = {}
    for file in files:
        match = PART.search(file.stem)
        name = match[1].lower() if match else "other"
        parts.setdefault({"val": "valid"}.get(name, name), []).append(file)
    if "train" not in parts:
        return {"train": files}
    if "other" in parts:
        raise ConveyorError(
            f"[data] {parts['other'][0]}: expected a name that ends in train, valid or test, as those beside it; "
            "rename it, or name the files to read one by one"
        )
    return parts


def some(records: list[T], count: int | None) -> list[T]:
    """At most so many, from all over, since files are often sorted by class; always the same, in their order."""
    if count is None or count >= len(records):
        return records
    return [records[n] for n in sorted(np.random.default_rng(0).permutation(len(records))[:count])]


def digest(parts: Parts) -> str:
    """A number that tells whether the data are the same."""
    total = hashlib.sha256()
    for part in parts:
        for record in part:
            content = record.content.encode() if isinstance(record.content, str) else record.content.tobytes()
            total.update(f"{record.label}\0{len(content)}\0".encode() + content)
        total.update(b"\1")
    return total.hexdigest()


def files_of(path: Path) -> list[Path]:
    """A file, or those in a folder that can be read."""
    if not os.path.exists(path):  # not Path.exists, which raises where it may not look
        raise ConveyorError(f"[data] {path}: no such file or folder that may be read; check the path")
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ConveyorError(f"[data] {path}: expected a file of {', '.join(SUFFIXES)}, got {path.suffix or 'none'}")
        return [path]
    found = [file for file in sorted(path.rglob("*")) if file.suffix in SUFFIXES and not file.name.startswith(".")]
    if not found:
        raise ConveyorError(f"[data] {path}: no file of {', '.join(SUFFIXES)} in this folder")
    return found


def _cut(records: list[Record], shares: Sequence[float]) -> list[list[Record]]:
    """The rest, and a list a share; each list has about that share, and one or more, of each class."""
    random = np.random.default_rng(0)
    labels = np.array([record.label for record in records])
    part = np.zeros(len(records), int)
    for name in sorted(set(labels.tolist())):
        rows = random.permutation(np.flatnonzero(labels == name))
        for number, share in enumerate(shares, 1):
            count = max(1, round(share * (labels == name).sum()))
            chosen, rows = rows[:count], rows[count:]
            part[chosen] = number
    return [[records[n] for n in np.flatnonzero(part == number)] for number in range(len(shares) + 1)]


def _too_few(where: str, name: str, count: int, wanted: list[str]) -> str:
    parts = " and ".join(["train", *wanted])
    return (
        f"[data] {where}: class {name!r} has {count or 'no'} sequence{'s' * (count > 1)}, too few to {parts} with; "
        f"expected {len(wanted) + 1} or more; add some"
    )


def _by_number(name: str) -> tuple[float, str]:
    """Classes that are numbers are sorted so."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
