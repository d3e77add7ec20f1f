"""Time series in tables: CSV or Parquet, long (a row a value) or wide (a row a series, as those of the M4 competition).

A long table has a column of names, one of times (dates, or whole numbers) and one of values, and may have more that go
with them. A wide one has the columns V1, V2, …: V1 is the name, the others are values in order, empty behind the end.
A file with "test" in its name goes on where the others end. A mistake names the file and the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

SEASONS = ((timedelta(hours=1), 24), (timedelta(days=1), 7), (timedelta(days=31), 12), (timedelta(days=92), 4))
"""How many steps of that length make a season."""
WIDE_SEASONS = {"hourly": 24, "monthly": 12, "quarterly": 4}
"""The same by the first word of a wide file's name, as M4 counts them; 1 for all others."""
MONTH = timedelta(days=30.44)


@dataclass(kw_only=True)
class Columns:
    """Which columns of a long table are what."""

    id_column: str = "unique_id"
    """Column that names the series."""
    time_column: str = "ds"
    """Column of times: dates, or whole numbers."""
    target_column: str = "y"
    """Column of values, which are to be forecast."""
    static: tuple[str, ...] = ()
    """Columns that say something of a whole series: numbers or words."""
    past: tuple[str, ...] = ()
    """Columns of numbers known up to the present, as the values are."""
    ahead: tuple[str, ...] = ()
    """Columns of numbers known ahead; rows with an empty value behind the last one hold those of the future."""
    fill_gaps: bool = False
    """Put the value before where one is missing, which otherwise is a mistake."""


@dataclass(frozen=True)
class Series:
    """One series, its values at equal steps of time."""

    name: str
    values: np.ndarray  # [N]
    past: np.ndarray  # [N, P]
    ahead: np.ndarray  # [N + F, K], F steps into the future
    static: tuple[str, ...]
    times: pl.Series  # [N]
    step: Any
    """The time between two values."""
    test_from: int
    """So many values come from files that are not for testing alone."""

    def times_behind(self, end: int, count: int) -> pl.Series:
        """The times of `count` values from number `end` on, as far as they are known or follow from the last."""
        known = self.times[end : end + count]
        last, missing = self.times[-1], count - len(known)
        if isinstance(self.step, timedelta) and self.step >= timedelta(days=28):
            return known.append(_months_behind(last, round(self.step / MONTH), missing))
        return known.append(pl.Series([last + self.step * (k + 1) for k in range(missing)], dtype=known.dtype))


def of_numbers(values: Sequence[float], name: str = "series") -> Series:
    """Bare values as a series."""
    y = np.asarray(values, np.float64)
    if y.ndim != 1 or not len(y) or not np.isfinite(y).all():
        raise ConveyorError(f"[series] {name}: expected one finite number or more in a row, got {values!r}")
    nothing = np.zeros((len(y), 0))
    return Series(name, y, nothing, nothing, (), pl.Series(range(1, len(y) + 1)), 1, len(y))


def season_of(paths: Sequence[Path], series: Sequence[Series]) -> int:
    """Steps in a season: what the time between two values suggests, or the name of a wide file."""
    step = series[0].step
    if isinstance(step, timedelta):
        return next((season for length, season in SEASONS if 0.9 * length <= step <= length), 1)
    return WIDE_SEASONS.get(paths[0].stem.split("-")[0].lower(), 1)


def read(paths: Sequence[Path], columns: Columns, bad: BadRecords, limit: int | None = None) -> list[Series]:
    """All series of the files, sorted by the place of their first rows; those of the same name are joined."""
    if not paths:
        raise ConveyorError("[series] no data; give --data a CSV or Parquet file, or one of a public set")
    tests = ["test" in path.stem.lower() for path in paths]
    order = sorted(range(len(paths)), key=tests.__getitem__)
    frames: list[pl.DataFrame] = []
    for n in order:
        table, marks = _table(paths[n]), {"#file": str(paths[n]), "#test": tests[n] and not all(tests)}
        long = _from_wide(table, columns, frames) if table.columns[0] == "V1" else _checked(paths[n], table, columns)
        frames.append(long.with_columns(**{name: pl.lit(value) for name, value in marks.items()}))
    return from_frame(pl.concat(frames, how="vertical_relaxed"), columns, bad, limit)


def from_frame(frame: pl.DataFrame, columns: Columns, bad: BadRecords, limit: int | None = None) -> list[Series]:
    """The series of a long table."""
    if "#line" not in frame.columns:
        marks = {"#file": pl.lit("the table"), "#test": pl.lit(False), "#cell": pl.lit(columns.target_column)}
        frame = _checked(Path("the table"), frame.with_columns(pl.int_range(1, pl.len() + 1).alias("#line")), columns)
        frame = frame.with_columns(**marks)
    numbers = [columns.target_column, *columns.past, *columns.ahead]
    parsed = [pl.col(name).cast(pl.Float64, strict=False).alias(f"#{name}") for name in numbers]
    frame = frame.with_columns(*parsed, _times(frame[columns.time_column]).alias("#time"))
    frame = frame.filter(~pl.col("#test").all().over(columns.id_column))  # nothing is known of what it goes on from
    parts = frame.partition_by(columns.id_column, maintain_order=True)[:limit]
    steps = frame.sort("#time").select(pl.col("#time").diff().over(columns.id_column)).to_series().drop_nulls()
    step = steps.mode().sort()[0] if len(steps) else 1  # for series too short to tell
    found: list[Series] = []
    for part in parts:
        with bad.record():
            found.append(_one(part, columns, step))
    if not found:
        raise ConveyorError(f"[series] {frame['#file'][0]}: no series left{bad.summary()}")
    return found


