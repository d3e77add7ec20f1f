"""Labelled sequences in tables: CSV (`,` `;` or tab), TSV (read without quotes) and Parquet.

Three kinds of table, told apart by their columns:

    id, step, label, channels…    a row a step; the sequence's label stands in all its rows, or in one of them
    id, label                     nothing but the labels of sequences whose steps are in another table
    text, label                   a row a text; an id is welcome
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from conveyor.data import text
from conveyor.data.records import BadRecords
from conveyor.data.sequences import Columns, Record, Records, complete
from conveyor.errors import ConveyorError

MISSING = ["", "?", "na", "nan", "null", "none"]
SUFFIXES = (".csv", ".tsv", ".parquet")


@dataclass
class Table:
    """A file's columns, and where each row stands."""

    path: Path
    frame: pl.DataFrame
    lines: np.ndarray

    def where(self, row: int) -> str:
        """File and line of a row; Parquet has no lines, but rows."""
        return f"{self.path}, {'row' if self.path.suffix == '.parquet' else 'line'} {self.lines[row]}"

    def texts(self, column: str) -> list[str | None]:
        """A column as texts without blanks around them, None where there is nothing; no column, no text."""
        if column not in self.frame.columns:
            return [None] * len(self.frame)
        return [None if value is None else value.strip() or None for value in self.frame[column].cast(pl.String)]


def read(path: Path, columns: Columns, bad: BadRecords, fill: bool) -> Records | dict[str, tuple[str, str]]:
    """The sequences or texts of one table; of a table of labels alone each one's label, and where it stands."""
    table = _parquet(path) if path.suffix == ".parquet" else _csv(path, bad)
    names = table.frame.columns
    if columns.text in names:
        return Records("text", (), list(_texts(table, columns, bad)), {})
    if columns.id not in names:
        raise ConveyorError(
            f"[data] {path}: expected a column {columns.id!r} (and a row a step), or a column {columns.text!r}, got "
            f"{', '.join(names)}; rename yours, or train with --id-column or --text-column"
        )
    if set(names) == {columns.id, columns.label}:
        return _labels(table, columns, bad)
    channels = columns.channels or tuple(n for n in names if n not in (columns.id, columns.step, columns.label))
    absent = [name for name in channels if name not in names]
    if absent or not channels:
        raise ConveyorError(
            f"[data] {path}: expected the columns {', '.join(absent)}, got {', '.join(names)}; rename yours, or train "
            "with other --channels"
            if absent
            else f"[data] {path}: expected columns of channels beside {', '.join(names)}"
        )
    return Records("series", channels, list(_sequences(table, columns, channels, bad, fill)), {})


# Rows


def _csv(path: Path, bad: BadRecords) -> Table:
    content = text.read(path)
    lines = io.StringIO(content, newline="")
    if path.suffix == ".tsv":
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        rows = csv.reader(lines, delimiter=max(",;\t", key=content.partition("\n")[0].count), strict=True)
    try:
        names = [name.strip() for name in next(rows)]
        if len(set(names)) < len(names) or not all(names):
            raise ConveyorError(f"[data] {path}, line 1: expected column names, all different, got {', '.join(names)}")
        kept, where = [], []
        for row in rows:
            if len(row) == len(names):
                kept.append(row)
                where.append(rows.line_num)
            elif row:
                with bad.record():
                    expected = f"expected {len(names)} columns, as in line 1, got {len(row)}; mend the line"
                    raise ConveyorError(f"[data] {path}, line {rows.line_num}: {expected}")
    except csv.Error as error:
        raise ConveyorError(f"[data] {path}, line {rows.line_num}: not a table ({error}); mend it") from None
    columns = zip(*kept, strict=True) if kept else [()] * len(names)
    frame = pl.DataFrame([pl.Series(name, cells, pl.String) for name, cells in zip(names, columns, strict=True)])
    return _not_empty(Table(path, frame, np.array(where)))


def _parquet(path: Path) -> Table:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConveyorError(f"[data] {path}: expected Parquet ({str(error).splitlines()[0]}); copy it again") from None
    nested = [name for name, kind in frame.schema.items() if kind.is_nested() or kind == pl.Binary]
    if nested:
        raise ConveyorError(f"[data] {path}: expected a number or text a cell, got others in {', '.join(nested)}")
    return _not_empty(Table(path, frame, np.arange(1, len(frame) + 1)))


def _not_empty(table: Table) -> Table:
    if not len(table.frame):
        raise ConveyorError(f"[data] {table.path}: the table has no rows; give one with sequences in it")
    return table


# What the rows say


