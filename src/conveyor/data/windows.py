"""Stretches of time series side by side: what a network reads, and what it is to forecast behind each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from conveyor.data.batches import Batches, pad
from conveyor.data.series import Columns, Series
from conveyor.errors import ConveyorError


class Row(NamedTuple):
    """The steps `start` … `end` - 1 of a series are read; behind each of `first` values or more comes a forecast."""

    series: int
    start: int
    first: int
    end: int


class Stretch(NamedTuple):
    """B rows of T steps at most, with W - 1 values before the first step and h behind the last.

    Before its beginning a series is as its first value, behind its end it is NaN.
    """

    values: Tensor  # [W - 1 + T + h, B]
    lengths: Tensor  # [B]
    first: Tensor  # [B], the values before the first forecast, of those read
    past: Tensor  # [T, B, P]
    ahead: Tensor  # [T + h, B, K]
    static: Tensor  # [B, S]
    naive: Tensor  # [B], the mean error of the seasonal naive forecast before the end: the denominator of MASE
    scored: bool


class Scales:
    """How covariates become numbers of about one.

    `numbers` has the mean and the deviation of each column of numbers, `words` what is told apart in each of words; a
    word that is not among them is none of them.
    """

    def __init__(self, numbers: dict[str, list[float]], words: dict[str, list[str]], columns: Columns) -> None:
        self.numbers, self.words, self.columns = numbers, words, columns

    @classmethod
    def of(cls, series: Sequence[Series], ends: Sequence[int], columns: Columns) -> Scales:
        """Those of the values that may be learned from, up to the `ends`."""
        numbers: dict[str, list[float]] = {}
        words: dict[str, list[str]] = {}
        past, ahead = (
            np.concatenate([table[:end] for table, end in zip(tables, ends, strict=True)])
            for tables in ([one.past for one in series], [one.ahead for one in series])
        )
        for names, values in ((columns.past, past), (columns.ahead, ahead)):
            numbers |= {name: _moments(values[:, n]) for n, name in enumerate(names)}
        for n, name in enumerate(columns.static):
            found = [one.static[n] for one in series]
            try:
                numbers[name] = _moments(np.array(found, np.float64))
            except ValueError:  # not all are numbers
                words[name] = sorted(set(found))
        return cls(numbers, words, columns)

    @classmethod
    def from_json(cls, values: Any, columns: Columns) -> Scales:
        """Out of a file, which may be damaged."""
        numbers, words = (values.get(name) if isinstance(values, dict) else None for name in ("numbers", "words"))
        if not (isinstance(numbers, dict) and isinstance(words, dict)):
            numbers, words = {}, {}
        sound = (
            all(isinstance(row, list) and len(row) == 2 and row[1] > 0 for row in numbers.values())
            and all(isinstance(row, list) for row in words.values())
            and all(name in numbers for name in (*columns.past, *columns.ahead))
            and all(name in numbers or name in words for name in columns.static)
        )
        if not sound:
            raise ConveyorError("[bundle] facts: expected the scales of every covariate; copy model.json again")
        return cls(numbers, words, columns)

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {"numbers": self.numbers, "words": self.words}

    @property
    def static_size(self) -> int:
        """S."""
        return sum(len(self.words.get(name, "1")) for name in self.columns.static)

    def past(self, values: np.ndarray) -> np.ndarray:
        """The columns known up to the present [T, P]."""
        return self._scaled(values, self.columns.past)

    def ahead(self, values: np.ndarray) -> np.ndarray:
        """The columns known ahead [T, K]."""
        return self._scaled(values, self.columns.ahead)

    def _scaled(self, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
        moments = np.array([self.numbers[name] for name in names]).reshape(-1, 2)
        scaled: np.ndarray = (values - moments[:, 0]) / moments[:, 1]
        return scaled.astype(np.float32)

    def static(self, one: Series) -> np.ndarray:
        """What is said of a whole series [S]."""
        row: list[float] = []
        for name, text in zip(self.columns.static, one.static, strict=True):
            if name in self.words:
                row += [float(text == word) for word in self.words[name]]
                continue
            mean, deviation = self.numbers[name]
            try:
                row.append((float(text) - mean) / deviation)
            except ValueError:
                raise ConveyorError(
                    f"[series] {one.name}, {name}: expected a number, as in training, got {text!r}"
                ) from None
        return np.array(row, np.float32)


class Windows:
    """All series, from which rows are cut."""

    def __init__(self, series: Sequence[Series], window: int, horizon: int, season: int, scales: Scales) -> None:
        self.series, self.scales = list(series), scales
        self.window, self.horizon, self.season = window, horizon, season

    def stretch(self, rows: Sequence[Row], scored: bool = True) -> Stretch:
        """The rows side by side, in their order."""
        cut = [(self.series[row.series], row) for row in rows]
        return Stretch(
            torch.from_numpy(pad([self._values(one, row) for one, row in cut], np.nan)),
            torch.tensor([row.end - row.start for row in rows]),
            torch.tensor([row.first - row.start for row in rows]),
            torch.from_numpy(pad([self.scales.past(one.past[row.start : row.end]) for one, row in cut])),
            torch.from_numpy(pad([self._ahead(one, row) for one, row in cut])),
            torch.from_numpy(np.stack([self.scales.static(one) for one, _ in cut])),
            torch.tensor([self._naive_error(one.values[: row.end]) for one, row in cut]),
            scored,
        )

    def _ahead(self, one: Series, row: Row) -> np.ndarray:
        known = self.scales.ahead(one.ahead[row.start : row.end + self.horizon])
        unknown = row.end + self.horizon - row.start - len(known)  # no column is known ahead, or it was refused before
        return np.pad(known, ((0, unknown), (0, 0)))

    def _values(self, one: Series, row: Row) -> np.ndarray:
        places = np.arange(row.start - self.window + 1, row.end + self.horizon).clip(0, len(one.values))
        values: np.ndarray = np.append(one.values, np.nan)[places]
        return values.astype(np.float32)

    def _naive_error(self, seen: np.ndarray) -> float:
        m = self.season
        return float(np.abs(seen[m:] - seen[:-m]).mean()) if len(seen) > m else 0.0


class Part(Batches):
    """Rows in batches; the training part, which has a seed, is not scored in full."""

    def __init__(self, windows: Windows, rows: Sequence[Row], size: int, seed: int | None = None) -> None:
        self.windows, self.rows = windows, rows
        lengths = [row.end - row.start for row in rows]
        super().__init__(lengths, size, lambda numbers: windows.stretch([rows[n] for n in numbers], seed is None), seed)


class Cuts(NamedTuple):
    """Where the parts of a series begin and end: whole horizons at its end are tested on, those before to choose by."""

    horizon: int
    stride: int
    """Steps from one forecast of these parts to the next."""
    history: int
    """Steps read before a forecast, at most."""
    valid_share: float
    test_share: float

    def test_of(self, one: Series) -> int:
        """How many values come before the test part: those of files that are not for testing, or by share."""
        N = len(one.values)
        return one.test_from if one.test_from < N else max(1, N - self._whole(self.test_share * N))

    def split(self, number: int, one: Series, window: int) -> tuple[list[Row], ...]:
        """The rows of a series to train on, to choose by and to test on."""
        h, N, test = self.horizon, len(one.values), self.test_of(one)
        valid = max(0, test - self._whole(self.valid_share * test))
        if valid <= h or N - test < h:
            raise ConveyorError(
                f"[data] series {one.name} is too short: expected {3 * h + 1:,} values or more, which is more than {h} "
                f"to learn from, and {h} each to choose by and to test on, got {N:,}, of which {valid}, {test - valid} "
                f"and {N - test} are for that; lower --horizon, or leave the series out"
            )
        return (
            self.pieces(number, valid - h, window),
            self.backtest(number, valid, test),
            self.backtest(number, test, N),
        )

    def pieces(self, number: int, end: int, window: int) -> list[Row]:
        """Rows that together have a forecast once behind each step, up to `end` values.

        It needs a whole window before it, but of a short series half of what there is will do.
        """
        warm = min(window, max(end // 2, 1), self.history)
        firsts = range(warm, end + 1, self.history - warm + 1)
        return [Row(number, first - warm, first, min(end, first - warm + self.history)) for first in firsts]

    def backtest(self, number: int, start: int, end: int) -> list[Row]:
        """Forecasts behind `start` values and on from there, of what comes before `end`."""
        return [self.behind(number, known) for known in range(start, end - self.horizon + 1, self.stride)]

    def behind(self, number: int, known: int) -> Row:
        """The forecast behind so many values."""
        return Row(number, max(0, known - self.history), known, known)

    def _whole(self, values: float) -> int:
        """As many whole horizons as fit into so many values, but one at least."""
        return self.horizon * max(1, int(values) // self.horizon)


def _moments(values: np.ndarray) -> list[float]:
    deviation = float(values.std())
    return [float(values.mean()), deviation if deviation > 0 else 1.0]
