"""Score a run's model on its test part, or on other data."""

from __future__ import annotations

from dataclasses import dataclass

from conveyor import tasks
from conveyor.cli import wants_help


@dataclass(kw_only=True)
class Evaluate:
    """Score a run's model."""

    data: tuple[str, ...] = ()
    """Score this instead of the run's own test part."""


def run(args: list[str]) -> None:
    """Print the scores, one a line."""
    if wants_help(args, "usage: conveyor evaluate RUN [--data FILE…]"):
        return
    from conveyor.cli._parse import parse
    from conveyor.data import catalog
    from conveyor.training.scoring import score

    options = parse(Evaluate, args[1:], "conveyor evaluate RUN", Evaluate())
    task, config, facts, network = tasks.load(args[0])
    given = catalog.locate(options.data)
    split = task.read_test(config, facts, given) if given else task.read(config, facts).test
    scores = score(task, config, network, split)
    width = max(map(len, scores))
    for name, value in scores.items():
        print(f"{name:{width}}  {value:.5g}")
