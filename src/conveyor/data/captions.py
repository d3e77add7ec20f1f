"""Images with captions: Flickr8k's token file, COCO's JSON, CSV with the columns image and caption.

Text files that list images, one a line, and whose names hold train, dev (val) or test say what is what, as do such
words in the names of files of captions; else a share of the images is set aside, always the same.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from conveyor.data import text
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

PART = re.compile(r"(?:^|[._-])(train|valid|val|dev|test)(?:images|\d*)?$", re.IGNORECASE)
NAMES = {"val": "valid", "dev": "valid"}
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm")
TOKEN = re.compile(r"(.+)#(\d+)\t(.*)")
MOST_WORDS = 100
WORD = re.compile(r"\w+(?:['’]\w+)?")


class Picture(NamedTuple):
    """An image, and what is said of it."""

    path: Path
    captions: tuple[str, ...]
    """Words in lower case with spaces between."""


def read(paths: Sequence[Path], bad: BadRecords) -> dict[str, list[Picture]]:
    """The images that train, validate and test, as files say; those of which none does train."""
    found = [file for path in paths for file in _files(path)]
    images = {file.name: file for file in found if file.suffix.lower() in IMAGES}
    lists = {file: part for file in found if file.suffix == ".txt" and (part := part_of(file)) and not _is_tokens(file)}
    part_of_image = {line.strip(): part for file, part in lists.items() for line in text.read(file).splitlines()}
    sources = [
        file for file in found if file.suffix in (".json", ".csv") or (file.suffix == ".txt" and file not in lists)
    ]
    captions: dict[str, list[str]] = {}
    for file in sources:
        for name, caption, where in _read(file, bad):
            with bad.record():
                if lists and name not in part_of_image and name not in images:
                    continue  # in no part, and not there: nothing is lost
                captions.setdefault(_known(name, images, where), []).append(_words(caption, where))
                if not lists and part_of(file):
                    part_of_image[name] = part_of(file)
    if not captions:
        raise ConveyorError(
            f"[data] {', '.join(map(str, paths))}: expected a folder of images, and captions of them in .txt, .json or "
            f".csv, got {len(images):,} images and no captions{bad.summary()}"
        )
    pictures = [Picture(images[name], tuple(said)) for name, said in sorted(captions.items())]
    parts: dict[str, list[Picture]] = {"train": [], "valid": [], "test": []}
    for one in pictures:
        part = part_of_image.get(one.path.name, "") if part_of_image else "train"
        if part:
            parts[part].append(one)
    return parts


def part_of(file: Path) -> str:
    """What a file's name says that it is for, or nothing."""
    said = PART.search(file.stem)
    return NAMES.get(said[1].lower(), said[1].lower()) if said else ""


def set_aside(parts: dict[str, list[Picture]], valid_share: float, test_share: float) -> dict[str, list[Picture]]:
    """The same with a share of the images that train where nothing else validates or tests."""
    random, parts = np.random.default_rng(0), {**parts}
    for part, share in (("valid", valid_share), ("test", test_share)):
        if not parts[part]:
            order = random.permutation(len(parts["train"]))
            count = max(1, round(len(order) * share))
            parts[part] = [parts["train"][n] for n in order[:count]]
            parts["train"] = [parts["train"][n] for n in np.sort(order[count:])]
    if not parts["train"]:
        raise ConveyorError("[data] expected images to train on, got none or too few to split; give more")
    return parts


def _read(file: Path, bad: BadRecords) -> Iterator[tuple[str, str, str]]:
    """Names of images, captions, and where they stand."""
    if file.suffix == ".json":
        return _coco(file)
    return _tokens(file, bad) if file.suffix == ".txt" else _csv(file)


def _tokens(file: Path, bad: BadRecords) -> Iterator[tuple[str, str, str]]:
    for n, line in enumerate(text.read(file).splitlines(), 1):
        with bad.record():
            match = TOKEN.fullmatch(line)
            if not match:
                raise ConveyorError(f"[data] {file}:{n}: expected image#number<TAB>caption, got {line[:40]!r}; mend it")
            yield match[1], match[3], f"{file}:{n}"


def _csv(file: Path) -> Iterator[tuple[str, str, str]]:
    try:
        table = pl.read_csv(file, infer_schema=False).fill_null("")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConveyorError(f"[data] {file}: expected CSV, but {str(error).splitlines()[0]}") from None
    if not {"image", "caption"} <= set(table.columns):
        raise ConveyorError(f"[data] {file}: expected columns image and caption, got {', '.join(table.columns)}")
    for n, (name, caption) in enumerate(table.select("image", "caption").iter_rows(), 2):
        yield name, caption, f"{file}:{n}"


def _coco(file: Path) -> Iterator[tuple[str, str, str]]:
    try:
        described = json.loads(text.read(file))
        names = {image["id"]: image["file_name"] for image in described["images"]}
        for n, one in enumerate(described["annotations"]):
            yield names.get(one["image_id"], str(one["image_id"])), one["caption"], f"{file}, annotation {n}"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConveyorError(
            f"[data] {file}: expected COCO's JSON with images (id, file_name) and annotations (image_id, caption), but "
            f"{type(error).__name__}: {error}"
        ) from None


def _known(name: str, images: dict[str, Path], where: str) -> str:
    if name not in images:
        raise ConveyorError(
            f"[data] {where}: a caption of {name}, but no such image is there; give it, or mend its name"
        )
    return name


def _words(caption: str, where: str) -> str:
    words = WORD.findall(caption.lower())
    if not 0 < len(words) <= MOST_WORDS:
        raise ConveyorError(
            f"[data] {where}: expected a caption of 1 to {MOST_WORDS} words, got {len(words):,}; mend it"
        )
    return " ".join(words)


def _files(path: Path) -> list[Path]:
    """The file, or the files of a folder and the folders in it."""
    if not os.path.exists(path):
        raise ConveyorError(f"[data] {path}: no such file or folder; check the path given to --data")
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _is_tokens(file: Path) -> bool:
    with file.open("rb") as stream:
        return bool(TOKEN.match(stream.readline().decode("utf-8", "replace").rstrip("\r\n")))
