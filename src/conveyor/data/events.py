"""Sequences with a label for every step: feature tables, videos, and tables of events.

A feature table (CSV) has a row a step, and a column of labels: label, phase, event or class; all other columns are
numbers. A table of events (CSV) has the columns video (or file), start, end (or start_frame, end_frame; the end is not
counted) and label (or word, event); it labels videos, or feature tables without labels. Steps within no event are
labelled `none`.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from conveyor.data import text
from conveyor.data.records import BadRecords
from conveyor.data.videos import VIDEOS
from conveyor.errors import ConveyorError

LABELS, STARTS, ENDS = ("label", "phase", "event", "class", "word"), ("start", "start_frame"), ("end", "end_frame")
NAMES = ("video", "file", "name")
NONE = "none"


class Event(NamedTuple):
    """Something that lasts."""

    start: float
    end: float
    """Steps; may be fractions. The last is not counted."""
    label: str
    where: str


class Source(NamedTuple):
    """A sequence to be labelled, before its steps are looked at."""

    path: Path
    features: np.ndarray | None
    """[T, D] of a table; None of a video."""
    labels: list[str] | None
    """Of each step of a table that tells them."""
    events: list[Event] | None
    """Those that a table of events tells."""
    names: tuple[str, ...]
    """Of the features."""


def read(paths: Sequence[Path], positions: Sequence[str], leave_out: Sequence[str], bad: BadRecords) -> list[Source]:
    """The sequences among files and folders, in their order; with `positions`, events are named by their place."""
    files = [file for path in paths for file in _files(path)]
    found, events = list[Source](), dict[str, list[Event]]()
    for file in files:
        if file.suffix.lower() in VIDEOS:
            found.append(Source(file, None, None, None, ()))
        elif file.suffix == ".csv":
            with bad.record():
                rows = [*csv.reader(text.read(file).splitlines())]
                head = [name.strip().lower() for name in rows[0]]
                if any(name in head for name in STARTS):
                    _check_columns(file, head)
                    _events(file, head, rows[1:], events, bad)
                else:
                    found.append(_table(file, rows))
    for name, own in events.items():
        events[name] = _sound(own, positions, leave_out, bad)
    named = [one._replace(events=events.get(one.path.name, events.get(one.path.stem))) for one in found]
    if not named:
        raise ConveyorError(
            f"[data] {', '.join(map(str, paths))}: expected feature tables (.csv) or videos, got none{bad.summary()}"
        )
    return named


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise ConveyorError(f"[data] {path}: no such file or folder; check the path given to --data")
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def _table(file: Path, rows: list[list[str]]) -> Source:
    head = [name.strip() for name in rows[0]]
    label = next((n for n, name in enumerate(head) if name.lower() in LABELS), None)
    columns = [n for n in range(len(head)) if n != label]
    values, labels = [], []
    for n, row in enumerate(rows[1:], 2):
        if not row:
            continue
        try:
            if len(row) != len(head):
                raise ValueError
            values.append([float(row[k]) for k in columns])
        except ValueError:
            raise ConveyorError(
                f"[data] {file}:{n}: expected {len(head)} cells, numbers but for the label, got "
                f"{','.join(row)[:60]!r}; mend it"
            ) from None
        labels.append("" if label is None else row[label].strip())
    features = np.array(values, np.float32).reshape(-1, len(columns))
    if not len(features) or not columns or not np.isfinite(features).all():
        raise ConveyorError(f"[data] {file}: expected rows of finite numbers, got {len(features)} rows; mend it")
    if label is not None and not all(labels):
        raise ConveyorError(f"[data] {file}:{2 + labels.index('')}: expected a label, got an empty one; write it")
    return Source(file, features, labels if label is not None else None, None, tuple(head[k] for k in columns))


def _check_columns(file: Path, head: Sequence[str]) -> None:
    for known in (NAMES, STARTS, ENDS, LABELS):
        if not any(name in head for name in known):
            raise ConveyorError(
                f"[data] {file}:1: expected a column of {', '.join(known)}, got {', '.join(head)}; name it"
            )


def _events(
    file: Path, head: Sequence[str], rows: list[list[str]], events: dict[str, list[Event]], bad: BadRecords
) -> None:
    places = [next(n for n, name in enumerate(head) if name in known) for known in (NAMES, STARTS, ENDS, LABELS)]
    for n, row in enumerate(rows, 2):
        where = f"{file}:{n}"
        with bad.record():
            try:
                name, start, end, label = (row[k].strip() for k in places)
                event = Event(float(start), float(end), label, where)
            except (ValueError, IndexError):
                raise ConveyorError(
                    f"[data] {where}: expected a start and an end, got {','.join(row)[:60]!r}"
                ) from None
            if not 0 <= event.start < event.end < float("inf"):
                raise ConveyorError(
                    f"[data] {where}: expected 0 or more and a later end, got {event.start:g} to {event.end:g}; mend it"
                )
            if not label:
                raise ConveyorError(f"[data] {where}: expected a label, got an empty one; write it")
            events.setdefault(Path(name).name, []).append(event)


def _sound(own: list[Event], positions: Sequence[str], leave_out: Sequence[str], bad: BadRecords) -> list[Event]:
    """Events in order, none of which overlap; without those left out, and named by their place if places have names."""
    ordered, found = sorted(own, key=lambda event: event.start), list[Event]()
    for event in ordered:
        with bad.record():
            if found and event.start < found[-1].end:
                raise ConveyorError(
                    f"[data] {event.where}: expected events that do not overlap, got one from {event.start:g} on while "
                    f"{found[-1].label!r} lasts until {found[-1].end:g}; mend it"
                )
            found.append(event)
    found = [event for event in found if event.label not in leave_out]
    if not positions:
        return found
    if len(found) != len(positions):
        raise ConveyorError(
            f"[data] {own[0].where}: expected {len(positions)} events, one for each of --positions, got {len(found)}"
        )
    return [event._replace(label=name) for event, name in zip(found, positions, strict=True)]


def labels_of(source: Source, count: int) -> list[str] | None:
    """The label of each of so many steps, or None where nobody told them."""
    if source.labels is not None or source.events is None:
        return source.labels
    labels = [NONE] * count
    for event in source.events:
        if event.start >= count:
            raise ConveyorError(
                f"[data] {event.where}: expected events within the {count} steps of {source.path.name}, got one from "
                f"{event.start:g} on; mend it"
            )
        first, last = round(event.start), min(round(event.end), count)
        labels[first:last] = [event.label] * (last - first)
    return labels


def segments(labels: Sequence[str]) -> list[tuple[int, int, str]]:
    """Stretches of one label: the first step, the one behind the last, and the label."""
    found: list[tuple[int, int, str]] = []
    for t, label in enumerate(labels):
        if found and found[-1][2] == label:
            found[-1] = (found[-1][0], t + 1, label)
        else:
            found.append((t, t + 1, label))
    return found


def prior(parts: Sequence[Sequence[str]]) -> list[str]:
    """The most frequent label at each step of sequences."""
    counts: list[defaultdict[str, int]] = []
    for labels in parts:
        counts += [defaultdict(int) for _ in range(len(labels) - len(counts))]
        for t, label in enumerate(labels):
            counts[t][label] += 1
    return [max(sorted(count), key=count.__getitem__) for count in counts]
