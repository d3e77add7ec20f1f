"""Forecasting: the next values of many time series, with intervals, from one network.

The task, as in S. Smyl 2020 (A hybrid method of exponential smoothing and recurrent neural networks for time series
forecasting, which won the M4 competition) and D. Salinas et al. 2020 (DeepAR, arXiv 1704.04110): one network reads all
series of a set, each in units of its own near past, and forecasts `horizon` steps at once behind every step. What Smyl
smooths away series by series is here given to the network: it sees the last `window` values at each step, levelled and
scaled, and its forecast is a correction of the season before.

    conveyor train forecasting --data sales.csv --horizon 28 --ahead promotion holiday --static shop
    conveyor evaluate runs/forecasting/TIME
    conveyor predict runs/forecasting/TIME sales.csv -o forecasts.parquet
    conveyor predict runs/forecasting/TIME sales.csv --backtest 4 -o backtest.csv

Data: CSV or Parquet, long (unique_id, ds, y and covariates; options name the columns) or wide (M4's files).

M4 Hourly, 48 hours ahead (test sMAPE 8.73, MASE 0.855 after 10 minutes on one core; seasonal naive 13.912 and 1.193,
M4's own RNN 14.698 and 3.048, Smyl's winner, an ensemble, 9.328 and 0.893):

    conveyor train forecasting --data m4/Hourly-train.csv m4/Hourly-test.csv --valid-share 0.05 --batch-size 4

Scores, means over series, forecasts and steps ahead: `smape`, 200 |y - f| / (|y| + |f|) percent as M4 has it; `mase`,
|y - f| over the mean error of the seasonal naive forecast on all values before (a series that never changes has none);
`wql`, twice the pinball loss over the sum of |y|, the mean over the quantiles; `coverage_80`, percent of values inside
that interval; `loss`, the head's own; `naive_smape` and `naive_mase`, those of the season before. f is the median.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from conveyor.data import series as tables
from conveyor.data.distributions import Frame, Head, Quantiles, Transform, head_named, levels_of
from conveyor.data.records import BadRecords
from conveyor.data.series import Columns, Series
from conveyor.data.windows import Cuts, Part, Row, Scales, Stretch, Windows
from conveyor.errors import ConveyorError
from conveyor.nn.dilated import DilatedLSTM
from conveyor.training import files
from conveyor.training.fan_chart import fan_chart
from conveyor.training.options import (
    Count,
    Number,
    Range,
    ReadingOptions,
    Share,
    Size,
    TrainingOptions,
    VariantName,
    Whole,
    check,
    from_json,
)
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps, Sums
from conveyor.variant import variant_named

UNIT = "steps"
ENDINGS: tuple[str, ...] = (".csv", ".parquet", ".pq")
SCORED = 64
"""Rows side by side where no gradient is wanted; the scores do not depend on it."""
REPORTED = 1000
"""Forecasts the report is made from, at most."""
SMALLEST_SCALE = 0.01
"""Added to the scale of a window, so that one that is constant has one: a hundredth of its size."""

Percent = Annotated[float, Range("a number between 0 and 100", 0, 100, open=True)]


@dataclass(kw_only=True)
class Config:
    """Train a forecaster.

    Data: CSV or Parquet; long, with columns of names, times and values, or wide as M4's files. A file with "test" in
    its name goes on where the others end, and is the test part; without one, the end of every series is: --test-share
    of it, in whole horizons, one at least. What is before that is to choose by: --valid-share of it, likewise. --limit
    counts series.
    """

    horizon: Count | None = None
    """Steps to forecast; if not given, as many as a test file has, or two seasons."""
    season: Count | None = None
    """Steps after which values come again: of the naive forecast, and of the scale of MASE; if not given, guessed from
    the time between two values: 24 hours, 7 days, 12 months, 4 quarters, else 1."""
    window: Count | None = None
    """Values of the near past that the network sees at every step; if not given, 168 hours, or two seasons, or
    the horizon if that is more."""
    history: Count = 1000
    """Steps read before a forecast, at most."""
    stride: Count | None = None
    """Steps from one forecast to the next where several are tested; the horizon if not given."""
    head: Literal["point", "quantile", "gaussian", "student-t", "negative-binomial"] = "quantile"
    """What is forecast: one value, quantiles, or a distribution; negative-binomial is for counts."""
    intervals: tuple[Percent, ...] = (50.0, 80.0, 95.0)
    """Central intervals in percent, which are forecast and scored."""
    transform: Literal["auto", "log", "log1p", "none"] = "auto"
    """What is done to values first; auto takes log if all are above zero, log1p if none is below, else none."""
    hidden_size: Size = 64
    """Units in a layer."""
    dilations: tuple[Count, ...] = (1, 4, 24)
    """Layers, one upon the other; one with dilation d goes on at step t with the state of step t - d."""
    dropout: Share = 0.0
    """Share dropped between layers and before the output."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    columns: Columns = field(default_factory=Columns)
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            batch_size=8,
            epochs=40,
            learning_rate=0.01,
            schedule="cosine",
            clip_norm=1.0,
            average="ema",
            average_decay=0.99,
        )
    )

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        if not self.dilations:
            yield "--dilations: expected one layer or more"
        if self.window and self.season and self.window < self.season:
            yield f"--window: expected --season, {self.season}, or more, got {self.window}"
        if self.head == "negative-binomial" and self.transform == "none":
            yield "--transform: expected auto, log or log1p with --head negative-binomial, got none"


