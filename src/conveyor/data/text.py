"""Text files: any UTF-8 file, or a folder of them.

A folder is read recursively in sorted order. As text counts every file whose name and folders do not begin with a
dot and whose first 8,000 bytes hold no zero byte, which is git's rule too. A byte-order mark is dropped; line ends stay
as they are in the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from conveyor.errors import ConveyorError

PARTS = ("train", "valid", "test")


class Parts(NamedTuple):
    """One text for each use."""

    train: str
    valid: str
    test: str


def read(path: Path) -> str:
    """The text of one file; its line ends are kept."""
    content = _content(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        offset = error.start + (len(content) - len(error.object))  # utf-8-sig counts from behind the mark
        raise ConveyorError(
            f"[text] {path}: expected UTF-8, but byte {offset} ({content[offset]:#04x}) is not; "
            f"convert it first, for example: iconv -f latin1 -t utf-8"
        ) from None
    if not text:
        raise ConveyorError(f"[text] {path}: the file is empty; give a file with text in it")
    return text


def find(folder: Path) -> list[Path]:
    """The text files under `folder`, sorted by path."""
    files = [file for file in sorted(folder.rglob("*")) if _is_text(file, folder)]
    if not files:
        raise ConveyorError(f"[text] {folder}: no text file in this folder; give a folder with UTF-8 text files")
    return files


def read_all(paths: Sequence[Path]) -> str:
    """Files and folders one after the other; where one does not end its last line, a newline is put between."""
    texts = [read(file) for path in paths for file in _files(path)]
    return "".join(text if text.endswith("\n") else text + "\n" for text in texts[:-1]) + texts[-1]


def read_parts(paths: Sequence[Path], valid_share: float, test_share: float) -> Parts:
    """The texts to train on, to choose by and to test on.

    A single folder with exactly one `*.train.txt`, one `*.valid.txt` and one `*.test.txt` says itself what is what
    (Penn Treebank comes so). Any other text is cut in order: the first part trains, the last one tests.
    """
    given = given_parts(paths)
    if given:
        return Parts(*(read(path) for path in given))
    return cut(read_all(paths), valid_share, test_share)


def read_test(paths: Sequence[Path]) -> str:
    """The text to be scored: `*.test.txt` of a folder that says what is what, else everything."""
    given = given_parts(paths)
    return read(given[-1]) if given else read_all(paths)


def cut(text: str, valid_share: float, test_share: float) -> Parts:
    """Cut a text in order, by characters."""
    first, second = (round(len(text) * share) for share in (1 - valid_share - test_share, 1 - test_share))
    return Parts(text[:first], text[first:second], text[second:])


def first_lines(text: str, count: int | None) -> str:
    """At most so many lines of a text."""
    return text if count is None else "".join(text.splitlines(keepends=True)[:count])


def given_parts(paths: Sequence[Path]) -> list[Path] | None:
    """The three files of a folder that says itself what trains, validates and tests; else None."""
    if len(paths) != 1 or not os.path.isdir(paths[0]):  # not Path.is_dir, which raises where it may not look
        return None
    found = [sorted(paths[0].glob(f"*.{part}.txt")) for part in PARTS]
    return [files[0] for files in found] if all(len(files) == 1 for files in found) else None


def _files(path: Path) -> Iterator[Path]:
    if not os.path.exists(path):
        raise ConveyorError(f"[text] {path}: no such file or folder that may be read; check the path given to --data")
    yield from find(path) if path.is_dir() else [path]


def _is_text(file: Path, folder: Path) -> bool:
    if any(part.startswith(".") for part in file.relative_to(folder).parts) or not file.is_file():
        return False
    return b"\0" not in _content(file, 8000)


def _content(path: Path, size: int = -1) -> bytes:
    """The first bytes of a file, or all."""
    try:
        with path.open("rb") as stream:
            return stream.read(size)
    except OSError as error:
        raise ConveyorError(
            f"[text] {path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
