"""A search for options, by Optuna: trial after trial, each a training of its own, chosen by its best validation."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from conveyor.errors import ConveyorError
from conveyor.training import files, processes
from conveyor.training.fit import train
from conveyor.training.interruption import Interrupted
from conveyor.training.task import Task, name_of

Configure = Callable[[dict[str, str]], Any]
"""From the values of some options, as the command line spells both, to all options."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: tuple[str, ...]

    def suggest(self, trial: Trial, name: str) -> str:
        """The value for a trial."""
        return str(trial.suggest_categorical(name, self.values))

    @property
    def examples(self) -> tuple[str, ...]:
        """Values to check before the first trial."""
        return self.values


@dataclasses.dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, a whole one if both are; on a logarithmic scale if these are a decade apart."""

    low: float
    high: float

    def suggest(self, trial: Trial, name: str) -> str:
        """The value for a trial."""
        log = 0 < 10 * self.low <= self.high
        if isinstance(self.low, int) and isinstance(self.high, int):
            return str(trial.suggest_int(name, self.low, self.high, log=log))
        return repr(trial.suggest_float(name, self.low, self.high, log=log))

    @property
    def examples(self) -> tuple[str, ...]:
        """Values to check before the first trial."""
        return repr(self.low), repr(self.high)


def parse(text: str) -> tuple[str, Choice | Between]:
    """`option=a,b,c` or `option=low..high`.

    >>> parse("learning-rate=1e-4..1e-2")
    ('learning-rate', Between(low=0.0001, high=0.01))
    """
    name, _, values = text.partition("=")
    low, between, high = values.partition("..")
    try:
        found = Between(_number(low), _number(high)) if between else Choice(tuple(values.split(",")))
        if name and (found.low < found.high if isinstance(found, Between) else all(found.values)):
            return name.removeprefix("--"), found
    except ValueError:
        pass
    raise ConveyorError(f"[sweep] expected OPTION=A,B,C or OPTION=LOW..HIGH, LOW below HIGH, got {text!r}")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return int(text) if text.lstrip("+-").isdecimal() else number


def sweep(task: Task, configure: Configure, space: tuple[str, ...], trials: int, run: Path) -> None:
    """Try `trials` settings in all, each in `run/trial-N`; the best options become `run/best.json`.

    The study lies in `run/study.db`: called again, it goes on after the trials that are done.
    """
    if processes.count() > 1:
        raise ConveyorError("[sweep] expected one process, got several; leave --devices out, or train without --sweep")
    options = dict(map(parse, space))
    for name, values in options.items():
        for example in values.examples:
            configure({name: example})
    study = _study(run, configure({}).training.seed)

    left = trials - sum(trial.state.is_finished() for trial in study.trials)
    for _ in range(left):
        trial = study.ask()
        chosen = {name: values.suggest(trial, name) for name, values in options.items()}
        print(f"trial {trial.number + 1}: " + "  ".join(f"--{name} {chosen[name]}" for name in chosen), flush=True)
        try:
            learner, _ = train(task, configure(chosen), run / f"trial-{trial.number + 1}")
            study.tell(trial, learner.progress.best)
        except Interrupted as error:
            raise error.of(f"[sweep] stopped in trial {trial.number + 1}; go on with --run {run}") from None
        except ConveyorError as error:
            print(f"trial {trial.number + 1} failed: {error}", flush=True)
            study.tell(trial, state=TrialState.FAIL)
        _write(run, study, configure)
    _say(task, run, study)


def _study(run: Path, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with files.writing(run):
        run.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{run.absolute() / 'study.db'}"
    study = optuna.create_study(storage=storage, study_name="sweep", load_if_exists=True)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # of a sweep that was killed
        study.tell(trial.number, state=TrialState.FAIL)
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))  # goes on with other numbers
    return study


def _write(run: Path, study: optuna.Study, configure: Configure) -> None:
    """All trials as a table, and the options of the best, as `--config` takes them."""
    text = io.StringIO(newline="")
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    table = csv.DictWriter(text, ["trial", "state", "valid", "seconds", *names])
    table.writeheader()
    table.writerows(_rows(study))
    files.write(run / "trials.csv", text.getvalue().encode())
    done = study.get_trials(states=(TrialState.COMPLETE,))
    if done:
        best = configure({name: str(value) for name, value in study.best_params.items()})
        files.write_json(run / "best.json", dataclasses.asdict(best))


def _rows(study: optuna.Study) -> Iterator[dict[str, Any]]:
    for trial in study.trials:
        row = {"trial": trial.number + 1, "state": trial.state.name.lower(), "valid": trial.value}
        yield row | {"seconds": trial.duration and round(trial.duration.total_seconds(), 1)} | trial.params


def _say(task: Task, run: Path, study: optuna.Study) -> None:
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        raise ConveyorError(f"[sweep] {run}: no trial came to its end; see {run / 'trials.csv'}")
    best = "  ".join(f"--{name} {value}" for name, value in study.best_params.items())
    print(f"best of {len(study.trials)} trials, number {study.best_trial.number + 1}: {study.best_value:.5g}  {best}")
    print(f"all trials: {run / 'trials.csv'}; to train so: conveyor train {name_of(task)} --config {run / 'best.json'}")