# Reading


@dataclass(kw_only=True)
class Facts:
    """What network and prediction must know of the data, besides the scales of its covariates."""

    horizon: Count
    season: Count
    window: Count
    transform: Literal["log", "log1p", "none"]
    floor: Number
    """The smallest value seen in training."""

    def __post_init__(self) -> None:
        check(self)


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read all series; their ends are tested on, what is before these to choose by, and the rest to learn from."""
    bad = BadRecords(config.reading.skip_bad)
    paths = [Path(path) for path in config.reading.data]
    found = tables.read(paths, config.columns, bad, config.reading.limit)
    digest = hashlib.sha256(b"".join(one.name.encode() + one.values.tobytes() for one in found)).hexdigest()
    if facts is None:
        facts = learn(config, paths, found) | {"sha256": digest}
    elif facts.get("sha256") != digest:
        raise ConveyorError("[data] these are not the series this run was trained on; restore them, or start a new run")
    windows = windows_of(config, facts, [])
    cuts = cuts_of(config, windows.horizon)
    rows: tuple[list[Row], ...] = [], [], []
    for one in found:
        with bad.record():
            for part, more in zip(rows, cuts.split(len(windows.series), one, windows.window), strict=True):
                part += more
            windows.series.append(one)
    if not windows.series:
        raise ConveyorError(f"[data] no series left to learn from{bad.summary()}")
    train = Part(windows, rows[0], config.training.batch_size, config.training.seed)
    valid, test = (Part(windows, part, SCORED) for part in rows[1:])
    values = sum(len(one.values) for one in windows.series)
    tests = f"{len(valid.rows):,} + {len(test.rows):,} forecasts of {windows.horizon} steps to validate, test"
    return Data(train, valid, test, facts, f"{len(windows.series):,} series, {values:,} values; {tests}{bad.summary()}")


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Part:
    """The test file, or the ends, of other series."""
    found = tables.read([Path(path) for path in data], config.columns, bad, config.reading.limit)
    windows = windows_of(config, facts, found)
    cuts = cuts_of(config, windows.horizon)
    rows = [
        row for number, one in enumerate(found) for row in cuts.backtest(number, cuts.test_of(one), len(one.values))
    ]
    if not rows:
        raise ConveyorError(f"[data] no series has more than the {windows.horizon} values of a forecast{bad.summary()}")
    return Part(windows, rows, SCORED)


def learn(config: Config, paths: Sequence[Path], found: Sequence[Series]) -> dict[str, Any]:
    """What is to be known of the data; options that are not given are guessed from it."""
    season = config.season or tables.season_of(paths, found)
    tests = [len(one.values) - one.test_from for one in found if one.test_from < len(one.values)]
    horizon = config.horizon or min(tests, default=2 * season)
    window = max(config.window or (168 if season == 24 else max(2 * season, horizon)), season, 2)
    ends = [cuts_of(config, horizon).test_of(one) for one in found]
    low = min(float(one.values[:end].min()) for one, end in zip(found, ends, strict=True))
    if config.head == "negative-binomial" and any(low < 0 or (one.values % 1).any() for one in found):
        raise ConveyorError("[data] --head negative-binomial: expected whole numbers, 0 or more; take another head")
    fitting: Literal["log", "log1p", "none"] = "log" if low > 0 else "log1p" if low == 0 else "none"
    kind = fitting if config.transform == "auto" else config.transform
    if (kind == "log" and low <= 0) or (kind == "log1p" and low <= -1):
        raise ConveyorError(f"[data] --transform {kind}: the smallest value is {low:g}; take --transform {fitting}")
    plain = Facts(horizon=horizon, season=season, window=window, transform=kind, floor=low)
    return asdict(plain) | {"covariates": Scales.of(found, ends, config.columns).to_json()}


def known(config: Config, facts: dict[str, Any]) -> tuple[Facts, Scales]:
    """The facts out of a file, which may be damaged."""
    fields = Facts.__annotations__
    missing = [name for name in (*fields, "covariates") if name not in facts]
    if missing:
        raise ConveyorError(f"[bundle] facts: expected {', '.join(missing)}; copy model.json again")
    plain = from_json(Facts, {name: facts[name] for name in fields}, "facts")
    return plain, Scales.from_json(facts["covariates"], config.columns)


def windows_of(config: Config, facts: dict[str, Any], found: Sequence[Series]) -> Windows:
    """Series, ready to be cut up for the network."""
    plain, scales = known(config, facts)
    return Windows(found, plain.window, plain.horizon, plain.season, scales)


def cuts_of(config: Config, horizon: int) -> Cuts:
    """Where the parts of a series begin and end."""
    reading = config.reading
    return Cuts(horizon, config.stride or horizon, config.history, reading.valid_share, reading.test_share)


# Network, loss and scores


class Forecast(NamedTuple):
    """M forecasts of a stretch: at the steps `chosen` [T, B], in order of time."""

    chosen: Tensor
    numbers: Tensor  # [M, h, P], for the head
    anchor: Tensor  # [M, h], z of the season before
    frame: Frame


class Network(nn.Module):
    """Dilated LSTMs (Chang et al. 2017), each but the first beside a way around it, over normalised windows.

    What step t sees of a series x = transform(y) is its window w = x_{t-W+1} … x_t as z = (w - centre) / scale, by the
    mean of its last season and the mean deviation from it. Out comes, for each of the next h values,

        z_{t+k} = z of the last season + V [h_t; input] + b,    k = 1 … h

    and what more the head wants. The weights see no level and no unit, so one network serves all series.
    """

    def __init__(self, config: Config, facts: dict[str, Any]) -> None:
        super().__init__()
        plain, scales = known(config, facts)
        self.window, self.horizon, self.season = plain.window, plain.horizon, plain.season
        self.transform = Transform(plain.transform, plain.floor)
        self.head: Head = head_named(config.head, levels_of(config.intervals))
        covariates = len(config.columns.past) + len(config.columns.ahead) * (1 + self.horizon) + scales.static_size
        I, H = self.window + 1 + covariates, config.hidden_size
        bias = 1.0 if "f" in variant_named(config.variant).gates else None
        self.lstm = DilatedLSTM(I, H, config.dilations, config.dropout, variant=config.variant, forget_bias=bias)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(H + I, self.horizon)
        nn.init.uniform_(self.output.weight, -0.01, 0.01)  # the first forecast is nearly the naive one
        nn.init.zeros_(self.output.bias)
        more = self.head.numbers - 1
        self.spread = nn.Linear(H + I, self.horizon * more) if more else None

    def forward(self, stretch: Stretch) -> Forecast:
        """The forecasts behind each row's `first` values, and on to its end."""
        T = len(stretch.past)
        x = self.transform.into(stretch.values[: T + self.window - 1].nan_to_num(1.0))  # NaN is behind the end
        windows = x.unfold(0, self.window, 1)  # [T, B, W]
        centre = windows[..., -self.season :].mean(-1, keepdim=True)
        unit = torch.ones_like(centre)
        if self.transform.kind == "none":
            unit = windows.abs().mean(-1, keepdim=True).clamp_min(1e-6)
        scale = (windows - centre).abs().mean(-1, keepdim=True) + SMALLEST_SCALE * unit
        z = (windows - centre) / scale
        ahead = stretch.ahead.unfold(0, self.horizon + 1, 1).flatten(2)  # [T, B, K (1 + h)]
        static = stretch.static.expand(T, *stretch.static.shape)
        inputs = torch.cat([z, (scale / unit).log(), stretch.past, ahead, static], -1)
        hidden = self.dropout(self.lstm(inputs, stretch.lengths))
        steps = torch.arange(T, device=x.device).unsqueeze(1)
        chosen = (steps >= stretch.first - 1) & (steps < stretch.lengths)
        seen = torch.cat([hidden[chosen], inputs[chosen]], -1)
        numbers = self.output(seen).unsqueeze(-1)
        if self.spread:
            apart = seen.detach() if isinstance(self.head, Quantiles) else seen  # see there
            numbers = torch.cat([numbers, self.spread(apart).unflatten(-1, (self.horizon, -1))], -1)
        season = self.window - self.season + torch.arange(self.horizon, device=x.device) % self.season
        frame = Frame(centre[chosen], scale[chosen], self.transform)
        return Forecast(chosen, numbers, z[chosen][:, season], frame)


