"""Parallel text: sentences and their translations.

Two files line by line (`train.de` and `train.en`), TSV with a column a language, or TMX; each may be packed (`.gz`).
Names that end in train, valid (or val, dev) and test say what is what, with a note behind `test_` if need be
(`test_2016_flickr.de`); all else is split by the shares asked for, always in the same way.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

PART = re.compile(r"(?:^|[._-])(train|valid|val|dev|test)(?:_\w+)?$", re.IGNORECASE)
TABLES = (".tsv", ".tmx")
NAMES = {"val": "valid", "dev": "valid"}
CODES = {"bpt", "ept", "ph", "it", "ut"}
"""TMX's elements within a sentence that hold markup, not text."""


class Pair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str
    where: str


class Corpus(NamedTuple):
    """Files that belong together: one table, or a text in each language."""

    name: str
    files: tuple[Path, ...]

    @property
    def part(self) -> str:
        """What it is for, as its name says."""
        said = PART.search(self.name)
        word = said[1].lower() if said else "train"
        return NAMES.get(word, word)


class Languages(NamedTuple):
    """What is translated into what: endings of files, columns of TSV, languages of TMX."""

    source: str
    target: str

    def find(self, paths: Sequence[Path]) -> list[Corpus]:
        """The corpora of files, and of folders, by name."""
        files = [file for path in paths for file in _files(path)]
        tables = [Corpus(name, (file,)) for file in files for name, ending in [_split(file)] if ending in TABLES]
        texts = self._texts(files)
        one_file_each = len(paths) == 2 and not tables and not texts and not any(map(os.path.isdir, paths))
        found = [Corpus("train", tuple(paths))] if one_file_each else sorted(tables + texts)
        if not found:
            raise ConveyorError(
                f"[data] {', '.join(map(str, paths))}: expected TSV, TMX, or texts that end in .{self.source} and "
                f".{self.target}; name the languages with --source and --target"
            )
        return found

    def _texts(self, files: list[Path]) -> list[Corpus]:
        """Files that go together by their endings; of longer endings (`lc.de`) those alone that were asked for."""
        sides: list[dict[str, Path]] = []
        for language in self:
            ending = re.compile(rf"(.+)\.{re.escape(language)}(\.gz)?$")
            matches = [(match[1], file) for file in files if (match := ending.match(file.name))]
            sides.append({str(file.parent / name): file for name, file in matches})
        both = sorted(sides[0].keys() & sides[1].keys())
        corpora = [Corpus(Path(name).name, (sides[0][name], sides[1][name])) for name in both]
        return [one for one in corpora if PART.search(one.name)] or corpora

    def read(self, corpus: Corpus, bad: BadRecords) -> list[Pair]:
        """The pairs of a corpus; a sentence that is empty is a mistake."""
        pairs = []
        for pair in self._raw(corpus, bad):
            with bad.record():
                for side, text in zip(self, pair[:2], strict=True):
                    if not text.strip():
                        raise ConveyorError(
                            f"[data] {pair.where}: expected a sentence ({side}), got an empty one; mend it"
                        )
                pairs.append(pair)
        if not pairs:
            raise ConveyorError(f"[data] {corpus.files[0]}: expected sentences, got none{bad.summary()}")
        return pairs

    def _raw(self, corpus: Corpus, bad: BadRecords) -> Iterator[Pair]:
        if len(corpus.files) == 2:
            return _side_by_side(*corpus.files)
        return (
            _tmx(corpus.files[0], self, bad)
            if _split(corpus.files[0])[1] == ".tmx"
            else _tsv(corpus.files[0], self, bad)
        )


class Parts(NamedTuple):
    """What trains, validates, and tests."""

    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]
    test_name: str
    """Of the test corpus, if it has one of its own."""


def read_parts(
    paths: Sequence[Path], languages: Languages, bad: BadRecords, valid_share: float, test_share: float
) -> Parts:
    """The pairs of each part. Of several test corpora it is the first by name."""
    corpora = languages.find(paths)
    named = {part: [one for one in corpora if one.part == part] for part in ("train", "valid", "test")}
    named["test"] = named["test"][:1]
    pairs = {part: [pair for one in some for pair in languages.read(one, bad)] for part, some in named.items()}
    if not pairs["train"]:
        raise ConveyorError(
            f"[data] {', '.join(map(str, paths))}: expected a corpus to train on, got none; name one more"
        )
    rest = pairs["train"]
    order = np.random.default_rng(0).permutation(len(rest))
    count_valid = 0 if pairs["valid"] else max(1, round(len(rest) * valid_share))
    count_test = 0 if pairs["test"] else max(1, round(len(rest) * test_share))
    if count_valid + count_test >= len(rest):
        raise ConveyorError(f"[data] {rest[0].where}: too few pairs to split, got {len(rest)}; give more")
    valid, test, train = np.split(order, [count_valid, count_valid + count_test])
    return Parts(
        [rest[n] for n in np.sort(train)],
        pairs["valid"] or [rest[n] for n in valid],
        pairs["test"] or [rest[n] for n in test],
        named["test"][0].name if named["test"] else "",
    )


