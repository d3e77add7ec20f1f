"""What a task is: the contract between a file in `tasks/` and everything in `training/` and `cli/`.

A task is a module with these names; there is no class to derive from and nothing to register. Some more names may
be there: `ensemble(networks)`, a network that gives, called as each of `networks`, what they come to together; and
`evaluate(model, split, options)`, scores in the way that options of `conveyor evaluate` ask for, the fields of the
dataclass `EvaluateOptions`; and `steps(model, input)`, which reads an input as `conveyor inspect` shows it, and gives
`Steps`, a stretch of it after the other; and TYPED, true where an input is a text, which may be typed into its page;
and `graph(model)`, the network as the nodes that `conveyor export` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor, nn

from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.training.options import ReadingOptions, TrainingOptions, from_json

STRETCH = 4096
"""Steps that are read at once for it: any of them is soon read again, with all its gates."""
Sums = dict[str, Tensor | float]
"""Figures that may be added up over batches: losses, counts, confusion matrices."""


class Split(Protocol):
    """The batches of one part of the data; batch `index` of an epoch is always the same, so a run can go on there."""

    def __len__(self) -> int: ...
    def batch(self, epoch: int, index: int) -> Any: ...
    def share(self, index: int, count: int) -> Split:
        """The same batches, of each only the rows that process `index` of `count` takes."""


class Data(NamedTuple):
    """What a task read."""

    train: Split
    valid: Split
    test: Split
    facts: dict[str, Any]
    """What network and prediction must know of the data, as JSON: a vocabulary, names of classes, scales."""
    summary: str
    """One line for the user: how much of what."""


class Outcome(NamedTuple):
    """What a batch came to."""

    loss: Tensor
    """What the optimizer makes small."""
    weight: float
    """How many tokens, frames or rows the loss is a mean of; processes that share a batch count by it."""
    sums: Sums
    """For the scores; detached."""
    carried: Any = None
    """State for the next batch of the epoch (tensors in tuples, lists, dicts; detached), or None."""


class Steps(NamedTuple):
    """What a network read in a stretch of a sequence, and what it made of it, a step at a time."""

    labels: Sequence[str]
    """What was read at each of n steps."""
    names: Sequence[str] = ()
    """What may be expected at a step: the next token, a label."""
    p: Callable[[], Tensor] | None = None
    """How probable the network held each of these to be [n, V]; asked for again and again."""
    came: np.ndarray | None = None
    """[n], the probability of what came; NaN where that is not known."""
    of: str = ""
    """The module of the network whose LSTMs go in these steps, where others go in steps of their own: "encoder"."""


class Smoke(NamedTuple):
    """A task tried out in seconds."""

    config: Any
    inputs: tuple[str, ...]
    """What `predict` may be given on the command line."""


class Config(Protocol):
    """A task's options: a dataclass; those in `training` are the same for all tasks."""

    reading: ReadingOptions
    training: TrainingOptions


class Model(NamedTuple):
    """A trained network, with all that prediction needs."""

    task: Task
    config: Any
    facts: dict[str, Any]
    network: nn.Module

    def predict(self, *inputs: Any, skip_bad: bool = False, **options: Any) -> list[Any]:
        """One prediction an input; options are the fields of the task's `PredictOptions`.

        The first record that is wrong ends it, or with `skip_bad` each is left out, which is said on stderr.
        """
        bad = BadRecords(skip_bad)
        results = self.task.predict(self, inputs, from_json(self.task.PredictOptions, options, "predict"), bad)
        if bad.count and not results:
            raise ConveyorError(f"[predict] nothing left to predict from{bad.summary()}")
        bad.tell()
        return results


class Task(Protocol):
    """The names a task file has."""

    __name__: str
    Config: Any
    """The dataclass of its options."""
    PredictOptions: Any
    """The dataclass of the options of `predict`."""
    UNIT: str
    """The sum that counts work done, for the speed: "tokens", "frames", "windows"."""
    ENDINGS: tuple[str, ...]
    """Of the files that `save` writes, each a format: ".csv"."""

    def read(self, config: Any, facts: dict[str, Any] | None = None) -> Data:
        """Read the data; with `facts` of an earlier reading keep to these."""

    def read_test(self, config: Any, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Split:
        """Other data, to be scored."""

    def network(self, config: Any, facts: dict[str, Any]) -> nn.Module:
        """The untrained network."""

    def loss(self, config: Any, network: nn.Module, batch: Any, carried: Any) -> Outcome:
        """What one batch comes to."""

    def scores(self, sums: dict[str, Any]) -> dict[str, float]:
        """Figures for people; the first is the one to choose by, and smaller is better."""

    def predict(self, model: Model, inputs: Sequence[Any], options: Any, bad: BadRecords) -> list[Any]:
        """One result an input; `str` of a result is what the command line prints."""

    def save(self, results: list[Any], path: Path) -> None:
        """Write predictions as the field does; the file's ending may choose among its formats."""

    def show(self, model: Model, data: Data, folder: Path) -> str:
        """What the report shows of a trained model, as Markdown; pictures go into `folder`."""

    def smoke(self, folder: Path) -> Smoke:
        """Data made up in `folder`, and options that learn something of it in a few seconds."""


def name_of(task: Task) -> str:
    """The task's name on the command line: its file's, with dashes."""
    return task.__name__.rpartition(".")[-1].replace("_", "-")