def _table(path: Path) -> pl.DataFrame:
    """A file, what is CSV as text, and the line of each row."""
    if path.is_dir():
        inside = ", ".join(sorted(file.name for file in path.iterdir())[:9])
        raise ConveyorError(f"[series] {path}: expected a file, got a folder; give one or some of: {inside}")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = pl.read_parquet(path)
        else:
            frame = pl.read_csv(path, infer_schema_length=0, separator=_separator(path))
    except OSError as error:
        raise ConveyorError(f"[series] {path}: cannot be read ({error}); check the path and its permissions") from None
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise ConveyorError(
            f"[series] {path}: expected a table, CSV or Parquet, but: {reason}; mend the file"
        ) from None
    if frame.is_empty():
        raise ConveyorError(f"[series] {path}: the table has no rows; give one with values in it")
    return frame.with_columns(pl.int_range(2, pl.len() + 2).alias("#line"))


def _separator(path: Path) -> str:
    """Comma, semicolon or tab: what the header has most of."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return max(",;\t", key=lines.readline().count)


def _checked(path: Path, frame: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """A long table with the columns that are wanted, and no others."""
    needed = [columns.id_column, columns.time_column, columns.target_column]
    wanted = list(dict.fromkeys([*needed, *columns.static, *columns.past, *columns.ahead]))
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        have = ", ".join(name for name in frame.columns[:12] if not name.startswith("#"))
        raise ConveyorError(
            f"[series] {path}: expected the columns {', '.join(wanted)}; {', '.join(missing)} missing, got: {have}; "
            "rename yours, or train with --id-column, --time-column, --target-column"
        )
    without = frame[columns.id_column].is_null().arg_true()
    if len(without):
        raise ConveyorError(f"[series] {path}, line {frame['#line'][without[0]]}: no name in {columns.id_column}")
    return frame.select(*wanted, "#line", pl.lit(columns.target_column).alias("#cell"))


def _from_wide(table: pl.DataFrame, columns: Columns, before: list[pl.DataFrame]) -> pl.DataFrame:
    """A wide table as a long one; the series it has in common with those `before` go on there."""
    name, time, target = columns.id_column, columns.time_column, columns.target_column
    long = table.unpivot(index=["V1", "#line"], variable_name="#cell", value_name=target).rename({"V1": name})
    long = long.with_columns((pl.int_range(1, pl.len() + 1).over("#line")).alias(time))
    end = pl.col(time).filter(pl.col(target).is_not_null()).max().over("#line").fill_null(1)
    long = long.filter(pl.col(time) <= end)
    if before:
        counts = pl.concat(before).group_by(name).agg(pl.col(time).max().alias("#before"))
        long = long.join(counts, on=name, how="inner").with_columns(pl.col(time) + pl.col("#before"))
    return long.sort("#line", time).select(name, time, target, "#line", "#cell")


def _times(times: pl.Series) -> pl.Series:
    """Whole numbers, dates, or dates with hours; null where it is none of them."""
    if times.dtype != pl.String:
        return times
    numbers = times.cast(pl.Int64, strict=False)
    if numbers.null_count() == times.null_count():
        return numbers
    try:
        moments = times.str.to_datetime(strict=False)
    except pl.exceptions.ComputeError:  # not one looks like a date
        return numbers
    days = moments.dt.date()
    return days if (moments == days.cast(moments.dtype)).all() else moments


# One series


def _one(part: pl.DataFrame, columns: Columns, usual: Any) -> Series:
    """The rows of one series, checked."""
    name = str(part[columns.id_column][0])
    _refuse_unread(part, columns)
    _refuse_changing(part, name, columns)
    part = part.sort("#time", maintain_order=True)
    places, step = _steps(part, usual, name, columns)
    tested = part["#test"].to_numpy()
    if (np.diff(tested.astype(int)) < 0).any():
        row = int(tested.argmax())
        raise ConveyorError(
            f"{_where(part, row)}: series {name}: a test row lies before the end of what is learned; mend its time"
        )
    P, names = len(columns.past), [columns.target_column, *columns.past, *columns.ahead]
    table = part.select(pl.col(f"#{column}").fill_null(np.nan) for column in names).to_numpy().astype(np.float64)
    there = np.flatnonzero(np.isfinite(table[:, 0]))
    count = int(there[-1]) + 1 if columns.ahead and len(there) else len(table)
    table[count:, : 1 + P] = 0  # the future knows only what is known ahead
    _refuse_missing(part, table, name, columns)
    rows = np.searchsorted(places, np.arange(places[-1] + 1), side="right") - 1  # in a gap, the row before it
    table, end = _filled(table)[rows], int(places[count - 1]) + 1
    return Series(
        name,
        values=table[:end, 0],
        past=table[:end, 1 : 1 + P],
        ahead=table[:, 1 + P :],
        static=tuple(str(part[column][0]) for column in columns.static),
        times=part["#time"].gather(rows[:end]),
        step=step,
        test_from=min(int(places[(~tested).sum() - 1]) + 1, end),
    )


def _refuse_unread(part: pl.DataFrame, columns: Columns) -> None:
    """Cells that are no numbers, no times."""
    for column in [columns.target_column, *columns.past, *columns.ahead]:
        wrong = (part[f"#{column}"].is_null() & part[column].is_not_null()).arg_true()
        if len(wrong):
            cell = part["#cell"][wrong[0]] if column == columns.target_column else column
            got = part[column][wrong[0]]
            raise ConveyorError(f"{_where(part, wrong[0])}, {cell}: expected a number, got {got!r}; mend the cell")
    wrong = part["#time"].is_null().arg_true()
    if len(wrong):
        got = part[columns.time_column][wrong[0]]
        raise ConveyorError(
            f"{_where(part, wrong[0])}, {columns.time_column}: expected a date or a whole number, got {got!r}; "
            "mend the cell"
        )


def _refuse_changing(part: pl.DataFrame, name: str, columns: Columns) -> None:
    """What is to be static and is not."""
    for column in columns.static:
        other = (part[column] != part[column][0]).fill_null(True).arg_true()
        if len(other) and part[column].n_unique() > 1:
            raise ConveyorError(
                f"{_where(part, other[0])}, {column}: series {name}: expected {part[column][0]!r} in all its rows, got "
                f"{part[column][other[0]]!r}; mend the cell, or train with {column} among --past or --ahead"
            )


def _refuse_missing(part: pl.DataFrame, table: np.ndarray, name: str, columns: Columns) -> None:
    """Values that are not there."""
    wrong = ~np.isfinite(table)
    allowed = columns.fill_gaps and not wrong[0].any() and not np.isinf(table).any()
    if wrong.any() and not allowed:
        row, place = np.argwhere(wrong)[0]
        names = [part["#cell"][int(row)], *columns.past, *columns.ahead]
        got = "nothing" if np.isnan(table[row, place]) else str(table[row, place])
        raise ConveyorError(
            f"{_where(part, int(row))}, {names[place]}: series {name}: expected a finite number, got {got}; "
            "fill it in, or train with --fill-gaps"
        )


def _steps(part: pl.DataFrame, usual: Any, name: str, columns: Columns) -> tuple[np.ndarray, Any]:
    """The place of each row on an even grid of time, and the grid's step."""
    times = part["#time"]
    differences = times.diff().drop_nulls()
    if not len(differences):
        return np.zeros(1, np.int64), usual
    numbers = differences.to_physical().to_numpy()
    middle = int(numbers.argsort()[len(numbers) // 2])  # the median; months are nearly even
    step, ratio = differences[middle], numbers / max(numbers[middle], 1)
    for row, steps in enumerate(ratio, 1):
        if steps == 0:
            raise ConveyorError(f"{_where(part, row)}: series {name} has {times[row]} twice; keep one of the rows")
        if steps < 0.75 or (steps > 1.25 and not columns.fill_gaps):
            what = "a gap" if steps > 1 else "uneven steps"
            remedy = "put in what is missing, or train with --fill-gaps" if steps > 1 else "mend the times"
            raise ConveyorError(
                f"{_where(part, row)}: {what}: series {name}: expected a step of {_in_words(step)} behind "
                f"{times[row - 1]}, got {times[row]}; {remedy}"
            )
    return np.concatenate([[0], np.cumsum(np.round(ratio).astype(np.int64))]), step


def _in_words(step: Any) -> str:
    """A time between two values: a number, or the largest unit that goes into it."""
    if not isinstance(step, timedelta):
        return str(step)
    units = {"day": timedelta(days=1), "hour": timedelta(hours=1), "minute": timedelta(minutes=1)}
    name = next((name for name, unit in units.items() if step % unit == timedelta(0)), "second")
    count = step / units.get(name, timedelta(seconds=1))
    return f"{count:g} {name}{'s' * (count != 1)}"


def _filled(table: np.ndarray) -> np.ndarray:
    """NaN made the number above."""
    rows = np.where(np.isnan(table), 0, np.arange(len(table))[:, None])
    return np.take_along_axis(table, np.maximum.accumulate(rows, 0), 0)


def _where(part: pl.DataFrame, row: int) -> str:
    return f"[series] {part['#file'][row]}, line {part['#line'][row]}"


def _months_behind(last: Any, months: int, count: int) -> pl.Series:
    """Months are of unequal lengths, and what stands at the end of one goes on at the end of the next."""
    start = pl.Series([last] * count)
    behind = start.dt.offset_by(pl.Series([f"{months * (k + 1)}mo" for k in range(count)], dtype=pl.String))
    return behind.dt.month_end() if count and start.dt.month_end()[0] == last else behind
