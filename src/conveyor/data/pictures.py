"""Small grey pictures: folders of images, IDX files (MNIST's), and .npz."""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from conveyor.data import images
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
PART = re.compile(r"(?:^|[._-])(train|valid|val|test|t10k)(?:$|[._-])", re.IGNORECASE)
NAMES = {"val": "valid", "t10k": "test"}
IDX_BYTES = 0x08


def read(paths: Sequence[Path], size: int, bad: BadRecords) -> dict[str, np.ndarray]:
    """The pictures [N, size, size], bytes, of each part that names of files or folders tell; those of no part train."""
    parts: dict[str, list[np.ndarray]] = {"train": [], "valid": [], "test": []}
    for path in paths:
        if not path.exists():
            raise ConveyorError(f"[data] {path}: no such file or folder; check the path given to --data")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            parts[_part(file, path)] += _of(file, size, bad)
    if not any(parts.values()):
        raise ConveyorError(
            f"[data] {', '.join(map(str, paths))}: expected images, IDX or .npz, got none{bad.summary()}"
        )
    empty = np.zeros((0, size, size), np.uint8)
    return {name: np.concatenate([empty, *found]) for name, found in parts.items()}


def _part(file: Path, root: Path) -> str:
    inside = file.relative_to(root).parts if root.is_dir() else (file.name,)
    said = next((match for name in reversed(inside) if (match := PART.search(name))), None)
    return NAMES.get(said[1].lower(), said[1].lower()) if said else "train"


def _of(file: Path, size: int, bad: BadRecords) -> Iterator[np.ndarray]:
    if file.suffix.lower() in SUFFIXES:
        with bad.record():
            yield images.grey(file, size)[None]
    elif file.suffix == ".npz":
        yield _resized(_npz(file), size, file)
    elif "idx3" in file.name:
        yield _resized(_idx(file), size, file)


def _npz(file: Path) -> np.ndarray:
    try:
        with np.load(file, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConveyorError(f"[data] {file}: expected arrays in .npz, but {error!s:.100}; copy it again") from None
    found: list[np.ndarray] = [one for one in arrays.values() if one.ndim == 3 and one.dtype == np.uint8]
    if len(found) != 1:
        shapes = ", ".join(f"{name} {[*array.shape]} {array.dtype}" for name, array in arrays.items())
        raise ConveyorError(f"[data] {file}: expected one array [N, height, width] of bytes, got {shapes or 'none'}")
    return found[0]


def _idx(file: Path) -> np.ndarray:
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError) as error:
        raise ConveyorError(f"[data] {file}: expected an IDX file, but {error!s:.100}; copy it again") from None
    sizes = np.frombuffer(content[4:16], ">u4").astype(int)
    if content[:4] != bytes([0, 0, IDX_BYTES, 3]) or len(sizes) < 3 or len(content) != 16 + sizes.prod():
        raise ConveyorError(
            f"[data] {file}: expected an IDX file of bytes [N, height, width], got another; copy it again"
        )
    return np.frombuffer(content, np.uint8, offset=16).reshape(sizes)


def _resized(pictures: np.ndarray, size: int, file: Path) -> np.ndarray:
    if pictures.shape[1:] != (size, size):
        raise ConveyorError(
            f"[data] {file}: expected pictures of {size} x {size} (--size), got "
            f"{pictures.shape[2]} x {pictures.shape[1]}"
        )
    return pictures
