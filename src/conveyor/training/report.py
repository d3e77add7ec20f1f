"""What a run leaves for people: `scores.json`, `curves.png`, and `report.md` with samples."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from conveyor.training import files, pictures
from conveyor.training.history import Row
from conveyor.training.task import Data, Model, name_of


def write(run: Path, model: Model, data: Data, rows: list[Row], figures: dict[str, Any]) -> None:
    """Write all three; `figures` is what the run came to."""
    files.write_json(run / "scores.json", figures)
    curves(run / "curves.png", rows)
    name = name_of(model.task)
    text = [
        f"# {name}, {run.name}\n",
        *(f"- {title.replace('_', ' ')}: {_say(value)}" for title, value in figures.items()),
        "\n![Curves of training](curves.png)\n",
        "## What it does\n",
        model.task.show(model, data, run),
        "## Options\n",
        f"```json\n{json.dumps(dataclasses.asdict(model.config), indent=1)}\n```\n",
        f"Again: `conveyor train {name} --config {run / 'config.json'}`. "
        f"Use it: `conveyor predict {run} INPUT`, or `conveyor.load({str(run)!r}).predict(…)`.",
    ]
    files.write(run / "report.md", ("\n".join(text) + "\n").encode())


def curves(path: Path, rows: list[Row]) -> None:
    """The first score in training and validation, and the learning rate, against the epoch."""
    figure = pictures.figure()
    axes = figure.add_subplot()
    names = [next((n for row in rows for n in row if n.startswith(part)), "") for part in ("train_", "valid_")]
    for name, style in zip(names, ("-", "o-"), strict=True):
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        if points:  # there are none if the run's earlier lines were moved away
            axes.plot(*zip(*points, strict=True), style, label=name.replace("_", " "), markersize=4, linewidth=1.2)
    axes.set(xlabel="epoch", ylabel=names[1].removeprefix("valid_"))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    pictures.write(path, figure)


def _say(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_say(part)}" for name, part in value.items())
    return f"{value:.5g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def write_seeds(run: Path, name: str, figures: dict[str, dict[str, Any]], summary: dict[str, Any]) -> None:
    """Write what the same training came to from several seeds; `figures` is each seed's, `summary` what they share."""
    scores = [*summary["test"]]
    rows = {seed: one["test"] for seed, one in figures.items()}
    rows |= {title: summary[part] for title, part in SUMMARY.items() if part in summary}
    text = [
        f"# {name}, {run.name}\n",
        f"{len(figures)} trainings, {summary['minutes']:.1f} minutes. Scores of the test part:\n",
        f"| | {' | '.join(scores)} |",
        f"|---|{'--:|' * len(scores)}",
        *(f"| {title} | {' | '.join(_say(row[score]) for score in scores)} |" for title, row in rows.items()),
        "",
        *(f"- [{seed}]({seed}/report.md)" for seed in figures),
    ]
    files.write(run / "report.md", ("\n".join(text) + "\n").encode())


SUMMARY = {"mean": "test", "standard deviation": "spread", "ensemble": "ensemble"}
"""Rows under the seeds' own, and where their figures stand."""
