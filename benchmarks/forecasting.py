"""Forecasting M4's hourly series: Conveyor's task against neuralforecast's LSTM, score and time in one table.

    python -m venv nf && nf/bin/pip install torch==2.13.0 neuralforecast==3.3.0
    CONVEYOR_DATA=../shared/data python benchmarks/forecasting.py --python nf/bin/python --output forecasting.md

neuralforecast lives in an environment of its own. Both read the same window of a week, have as many layers and units,
forecast the same quantiles, and run on as many threads of the same cores, one after the other. neuralforecast keeps its
own settings for the rest, and trains as long as Conveyor did, validation included; it also sees the last 48 hours
before the test, which Conveyor keeps to choose by. Medians are scored, by M4's definitions.
"""

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import machine
import numpy as np
import polars as pl
import tyro

from conveyor.data import catalog
from conveyor.data.records import BadRecords
from conveyor.data.series import Columns, Series, read
from conveyor.tasks import forecasting as task
from conveyor.training.fit import fit
from conveyor.training.options import ReadingOptions, TrainingOptions

HORIZON, SEASON = 48, 24
THEIRS = """
import sys, time, warnings, logging
warnings.filterwarnings("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
import pandas, torch
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MQLoss
from neuralforecast.models import LSTM

source, target, threads, minutes, hidden, layers, window, horizon = sys.argv[1:]
torch.set_num_threads(int(threads))
model = LSTM(
    h=int(horizon), input_size=int(window), encoder_hidden_size=int(hidden), encoder_n_layers=int(layers),
    decoder_hidden_size=int(hidden), loss=MQLoss(level=[50, 80, 95]), max_steps=10**6,
    max_time={"seconds": round(60 * float(minutes))}, accelerator="cpu", logger=False,
    enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
)
forecaster = NeuralForecast(models=[model], freq=1)
start = time.perf_counter()
forecaster.fit(pandas.read_csv(source))
seconds = time.perf_counter() - start
steps = forecaster.models[0].train_trajectories[-1][0] + 1
forecaster.predict().to_csv(target, index=False)
weights = sum(weight.numel() for weight in forecaster.models[0].parameters())
print(seconds / 60, steps, weights)
"""


@dataclass(frozen=True)
class Options:
    """Conveyor's forecasting against neuralforecast's LSTM on M4 Hourly."""

    python: Path
    """The interpreter of an environment with neuralforecast."""
    hidden_size: int = 64
    """Units in a layer."""
    dilations: tuple[int, ...] = (1, 4, 24)
    """A layer each; neuralforecast has as many, without dilation."""
    epochs: int = 40
    """Passes of Conveyor over the data."""
    run: Path | None = None
    """Keep Conveyor's run in this folder."""
    threads: int = 1
    """Processor threads of each."""
    limit: int | None = None
    """So many series alone, for a quick look."""
    output: Path | None = None
    """File for the Markdown report, which is printed as well."""


Row = tuple[str, float, float, float, str, str]


def main(options: Options) -> None:
    """Train both, and print the table."""
    machine.use_threads(options.threads)
    files = catalog.locate(("m4/Hourly-train.csv", "m4/Hourly-test.csv"))
    series = read([Path(file) for file in files], Columns(), BadRecords(False), options.limit)
    with tempfile.TemporaryDirectory() as folder:
        first = ours(options, files, series, Path(folder))
        rows = [naive(series), first, theirs(options, series, Path(folder), minutes=first[3])]
    table = ["| | sMAPE % | MASE | minutes | updates | weights |", "|---|---|---|---|---|---|"]
    for name, smape, mase, minutes, updates, weights in rows:
        table.append(f"| {name} | {smape:.3f} | {mase:.3f} | {minutes:.1f} | {updates} | {weights} |")
    report = "\n".join(
        [f"M4 Hourly, {len(series)} series; {machine.description()}; {options.threads} threads\n", *table]
    )
    print(report)
    if options.output:
        options.output.write_text(report + "\n")


def ours(options: Options, files: tuple[str, ...], series: list[Series], folder: Path) -> Row:
    """Conveyor's task as its file says."""
    training = TrainingOptions(
        batch_size=4, epochs=options.epochs, learning_rate=0.01, schedule="cosine", clip_norm=1.0, average="ema",
        average_decay=0.99, threads=options.threads,
    )  # fmt: skip
    reading = ReadingOptions(data=files, valid_share=0.05, limit=options.limit)
    config = task.Config(
        hidden_size=options.hidden_size, dilations=options.dilations, reading=reading, training=training
    )
    start = time.perf_counter()
    model, figures = fit(task, config, options.run or folder / "run")
    minutes = (time.perf_counter() - start) / 60
    forecast = model.predict(known(series))[0].table["forecast"]
    weights = sum(weight.numel() for weight in model.network.parameters())
    return "Conveyor, forecasting", *scores(series, forecast), minutes, f"{figures['steps']:,}", f"{weights:,}"


def theirs(options: Options, series: list[Series], folder: Path, minutes: float) -> Row:
    """neuralforecast's LSTM, in its own environment."""
    known(series).write_csv(folder / "train.csv")
    arguments = [options.threads, minutes, options.hidden_size, len(options.dilations), 7 * SEASON, HORIZON]
    command = [options.python, "-c", THEIRS, folder / "train.csv", folder / "forecast.csv", *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise SystemExit(f"neuralforecast: {done.stderr[-2000:]}")
    took, updates, weights = done.stdout.split()[-3:]
    forecast = pl.read_csv(folder / "forecast.csv")
    order = pl.DataFrame({"unique_id": [one.name for one in series]})
    median = order.join(forecast, on="unique_id", how="left", maintain_order="left")["LSTM-median"]
    return "neuralforecast, LSTM", *scores(series, median), float(took), f"{int(updates):,}", f"{int(weights):,}"


def known(series: list[Series]) -> pl.DataFrame:
    """What comes before the test, as a long table."""
    return pl.concat(
        pl.DataFrame({"unique_id": one.name, "ds": one.times, "y": one.values})[: one.test_from] for one in series
    )


def naive(series: list[Series]) -> Row:
    """The last day again."""
    days = [np.resize(one.values[one.test_from - SEASON : one.test_from], HORIZON) for one in series]
    return "seasonal naive", *scores(series, pl.Series(np.concatenate(days))), 0.0, "", ""


def scores(series: list[Series], forecast: pl.Series) -> tuple[float, float]:
    """Mean sMAPE and MASE of forecasts, one series behind the other."""
    smape, mase = [], []
    for one, f in zip(series, forecast.to_numpy().reshape(len(series), HORIZON), strict=True):
        seen, y = one.values[: one.test_from], one.values[one.test_from :]
        smape.append(np.mean(200 * np.abs(y - f) / (np.abs(y) + np.abs(f))))
        mase.append(np.mean(np.abs(y - f)) / np.mean(np.abs(seen[SEASON:] - seen[:-SEASON])))
    return float(np.mean(smape)), float(np.mean(mase))


if __name__ == "__main__":
    main(tyro.cli(Options))
