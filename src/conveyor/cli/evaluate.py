"""Score a run's model on its test part, or on other data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from conveyor import tasks
from conveyor.cli import wants_help

O = TypeVar("O")


@dataclass(kw_only=True)
class AsItIs:
    """The options of a task that has none for its evaluation."""


@dataclass(kw_only=True)
class Evaluate(Generic[O]):
    """Score a run's model."""

    data: tuple[str, ...] = ()
    """Score this instead of the run's own test part."""
    skip_bad: bool = False
    """Leave out records that are wrong, and count them."""
    task: O


def run(args: list[str]) -> None:
    """Print the scores, one a line."""
    if wants_help(args, "usage: conveyor evaluate RUN [--data FILE…]; conveyor evaluate RUN --help lists all"):
        return
    from conveyor.cli._parse import parse
    from conveyor.data import catalog
    from conveyor.data.records import BadRecords
    from conveyor.training.scoring import score

    model = tasks.load(args[0])
    task, config, facts, network = model
    of_task = getattr(task, "EvaluateOptions", AsItIs)
    asked = parse(Evaluate[of_task], args[1:], "conveyor evaluate RUN", Evaluate(task=of_task()))  # type: ignore[valid-type]
    config = replace(config, reading=replace(config.reading, skip_bad=config.reading.skip_bad or asked.skip_bad))
    given, bad = catalog.locate(asked.data), BadRecords(config.reading.skip_bad)
    split = task.read_test(config, facts, given, bad) if given else task.read(config, facts).test
    bad.tell()
    evaluate = getattr(task, "evaluate", None)
    scores = evaluate(model, split, asked.task) if evaluate else score(task, config, network, split)
    width = max(map(len, scores))
    for name, value in scores.items():
        print(f"{name:{width}}  {value:.5g}")
