"""Train a task on data, or go on with a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from conveyor import tasks
from conveyor.cli import table, wants_help
from conveyor.errors import ConveyorError
from conveyor.training.options import Count, check

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
    find_lr: bool = False
    """Do not train, but look for a learning rate to begin with."""
    sweep: tuple[str, ...] = ()
    """Search for options, each as OPTION=A,B,C or OPTION=LOW..HIGH; the best validation wins. Called again with the
    same --run, it goes on."""
    trials: Count = 20
    """Trials of the sweep, in all."""

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        kinds = {"--resume": self.resume is not None, "--find-lr": self.find_lr, "--sweep": bool(self.sweep)}
        if sum(kinds.values()) > 1:
            yield f"{' and '.join(name for name, given in kinds.items() if given)}: expected one of them alone"


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
    from conveyor.training.fit import new_run

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
    if asked.find_lr:
        _find_rate(task, asked.task, folder)
    elif asked.sweep:
        _sweep(task, asked, folder)
    else:
        _train(task, asked.task, folder, asked.resume is not None)


def _train(task: Task, config: Any, folder: Path, resume: bool) -> None:
    from conveyor.training import processes
    from conveyor.training.fit import fit
    from conveyor.training.seeds import fit_each

    several = config.training.seeds > 1
    figures = fit_each(task, config, folder, resume) if several else fit(task, config, folder, resume)[1]
    if processes.first():
        for name, title in {"test": "test:  ", "spread": "   +/- ", "ensemble": "ensemble: "}.items():
            if name in figures:
                print(title + "  ".join(f"{score} {value:.5g}" for score, value in figures[name].items()))
        print(f"report: {folder / 'report.md'}")


def _find_rate(task: Task, config: Any, folder: Path) -> None:
    from conveyor.training.rates import find_rate

    rate = find_rate(task, config, folder)
    print(f"the loss falls fastest at --learning-rate {rate:.2g}; the course: {folder / 'rates.png'}")


def _sweep(task: Task, asked: Train[Any], folder: Path) -> None:
    from conveyor.cli._parse import parse
    from conveyor.training.sweep import sweep
    from conveyor.training.task import name_of

    def configure(options: dict[str, str]) -> Any:
        switches = {"true": "--{}", "false": "--no-{}"}
        args = [
            switches[value].format(name) if value in switches else f"--{name}={value}"
            for name, value in options.items()
        ]
        return parse(type(asked.task), args, f"conveyor train {name_of(task)}", asked.task)

    sweep(task, configure, asked.sweep, asked.trials, folder)


def _start(task: Task, args: list[str], folder: Path) -> Any:
    """The options that those on the command line change."""
    from conveyor.cli._parse import value_of
    from conveyor.training import processes, resume

    given = [name for name in ("--resume", "--config", "--smoke") if value_of(name, args) is not None or name in args]
    if "--smoke" in given and len(given) > 1:
        raise ConveyorError(f"[options] --smoke: expected neither --resume nor --config beside it, got {given[0]}")
    if "--smoke" in given:
        return task.smoke(folder / "smoke" / str(processes.index())).config  # each process makes its own
    file = value_of("--config", args)
    if file is not None:
        return resume.read_config(task, Path(file))
    return resume.config_of(task, folder) if "--resume" in given else task.Config()
