"""Piano rolls: pieces of music as frames [T, 88], 1 where a key sounds; out of MIDI files or MATLAB's `.mat`.

MIDI files are given one by one or as folders, read recursively in sorted order. A folder with folders `train`, `valid`
and `test` in it says itself what is what; other files are dealt out by a shuffle that is always the same.

A `.mat` file holds cells `traindata`, `validdata` and `testdata`, a matrix [T, 88] of 0 and 1 a piece, as
Boulanger-Lewandowski et al. 2012 prepared them. It does not say how many frames are a beat.

For a network, pieces of about the same length come side by side as [T, B, 88].
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from conveyor.data import midi
from conveyor.data.batches import Batches, pad
from conveyor.data.midi import KEYS
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

PARTS = ("train", "valid", "test")


class Parts(NamedTuple):
    """The pieces for each use."""

    train: list[np.ndarray]
    valid: list[np.ndarray]
    test: list[np.ndarray]


def read_parts(
    paths: Sequence[Path], steps: int, shares: tuple[float, float], limit: int | None, bad: BadRecords
) -> Parts:
    """The pieces to train on, to choose by and to test on; `shares` of valid and test hold where the data do not say
    it themselves. At most `limit` of each."""
    if _is_mat(paths):
        return Parts(*(read_mat(paths[0], part, limit, bad) for part in PARTS))
    return Parts(*(_read_all(files[:limit], steps, bad) for files in _given(paths) or _dealt(found(paths), *shares)))


def read_test(paths: Sequence[Path], steps: int, bad: BadRecords) -> list[np.ndarray]:
    """The pieces to be scored: the test part of data that say what is what, else all."""
    if _is_mat(paths):
        return read_mat(paths[0], "test", None, bad)
    given = _given(paths)
    return _read_all(given[-1] if given else found(paths), steps, bad)


def _read_all(files: Sequence[Path], steps: int, bad: BadRecords) -> list[np.ndarray]:
    pieces = []
    for file in files:
        with bad.record():
            pieces.append(_checked(midi.read(file, steps).frames, f"[midi] {file}"))
    return pieces


def _is_mat(paths: Sequence[Path]) -> bool:
    mats = [path for path in paths if path.suffix.lower() == ".mat"]
    if mats and len(paths) > 1:
        raise ConveyorError(f"[piano roll] {mats[0]}: expected a .mat file alone, got {len(paths)} paths; give one")
    return bool(mats)


def _given(paths: Sequence[Path]) -> list[list[Path]] | None:
    """The files of a folder that says itself what trains, validates and tests; else None."""
    folders = [path / part for path in paths[:1] for part in PARTS]
    if len(paths) != 1 or not all(map(os.path.isdir, folders)):
        return None
    return [found([folder]) for folder in folders]


def _dealt(files: list[Path], valid_share: float, test_share: float) -> list[list[Path]]:
    """Shuffled, always in the same way, and cut: neighbours in a folder are often alike."""
    order = [files[n] for n in np.random.default_rng(0).permutation(len(files))]
    first, second = (round(len(files) * share) for share in (1 - valid_share - test_share, 1 - test_share))
    return [order[:first], order[first:second], order[second:]]


def found(paths: Sequence[Path]) -> list[Path]:
    """The files of all paths, those in folders sorted."""
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> Iterator[Path]:
    if not os.path.exists(path):
        raise ConveyorError(f"[piano roll] {path}: no such file or folder that may be read; check the path")
    if not path.is_dir():
        yield path
        return
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    pieces = [file for file in files if file.suffix.lower() in (".mid", ".midi")]
    if not pieces:
        mats = ", ".join(str(file) for file in files if file.suffix.lower() == ".mat")
        remedy = f"give one of {mats}" if mats else "give a folder with MIDI files, or a .mat file"
        raise ConveyorError(f"[piano roll] {path}: expected .mid or .midi files in this folder, got none; {remedy}")
    yield from pieces


# MATLAB


def read_mat(path: Path, part: str, limit: int | None, bad: BadRecords) -> list[np.ndarray]:
    """The pieces of a part of a `.mat` file."""
    name = f"{part}data"
    cells = _load(path).get(name)
    if not isinstance(cells, np.ndarray) or cells.dtype != object:
        raise ConveyorError(f"[mat] {path}: expected cells traindata, validdata and testdata, got no cells {name}")
    pieces = []
    for number, cell in enumerate(cells.ravel()[:limit], 1):
        with bad.record():
            pieces.append(_roll(cell, f"[mat] {path}, {name}, piece {number}"))
    return pieces


def _load(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat, matlab  # type: ignore[import-untyped]  # MIDI is read without it

    if not os.path.isfile(path):
        raise ConveyorError(f"[mat] {path}: no such file that may be read; check the path")
    wrong = (OSError, EOFError, ValueError, TypeError, LookupError, NotImplementedError, zlib.error, MemoryError)
    try:
        content: dict[str, Any] = loadmat(path)
    except (*wrong, matlab.MatReadError) as error:
        said = str(error) or type(error).__name__
        raise ConveyorError(f"[mat] {path}: expected a MATLAB file of version 4 to 7.2, but {said}") from None
    return content


def _roll(cell: Any, where: str) -> np.ndarray:
    if not isinstance(cell, np.ndarray) or cell.ndim != 2 or cell.shape[1] != KEYS or cell.dtype.kind not in "buif":
        raise ConveyorError(f"{where}: expected a matrix [T, {KEYS}] of numbers, got {np.shape(cell)}; mend the cell")
    wrong = np.argwhere((cell != 0) & (cell != 1))
    if len(wrong):
        frame, key = wrong[0]
        raise ConveyorError(
            f"{where}, frame {frame + 1}, key {key + 1}: expected 0 or 1, got {cell[frame, key]}; mend it"
        )
    return _checked(cell.astype(np.uint8), where)


def _checked(frames: np.ndarray, where: str) -> np.ndarray:
    if len(frames) < 2 or not frames.any():
        what = f"{len(frames)} frames" if frames.any() else "no note"
        raise ConveyorError(f"{where}: expected notes and two frames or more, got {what}; give another piece")
    return frames


# Batches


class Batch(NamedTuple):
    """Pieces side by side."""

    frames: Tensor  # [T, B, 88], zeros behind the ends
    lengths: Tensor  # [B]


def cut(pieces: Sequence[np.ndarray], length: int) -> list[np.ndarray]:
    """Pieces of at most `length` frames, those out of one piece about as long as each other."""
    return [part for piece in pieces for part in np.array_split(piece, -(-len(piece) // length))]


def batches(pieces: Sequence[np.ndarray], size: int, seed: int | None = None) -> Batches:
    """Batches of pieces of about the same length."""

    def collate(rows: np.ndarray) -> Batch:
        chosen = [pieces[row] for row in rows]
        return Batch(torch.from_numpy(pad(chosen)).float(), torch.tensor(list(map(len, chosen))))

    return Batches([len(piece) for piece in pieces], size, collate, seed)


def transposed(frames: Tensor, most: int) -> Tensor:
    """Every piece of [T, B, 88] moved by a number of keys drawn from ± `most`, as far as its notes have room."""
    used = frames.amax(0)
    below, above = used.argmax(1), used.flip(1).argmax(1)  # free keys on both sides
    drawn = torch.randint(-most, most + 1, below.shape, device=frames.device)
    shift = drawn.maximum(-below).minimum(above)
    source = (torch.arange(KEYS, device=frames.device) - shift.unsqueeze(1)) % KEYS
    return frames.gather(2, source.expand_as(frames))