def lines(path: Path) -> list[str]:
    """The lines of a text, packed or not."""
    return _text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")


def _side_by_side(source: Path, target: Path) -> Iterator[Pair]:
    left, right = lines(source), lines(target)
    if len(left) != len(right):
        raise ConveyorError(
            f"[data] {source} and {target}: expected as many lines in both, got {len(left):,} and {len(right):,}; "
            "line n of one must be the translation of line n of the other"
        )
    for n, (a, b) in enumerate(zip(left, right, strict=True), 1):
        yield Pair(a, b, f"{source}:{n}")


def _tsv(path: Path, languages: Languages, bad: BadRecords) -> Iterator[Pair]:
    """Columns by the names in the first line, or the first two if these are no names."""
    rows = csv.reader(io.StringIO(_text(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    first = next(rows, [])
    named = set(languages) <= set(first)
    columns = [first.index(language) for language in languages] if named else [0, 1]
    for n, row in enumerate(rows if named else [first, *rows], 1 + named):
        with bad.record():
            if len(row) <= max(columns):
                raise ConveyorError(
                    f"[data] {path}:{n}: expected {max(columns) + 1} columns or more, got {len(row)}; mend it"
                )
            yield Pair(row[columns[0]], row[columns[1]], f"{path}:{n}")


def _tmx(path: Path, languages: Languages, bad: BadRecords) -> Iterator[Pair]:
    """Units in which both languages stand; de is de-AT as well."""
    try:
        units = [unit for _, unit in ElementTree.iterparse(io.StringIO(_text(path))) if unit.tag == "tu"]
    except ElementTree.ParseError as error:
        raise ConveyorError(f"[data] {path}: expected TMX, but {error}; write the file again") from None
    for n, unit in enumerate(units, 1):
        said = {_language(variant): variant.find("seg") for variant in unit.iter("tuv")}
        with bad.record():
            source, target = (_said(said, language, f"{path}, unit {n}") for language in languages)
            yield Pair(source, target, f"{path}, unit {n}")


def _language(variant: ElementTree.Element) -> str:
    return (variant.get("{http://www.w3.org/XML/1998/namespace}lang") or variant.get("lang") or "").lower()


def _said(said: dict[str, ElementTree.Element | None], language: str, where: str) -> str:
    """The sentence in a language."""
    wanted = language.lower()
    for code, segment in said.items():
        if segment is not None and (code == wanted or code.split("-")[0] == wanted):
            return re.sub(r"\s+", " ", "".join(_plain(segment))).strip()
    have = ", ".join(sorted(said)) or "none"
    raise ConveyorError(f"[data] {where}: expected a sentence in {language}, got {have}; mend it")


def _plain(element: ElementTree.Element) -> Iterator[str]:
    """The text in an element, without markup."""
    if element.tag not in CODES:
        yield element.text or ""
        for child in element:
            yield from _plain(child)
            yield child.tail or ""


def _files(path: Path) -> list[Path]:
    """The file, or the files of a folder."""
    if not os.path.exists(path):
        raise ConveyorError(f"[data] {path}: no such file or folder; check the path given to --data")
    return sorted(file for file in path.iterdir() if file.is_file()) if os.path.isdir(path) else [path]


def _split(file: Path) -> tuple[str, str]:
    """Name and ending, without that of packing."""
    return os.path.splitext(file.name.removesuffix(".gz"))


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConveyorError(
            f"[data] {path}: expected UTF-8, but byte {error.start} is not; convert it first, for example: "
            "iconv -f latin1 -t utf-8"
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ConveyorError(f"[data] {path}: expected a whole gzip file, but {error}; copy it again") from None
    except OSError as error:
        raise ConveyorError(f"[data] {path}: cannot be read ({error.strerror}); check the path") from None
