"""Use a run's model on inputs of your own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import tyro

from conveyor import tasks
from conveyor.cli import wants_help
from conveyor.errors import ConveyorError

O = TypeVar("O")


@dataclass(kw_only=True)
class Predict(Generic[O]):
    """Use a run's model."""

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT…")] = ()
    """What to predict from: texts, or files, as the task takes them."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File for the predictions, in place of the terminal; its ending chooses among the formats of the field."""
    skip_bad: bool = False
    """Leave out records that are wrong, and count them."""
    task: O


def run(args: list[str]) -> None:
    """Print a prediction an input."""
    if wants_help(
        args, "usage: conveyor predict RUN INPUT… [-o FILE]; conveyor predict RUN --help lists what its task can do"
    ):
        return
    from conveyor.cli._parse import parse

    model = tasks.load(args[0])
    kind = Predict[model.task.PredictOptions]  # type: ignore[name-defined]
    asked = parse(kind, args[1:], "conveyor predict RUN", Predict(task=model.task.PredictOptions()))
    if not asked.inputs:
        raise ConveyorError("[predict] nothing to predict from; give INPUT behind RUN")
    endings = model.task.ENDINGS
    if asked.output and asked.output.suffix not in endings:
        raise ConveyorError(
            f"[predict] --output: expected a name that ends in {', '.join(endings)}, got {asked.output}"
        )
    results = model.predict(*asked.inputs, skip_bad=asked.skip_bad, **vars(asked.task))
    if asked.output:
        model.task.save(results, asked.output)
        return
    for result in results:
        print(result)
