"""Public data sets by name: where they lie, under which licence, and how to know that they are whole.

A set is looked for in the folder that CONVEYOR_DATA names, each set in a folder of its own name, then among those
fetched before, then at its address. Sets without an address are fetched by hand.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pooch  # type: ignore[import-untyped]

from conveyor.errors import ConveyorError


@dataclass(frozen=True)
class Entry:
    """A public data set."""

    name: str
    about: str
    licence: str
    used_by: str
    """The task, and how it is given there."""
    upstream: str
    """Where to get it by hand, if it has no address."""
    files: dict[str, tuple[str, str]]
    """SHA-256 and address of each, by its path in the set's folder."""

    @property
    def mirror(self) -> Path | None:
        """The set's folder in that of CONVEYOR_DATA, if it is there."""
        folder = Path(os.environ.get("CONVEYOR_DATA", "")) / self.name
        return folder if os.environ.get("CONVEYOR_DATA") and folder.is_dir() else None

    @property
    def fetched(self) -> Path:
        """The set's folder among those fetched."""
        return Path(pooch.os_cache("conveyor")) / self.name


@cache
def entries() -> dict[str, Entry]:
    """All sets, by name."""
    described = json.loads(Path(__file__).with_name("catalog.json").read_text(encoding="utf-8"))
    return {name: Entry(name, **description) for name, description in described.items()}


def locate(data: Sequence[str]) -> tuple[str, ...]:
    """Absolute paths for what --data names: paths, sets (`m4`), or files of sets (`m4/Hourly-train.csv`)."""
    return tuple(_locate(part) for part in data)


def _locate(part: str) -> str:
    name, _, inside = part.partition("/")
    if os.path.exists(part) or name not in entries():
        return str(Path(part).absolute())
    folder = find(entries()[name])
    if inside and not (folder / inside).exists():
        have = ", ".join(sorted(file.name for file in folder.iterdir())[:9])
        raise ConveyorError(f"[data] {part}: the set {name} has no {inside}; expected one of: {have}")
    return str((folder / inside).absolute())


def find(entry: Entry) -> Path:
    """The set's folder, fetched if need be."""
    if entry.mirror:
        return entry.mirror
    if not entry.files:
        raise ConveyorError(
            f"[data] {entry.name} has no address to be fetched from as it is read here; get it from {entry.upstream}, "
            f"put it into a folder {entry.name}, and name the folder above that in CONVEYOR_DATA"
        )
    print(f"{entry.name}: {entry.about}. Licence: {entry.licence}.", file=sys.stderr, flush=True)
    try:
        for path, (sha256, url) in entry.files.items():
            pooch.retrieve(url, f"sha256:{sha256}", path, entry.fetched)
    except (OSError, ValueError) as error:  # no way to the address; another file than the one known
        raise ConveyorError(
            f"[data] {entry.name}: {error}; fetch the files by hand into a folder {entry.name}, and name the folder "
            "above that in CONVEYOR_DATA"
        ) from None
    return entry.fetched


def lines() -> Iterator[tuple[str, str]]:
    """Each set's name, and what it is and where."""
    for entry in entries().values():
        there = entry.mirror or (entry.fetched if entry.fetched.is_dir() else None)
        where = f"in {there}" if there else "to be fetched" if entry.files else f"by hand, from {entry.upstream}"
        yield entry.name, f"{entry.about} ({entry.used_by}); {entry.licence}; {where}"