class Ensemble(nn.Module):
    """Several networks as one: the mean of their numbers."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        first = networks[0]
        assert isinstance(first, Network)
        self.head = first.head

    def forward(self, stretch: Stretch) -> Forecast:
        """As one network."""
        forecasts = [network(stretch) for network in self.networks]
        first: Forecast = forecasts[0]
        return first._replace(numbers=torch.stack([one.numbers for one in forecasts]).mean(0))


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    return Network(config, facts)


def ensemble(networks: Sequence[nn.Module]) -> Ensemble:
    """Networks of several trainings as one."""
    return Ensemble(networks)


def loss(config: Config, network: nn.Module, batch: Stretch, carried: None) -> Outcome:
    """The head's loss over all forecasts of a batch."""
    assert isinstance(network, (Network, Ensemble))
    forecast: Forecast = network(batch)
    M, h = forecast.anchor.shape
    chosen = forecast.chosen
    y = batch.values[len(batch.values) - len(chosen) - h + 1 :].unfold(0, h, 1)[chosen]
    each = network.head.loss(forecast.numbers, forecast.anchor, y, forecast.frame)
    levels = levels_of(config.intervals) if batch.scored and config.head != "point" else (0.5,)
    quantiles = network.head.at(levels, forecast.numbers.detach(), forecast.anchor, forecast.frame)
    naive = batch.naive.expand(len(chosen), -1)[chosen].unsqueeze(1)
    sums = measure(y, quantiles, levels, naive) | {
        "loss": each.detach().double().sum(), "steps": int(batch.lengths.sum())
    }  # fmt: skip
    if batch.scored:
        last = forecast.frame.y_of(forecast.anchor)
        sums |= {f"naive_{name}": value for name, value in measure(y, last.unsqueeze(-1), (0.5,), naive).items()}
    return Outcome(each.mean(), M * h, sums)


