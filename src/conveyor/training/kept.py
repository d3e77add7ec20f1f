"""Arrays that take long to compute: kept in the user's cache, and mapped from there."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pooch  # type: ignore[import-untyped]

from conveyor.training import files


def digest(paths: Sequence[Path], *options: object) -> str:
    """Of the contents of files, in order, and of options."""
    whole = hashlib.sha256(repr(options).encode())
    for path in paths:
        whole.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest())
    return whole.hexdigest()[:32]


def arrays(key: str, names: Sequence[str], compute: Callable[[], Sequence[np.ndarray]]) -> list[np.ndarray]:
    """The arrays kept under a key, computed if they are not there."""
    folder = Path(pooch.os_cache("conveyor")) / "computed" / key
    if not all((folder / f"{name}.npy").exists() for name in names):
        for name, array in zip(names, compute(), strict=True):
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            files.write(folder / f"{name}.npy", content.getvalue())
    return [np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names]
