"""Train a task on data, or go on with a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from conveyor import tasks
from conveyor.cli import table, wants_help
from conveyor.errors import ConveyorError

if TYPE_CHECKING:
    from conveyor.training.task import Task

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
    """Where runs are kept, each in a folder of its own: RUNS/TASK/TIME."""
    run: Path | None = None
    """The run's folder, in place of that."""
    smoke: bool = False
    """Try the task out, in seconds, on data it makes up."""


def run(args: list[str]) -> None:
    """Train as the command line says, and print what it came to."""
    usage = f"usage: conveyor train TASK …\n\n{table(tasks.summaries())}\n\nconveyor train TASK --help says more."
    if wants_help(args, usage):
        return
    name, rest = args[0], args[1:]
    task = tasks.find(name)
    # after tasks.find: an unknown task is told without loading torch
    from conveyor.cli._parse import parse, value_of
    from conveyor.training import processes, resume
    from conveyor.training.fit import fit, new_run

    processes.join()
    given = [value for name in ("--resume", "--run") if (value := value_of(name, rest)) is not None]
    runs = Path(value_of("--runs", rest) or Train.runs)
    folder = Path(given[0]) if given else processes.as_the_first(new_run(runs, name))
    start = _start(task, rest, folder)
    asked = parse(Train[task.Config], rest, f"conveyor train {name}", Train(task=start))  # type: ignore[name-defined]
    if asked.resume is not None:
        resume.check_changes(resume.config_of(task, asked.resume), asked.task)
    if asked.task.training.devices > 1 and not processes.started():
        processes.start(
            asked.task.training.devices, ["train", *args, *([] if asked.resume else ["--run", str(folder)])]
        )
    _, figures = fit(task, asked.task, folder, resume=asked.resume is not None)
    if processes.first():
        print("test:  " + "  ".join(f"{title} {value:.5g}" for title, value in figures["test"].items()))
        print(f"report: {folder / 'report.md'}")


def _start(task: Task, args: list[str], folder: Path) -> Any:
    """The options that those on the command line change."""
    from conveyor.cli._parse import value_of
    from conveyor.training import resume

    given = [name for name in ("--resume", "--config", "--smoke") if value_of(name, args) is not None or name in args]
    if "--smoke" in given and len(given) > 1:
        raise ConveyorError(f"[options] --smoke: expected neither --resume nor --config beside it, got {given[0]}")
    if "--smoke" in given:
        return task.smoke(folder / "smoke").config
    file = value_of("--config", args)
    if file is not None:
        return resume.read_config(task, Path(file))
    return resume.config_of(task, folder) if "--resume" in given else task.Config()
