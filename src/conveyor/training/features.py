"""What an ONNX encoder makes of images: computed once, kept, and read from there.

An encoder is a file in ONNX that takes RGB images [N, 3, H, W], 0 to 255, and has an output [N, D, h, w], the feature
map; outputs [N, V] beside it describe the image as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from conveyor.data import images
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.training import kept

GRID = 7
"""Places of a feature map down and across; larger ones are averaged down to so many."""
AT_ONCE = 32


class Features(NamedTuple):
    """What is known of N images."""

    maps: np.ndarray
    """[N, P, D]: of each place, row by row; or of pixels [N, S, S, 3]."""
    vectors: np.ndarray
    """[N, V]: of each as a whole; V may be 0."""


class Encoder:
    """An encoder in a file, or with an empty name none: then the pixels themselves are what is known."""

    def __init__(self, path: str, size: int) -> None:
        self.path, self.size = path, size
        self.session: Any = None
        self.sizes = (0, 0)
        """D of its map and V beside it."""
        self.sha256 = hashlib.sha256(self._load() if path else b"pixels").hexdigest()

    def _load(self) -> bytes:
        import onnxruntime

        try:
            content = Path(self.path).read_bytes()
        except OSError as error:
            raise ConveyorError(f"[encoder] {self.path}: cannot be read ({error.strerror}); check --encoder") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no class in common
            raise ConveyorError(f"[encoder] {self.path}: expected a model in ONNX, but {error!s:.200}") from None
        maps, vectors = self.run(np.zeros((1, self.size, self.size, 3), np.uint8))  # what does not fit is told at once
        self.sizes = maps.shape[-1], vectors.shape[-1]
        return content

    def run(self, pixels: np.ndarray) -> Features:
        """Of images [N, S, S, 3]."""
        if self.session is None:
            return Features(pixels, np.zeros((len(pixels), 0), np.float16))
        name = self.session.get_inputs()[0].name
        try:
            found = self.session.run(None, {name: pixels.transpose(0, 3, 1, 2).astype(np.float32)})
        except Exception as error:
            raise ConveyorError(
                f"[encoder] {self.path}: expected a model that takes images [N, 3, {self.size}, {self.size}], but "
                f"{error!s:.200}"
            ) from None
        maps = [one for one in found if np.ndim(one) == 4 and len(one) == len(pixels)]
        if not maps:
            shapes = ", ".join(str([*np.shape(one)]) for one in found)
            raise ConveyorError(
                f"[encoder] {self.path}: expected an output [N, D, h, w], a feature map, got {shapes}; export it "
                "without its last layers"
            )
        vectors = [one for one in found if np.ndim(one) == 2 and len(one) == len(pixels)]
        places = _averaged(maps[0]).reshape(*maps[0].shape[:2], -1).transpose(0, 2, 1)
        whole = np.concatenate(vectors, 1) if vectors else np.zeros((len(pixels), 0))
        return Features(places.astype(np.float16), whole.astype(np.float16))

    def of_frames(self, frames: np.ndarray) -> np.ndarray:
        """Of frames [T, S, S, 3] the mean of each one's map, and what describes it as a whole: [T, D + V]."""
        parts = [self.run(frames[first : first + AT_ONCE]) for first in range(0, len(frames), AT_ONCE)]
        return np.concatenate([np.concatenate([one.maps.mean(1), one.vectors], 1) for one in parts])

    def features(self, paths: Sequence[Path], bad: BadRecords) -> tuple[Features, list[Path]]:
        """Of images, kept from call to call; and the images that could be read."""
        key = kept.digest(paths, self.sha256, self.size, GRID, bad.skip)
        *found, good = kept.arrays(key, (*Features._fields, "good"), lambda: self._compute(paths, bad))
        return Features(*found), [paths[n] for n in good]

    def _compute(self, paths: Sequence[Path], bad: BadRecords) -> list[np.ndarray]:
        """Maps, vectors, and the numbers of the images that could be read."""
        good, found = list[int](), list[Features]()
        for first in range(0, len(paths), AT_ONCE):
            pixels = []
            for n, path in enumerate(paths[first : first + AT_ONCE], first):
                with bad.record():
                    pixels.append(images.read(path, self.size))
                    good.append(n)
            found += [self.run(np.stack(pixels))] if pixels else []
        if not good:
            raise ConveyorError(f"[image] expected images, got none{bad.summary()}")
        return [*map(np.concatenate, zip(*found, strict=True)), np.array(good)]


def _averaged(maps: np.ndarray) -> np.ndarray:
    """Maps [N, D, h, w] of more places than GRID down or across as means over about equal parts."""
    for axis in (2, 3):
        if maps.shape[axis] > GRID:
            bounds = maps.shape[axis] * np.arange(GRID) // GRID
            ends = [*bounds[1:], maps.shape[axis]]
            maps = np.stack([maps.take(range(a, b), axis).mean(axis) for a, b in zip(bounds, ends, strict=True)], axis)
    return maps
