"""A task of the tests alone, in which two processes could go wrong: rows of unequal lengths, state that is carried.

Say at each step of a row whether the sum of what was read so far, in this row and the same place of earlier batches, is
above zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.functional import pad as pad_rows

from conveyor.data.batches import Batches, pad
from conveyor.data.records import BadRecords
from conveyor.nn import LSTM
from conveyor.training.options import ReadingOptions, TrainingOptions, check
from conveyor.training.task import Data, Model, Outcome, Smoke

UNIT = "steps"
ENDINGS = (".txt",)


@dataclass(kw_only=True)
class Config:
    """Train the test's network."""

    hidden_size: int = 5
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(default_factory=lambda: TrainingOptions(batch_size=6, epochs=3))

    def __post_init__(self) -> None:
        check(self)


@dataclass
class PredictOptions:
    """None."""


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """44 rows of 1 to 12 steps, in batches of 5 or 6, so that two processes have unlike shares."""
    random = np.random.default_rng(0)
    rows = [random.normal(size=(random.integers(1, 13), 1)).astype("float32") for _ in range(44)]
    parts = (rows[:32], rows[32:38], rows[38:])

    def batches(rows: list[np.ndarray], seed: int | None) -> Batches:
        def collate(numbers: np.ndarray) -> tuple[Tensor, Tensor]:
            chosen = [rows[n] for n in numbers]
            return torch.from_numpy(pad(chosen)), torch.tensor([len(row) for row in chosen])

        return Batches([len(row) for row in rows], config.training.batch_size, collate, seed)

    train, valid, test = parts
    return Data(batches(train, 1), batches(valid, None), batches(test, None), {}, "44 rows")


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """The same."""
    return read(config).test  # type: ignore[return-value]


class Network(nn.Module):
    """An LSTM and a line."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.lstm = LSTM(1, hidden_size)
        self.output = nn.Linear(hidden_size, 1)

    def forward(self, x: Tensor, lengths: Tensor, state: Any) -> tuple[Tensor, Any]:
        """[T, B] and the next state."""
        hidden, state = self.lstm(x, state, lengths=lengths)
        return self.output(hidden).squeeze(2), state


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    return Network(config.hidden_size)


def loss(config: Config, network: nn.Module, batch: tuple[Tensor, Tensor], carried: Any) -> Outcome:
    """A mean over real steps."""
    x, lengths = batch
    if carried is not None:  # a batch may have a row more or less than the one before
        carried = tuple(pad_rows(part, (0, 0, 0, x.shape[1] - part.shape[1])) for part in carried)
    logits, state = network(x, lengths, carried)
    real = torch.arange(len(x))[:, None] < lengths
    targets = (x.squeeze(2).cumsum(0) > 0).float()
    bits = binary_cross_entropy_with_logits(logits, targets, reduction="none")[real]
    sums = {"nats": bits.detach().double().sum(), "steps": float(len(bits))}
    return Outcome(bits.mean(), len(bits), sums, tuple(part.detach() for part in state))


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a step."""
    return {"loss": sums["nats"] / sums["steps"]}


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[Any]:
    """Nothing."""
    return []


def save(results: list[Any], path: Path) -> None:
    """Nothing."""


def show(model: Model, data: Data, folder: Path) -> str:
    """Nothing."""
    return ""


def smoke(folder: Path) -> Smoke:
    """As it is."""
    return Smoke(Config(), ())


if __name__ == "__main__":
    import sys

    import lengths

    from conveyor.training.fit import fit

    options = TrainingOptions(batch_size=6, epochs=3, learning_rate=0.05, threads=1)
    fit(lengths, Config(training=options), Path(sys.argv[1]))  # type: ignore[arg-type]