def _texts(table: Table, columns: Columns, bad: BadRecords) -> Iterator[Record]:
    texts, labels, names = (table.texts(name) for name in (columns.text, columns.label, columns.id))
    for row, content in enumerate(texts):
        with bad.record():
            if content is None:
                raise ConveyorError(f"[data] {table.where(row)}: the text is empty; write one")
            yield Record(names[row] or str(row), table.where(row), labels[row], content)


def _labels(table: Table, columns: Columns, bad: BadRecords) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for row, (name, label) in enumerate(zip(table.texts(columns.id), table.texts(columns.label), strict=True)):
        with bad.record():
            if name is None or label is None:
                missing = columns.id if name is None else columns.label
                raise ConveyorError(f"[data] {table.where(row)}: nothing in column {missing!r}; fill it in")
            if name in found:
                raise ConveyorError(f"[data] {table.where(row)}: a second label for {name!r}; keep one")
            found[name] = (label, table.where(row))
    return found


def _sequences(
    table: Table, columns: Columns, channels: tuple[str, ...], bad: BadRecords, fill: bool
) -> Iterator[Record]:
    """The rows of each id, in the order of their steps; ids in the order in which they first come."""
    names, labels = table.texts(columns.id), table.texts(columns.label)
    values = np.stack([_numbers(table, name) for name in channels], 1)
    steps = _steps(table, columns.step)
    numbers: dict[str | None, int] = {}
    codes = np.array([numbers.setdefault(name, len(numbers)) for name in names])
    order = np.lexsort((steps, codes))
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        with bad.record():
            name = names[rows[0]]
            if name is None:
                raise ConveyorError(f"[data] {table.where(rows[0])}: nothing in column {columns.id!r}; fill it in")
            again = np.flatnonzero(np.diff(steps[rows]) == 0)
            if len(again):
                raise ConveyorError(
                    f"[data] {table.where(rows[again[0] + 1])}: {name!r} has two rows of one {columns.step}; keep one"
                )
            where = f"{table.where(rows[0])}, {name!r}"
            content = _finite(table, rows, channels, values[rows], fill)
            yield Record(name, where, _one_label(table, rows, labels), complete(content, fill, where))


def _steps(table: Table, column: str) -> np.ndarray:
    """What the rows of a sequence are sorted by: numbers, or texts as 2026-01-31; without a column their places."""
    if column not in table.frame.columns:
        return np.arange(len(table.frame), dtype=float)
    texts = table.texts(column)
    if None in texts:
        raise ConveyorError(f"[data] {table.where(texts.index(None))}: nothing in column {column!r}")
    numbers = pl.Series(texts).cast(pl.Float64, strict=False)
    if numbers.is_finite().all() and not numbers.null_count():
        return numbers.to_numpy()
    return np.unique(np.array(texts, dtype=np.str_), return_inverse=True)[1].astype(float)


def _numbers(table: Table, column: str) -> np.ndarray:
    """A column as numbers: NaN where it is missing, infinite where it is none."""
    series = table.frame[column]
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        return series.cast(pl.Float64).fill_null(np.nan).to_numpy()
    texts = series.cast(pl.String).str.strip_chars()
    missing = texts.fill_null("").str.to_lowercase().is_in(MISSING).to_numpy()
    return np.where(missing, np.nan, texts.cast(pl.Float64, strict=False).fill_null(np.inf).to_numpy())


def _finite(table: Table, rows: np.ndarray, channels: tuple[str, ...], values: np.ndarray, fill: bool) -> np.ndarray:
    """The values, if all are numbers, or missing where that is allowed; else the first place that is not."""
    wrong = np.argwhere(~np.isfinite(values) & ~(fill & np.isnan(values)))
    if not len(wrong):
        return values
    row, channel = wrong[0]
    got = table.frame[channels[channel]][int(rows[row])]
    missing = np.isnan(values[row, channel])
    remedy = "fill it in, or train with --missing fill" if missing else "mend it, or train with --channels without it"
    raise ConveyorError(
        f"[data] {table.where(rows[row])}, column {channels[channel]!r}: expected a number, got {got!r}; {remedy}"
    )


def _one_label(table: Table, rows: np.ndarray, labels: list[str | None]) -> str | None:
    given = {label: row for row in reversed(rows.tolist()) if (label := labels[row]) is not None}
    if len(given) > 1:
        (one, _), (other, _) = sorted(given.items(), key=lambda item: item[1])[:2]
        second = max(given[one], given[other])
        raise ConveyorError(f"[data] {table.where(second)}: a sequence of two labels, {one!r} and {other!r}; keep one")
    return next(iter(given), None)
