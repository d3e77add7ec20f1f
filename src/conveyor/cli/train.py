"""Train a task on data, or go on with a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from conveyor import tasks
from conveyor.cli import table, wants_help

C = TypeVar("C")


@dataclass(kw_only=True)
class Train(Generic[C]):
    """Train. Every run leaves a folder with options, metrics, checkpoints, model and report."""

    task: C
    config: Path | None = None
    """Options from a JSON file, such as a run's config.json; those on the command line win."""
    resume: Path | None = None
    """A run's folder, to go on exactly where it stopped."""
    runs: Path = Path("runs")
    """Where runs are kept."""


def run(args: list[str]) -> None:
    """Train as the command line says, and print what it came to."""
    usage = f"usage: conveyor train TASK …\n\n{table(tasks.summaries())}\n\nconveyor train TASK --help says more."
    if wants_help(args, usage):
        return
    task = tasks.find(args[0])
    # after tasks.find: an unknown task is told without loading torch
    from conveyor.cli._parse import parse, value_of
    from conveyor.training import resume
    from conveyor.training.fit import fit, new_run

    going_on, file = value_of("--resume", args), value_of("--config", args)
    start = task.Config() if going_on is None else resume.config_of(task, Path(going_on))
    start = start if file is None else resume.read_config(task, Path(file))
    command = f"conveyor train {args[0]}"
    train = parse(Train[task.Config], args[1:], command, Train(task=start))  # type: ignore[name-defined]
    if train.resume is not None:
        resume.check_changes(resume.config_of(task, train.resume), train.task)
    folder = train.resume or new_run(train.runs, args[0])
    _, figures = fit(task, train.task, folder, resume=train.resume is not None)
    print("test:  " + "  ".join(f"{name} {value:.5g}" for name, value in figures["test"].items()))
    print(f"report: {folder / 'report.md'}")