def measure(y: Tensor, quantiles: Tensor, levels: Sequence[float], naive: Tensor) -> Sums:
    """Sums of the errors of forecasts [M, h, Q] of y [M, h]; `naive` [M, 1] is the denominator of MASE."""
    middle, y = quantiles[..., levels.index(0.5)].double(), y.double()
    error = (y - middle).abs()
    scaled = naive > 0  # of a constant series MASE is not defined
    q = y.new_tensor(levels)
    above = y.unsqueeze(-1) - quantiles.double()
    sums: Sums = {
        "values": y.numel(),
        "smape": (200 * error / (y.abs() + middle.abs()).clamp_min(1e-12)).sum(),
        "mase": torch.where(scaled, error / naive, 0).sum(),
        "mase_values": scaled.sum() * y.shape[1],
        "wql": 2 * torch.maximum(q * above, (q - 1) * above).mean(-1).sum(),
        "size": y.abs().sum(),
    }
    for low, high in zip(levels[: len(levels) // 2], levels[::-1], strict=False):
        inside = (quantiles[..., levels.index(low)] <= y) & (y <= quantiles[..., levels.index(high)])
        sums[f"coverage_{100 * (high - low):.4g}"] = 100 * inside.sum()
    return sums


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """As the head of this file says; those of the naive forecast behind them."""
    divisors = {"mase": "mase_values", "naive_mase": "naive_mase_values", "wql": "size"}
    shown = ["smape", "mase", "wql", *(name for name in sums if name.startswith("coverage")), "loss"]
    shown += [name for name in ("naive_smape", "naive_mase") if name in sums]
    counts = {name: sums[divisors.get(name, "values")] for name in shown}
    return {name: sums[name] / counts[name] if counts[name] else math.nan for name in shown}


# Prediction


@dataclass(kw_only=True)
class PredictOptions:
    """Forecast what comes behind the last values of series: files as in training, polars frames, or bare numbers."""

    intervals: tuple[Percent, ...] = ()
    """Central intervals in percent; those of the training if not given."""
    backtest: Whole = 0
    """Forecast so many horizons of the past instead, and put beside them what came."""

    def __post_init__(self) -> None:
        check(self)


@dataclass
class Forecasts:
    """The forecasts of one input."""

    table: pl.DataFrame
    """A row a value: unique_id, ds, forecast (the median), lo_80, hi_80, …; of a backtest also cutoff and y."""

    def __str__(self) -> str:
        return self.table.write_csv(float_precision=6).rstrip()


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[Forecasts]:
    """Forecast all series of each input."""
    return [Forecasts(_predict(model, _series(model.config, given, bad), options)) for given in inputs]


def _series(config: Config, given: Any, bad: BadRecords) -> list[Series]:
    if isinstance(given, (str, Path)):
        return tables.read([Path(given)], config.columns, bad)
    if isinstance(given, pl.DataFrame):
        return tables.from_frame(given, config.columns, bad)
    return [tables.of_numbers(given)]


def _predict(model: Model, found: Sequence[Series], options: PredictOptions) -> pl.DataFrame:
    config, windows = model.config, windows_of(model.config, model.facts, found)
    h, cuts = windows.horizon, cuts_of(config, windows.horizon)
    rows = []
    for number, one in enumerate(found):
        N = len(one.values)
        start = N - h * min(options.backtest, (N - 1) // h)
        rows += cuts.backtest(number, start, N) or [cuts.behind(number, N)]
        if config.columns.ahead and len(one.ahead) < rows[-1].end + h:
            raise ConveyorError(
                f"[predict] series {one.name}: expected {', '.join(config.columns.ahead)} for {h} steps behind the "
                f"last value, got {len(one.ahead) - N}; add rows with an empty {config.columns.target_column}"
            )
    shares = options.intervals or config.intervals
    levels = (0.5,) if config.head == "point" else levels_of(shares)
    quantiles = forecast_rows(model, windows, rows, levels)
    names = [
        f"lo_{100 - 200 * q:g}" if q < 0.5 else "forecast" if q == 0.5 else f"hi_{200 * q - 100:g}" for q in levels
    ]
    return pl.concat(
        _table(found[row.series], row, h, bool(options.backtest)).with_columns(
            pl.Series(name, quantiles[n, :, q]) for q, name in enumerate(names)
        )
        for n, row in enumerate(rows)
    )


def _table(one: Series, row: Row, horizon: int, past: bool) -> pl.DataFrame:
    """The columns before the forecasts themselves."""
    table = pl.DataFrame({"unique_id": [one.name] * horizon, "ds": one.times_behind(row.end, horizon)})
    if past:
        came = pl.Series(np.append(one.values, [np.nan] * horizon)[row.end : row.end + horizon])
        table = table.with_columns(pl.lit(one.times[row.end - 1]).alias("cutoff"), came.alias("y"))
    return table


@torch.inference_mode()
def forecast_rows(model: Model, windows: Windows, rows: Sequence[Row], levels: Sequence[float]) -> np.ndarray:
    """Quantiles [R, h, Q] of what comes behind each row."""
    network = model.network
    assert isinstance(network, (Network, Ensemble))
    trained = getattr(network.head, "levels", (0.0, 1.0))
    if not trained[0] <= min(levels) <= max(levels) <= trained[-1]:
        raise ConveyorError(
            f"[predict] --intervals: this run forecasts quantiles from {trained[0]:g} to {trained[-1]:g}, got "
            f"{min(levels):g} to {max(levels):g}; train with these --intervals, or with --head student-t"
        )
    parts = []
    for place in range(0, len(rows), SCORED):
        forecast = network(windows.stretch(rows[place : place + SCORED]))
        quantiles = network.head.at(levels, forecast.numbers, forecast.anchor, forecast.frame)
        order = forecast.chosen.nonzero()[:, 1].argsort()  # they come in order of time
        parts.append(quantiles[order].numpy())
    return np.concatenate(parts)


def steps(model: Model, input: Any) -> Iterator[Steps]:
    """The first series, value by value, as far back as the forecast behind it looks."""
    one = _series(model.config, input, BadRecords(False, ""))[0]
    windows = windows_of(model.config, model.facts, [one])
    row = cuts_of(model.config, windows.horizon).behind(0, len(one.values))
    forecast_rows(model, windows, [row], (0.5,))
    times = [f"{time} {value:.5g}  " for time, value in zip(one.times, one.values, strict=True)][row.start :]
    yield Steps(times)
    for n, dilation in enumerate(model.config.dilations):
        yield Steps(times[::dilation], of=f"layers.{n}")  # one of the sequences that it reads side by side


def save(results: list[Forecasts], path: Path) -> None:
    """One table, as Parquet if the file's ending says so, else as CSV."""
    table, content = pl.concat([result.table for result in results], how="vertical_relaxed"), io.BytesIO()
    if path.suffix.lower() in (".parquet", ".pq"):
        table.write_parquet(content)
    else:
        table.write_csv(content)
    files.write(path, content.getvalue())


# Report


def show(model: Model, data: Data, folder: Path) -> str:
    """Fan charts of some test forecasts, and the errors by how far ahead."""
    assert isinstance(data.test, Part)
    windows, rows = data.test.windows, data.test.rows
    rows = [rows[n] for n in np.unique(np.linspace(0, len(rows) - 1, REPORTED).astype(int))]
    levels = (0.5,) if model.config.head == "point" else levels_of(model.config.intervals)
    quantiles = forecast_rows(model, windows, rows, levels)
    chosen = np.unique(np.linspace(0, len(rows) - 1, 6).astype(int))
    fan_chart(folder / "forecasts.png", windows, [rows[n] for n in chosen], quantiles[chosen], levels)
    h = windows.horizon
    bounds = np.unique(np.linspace(0, h, 5).astype(int))
    lines = ["| steps ahead | sMAPE % | MASE |", "|---|---|---|"]
    stretch = windows.stretch(rows)
    y = torch.from_numpy(np.stack([windows.series[row.series].values[row.end : row.end + h] for row in rows]))
    for a, b in itertools.pairwise(bounds):
        naive = stretch.naive.unsqueeze(1)
        sums = measure(y[:, a:b], torch.from_numpy(quantiles[:, a:b]), levels, naive) | {"loss": 0.0}
        figures = scores({name: float(value) for name, value in sums.items()})
        lines.append(f"| {a + 1} to {b} | {figures['smape']:.2f} | {figures['mase']:.3f} |")
    return "\n".join(["![Forecasts](forecasts.png)\n", f"{len(rows):,} forecasts of the test part:\n", *lines, ""])


def smoke(folder: Path) -> Smoke:
    """A wave of every day and week, of several sizes, with noise."""
    random, hours = np.random.default_rng(0), np.arange(24 * 21)
    wave = 2 + np.sin(2 * np.pi * hours / 24) + 0.4 * np.sin(2 * np.pi * hours / 168)
    columns = [f"s{n}" for n in range(8)]
    start = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 21, 23), "1h", eager=True)
    frames = [
        pl.DataFrame({"unique_id": name, "ds": start, "y": 10**n / 50 * wave * random.lognormal(0, 0.05, len(hours))})
        for n, name in enumerate(columns)
    ]
    file = folder / "hours.csv"
    files.write(file, pl.concat(frames).write_csv().encode())
    training = TrainingOptions(batch_size=4, epochs=12, learning_rate=0.01)
    reading = ReadingOptions(data=(str(file),))
    config = Config(horizon=24, window=48, hidden_size=16, dilations=(1, 6), reading=reading, training=training)
    return Smoke(config, (str(file),))
