"""Training a language model: Conveyor's LSTM against `torch.nn.LSTM` in the same script, tokens a second.

    python benchmarks/language_model.py --output language_model.md
    python benchmarks/language_model.py --models word-200 --threads 1 --seconds 20 --arithmetic bfloat16

A step is what `conveyor train language-model` does: dropout, embedding, two layers, softmax and loss, back, clipping,
SGD. Three contenders take turns on the same windows of tokens drawn by Zipf's law:

    conveyor   the task's network
    torch      the same with its layers exchanged for torch.nn.LSTM, all else alike
    usual      as it is usually written: torch.nn.LSTM, torch.nn.Linear, and cross_entropy of the logits

All begin with the same weights, and must come to the same losses and the same weights over the first steps before a
time is printed.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import geometric_mean
from typing import Any, Literal, NamedTuple

import machine
import torch
import tyro
from measuring import alternate, compare
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from conveyor import restore
from conveyor.data.streams import Batch, Streams
from conveyor.tasks import language_model as task
from conveyor.training import optimizer
from conveyor.training.options import TrainingOptions

ALLOWED = {"float32": 1e-4, "bfloat16": 0.1}
"""Largest error over largest magnitude of what five steps changed; bfloat16 rounds to 4e-3, at other places in each."""


class Size(NamedTuple):
    """A model, and the windows it reads."""

    vocabulary: int
    hidden_size: int
    batch_size: int
    sequence_length: int


MODELS = {
    "word-200": Size(10_000, 200, 20, 35),
    "word-650": Size(10_000, 650, 20, 35),
    "char-256": Size(50, 256, 64, 100),
}
"""Zaremba et al. 2014, small and medium (their vocabulary, batch and window; 20 and 35 steps), and characters."""


@dataclass(frozen=True)
class Options:
    """Conveyor's LSTM against torch.nn.LSTM in the training of a language model."""

    models: tuple[Literal["word-200", "word-650", "char-256"], ...] = ("word-200", "word-650", "char-256")
    """Two layers of so many units, over words or characters."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads."""
    seconds: float = 30.0
    """How long to measure each model with each number of threads."""
    dropout: float = 0.2
    """Share dropped before, between and behind the layers."""
    arithmetic: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products."""
    output: Path | None = None
    """File for the Markdown report, which is printed as well."""


class Usual(nn.Module):
    """The network as it is usually written, around the layers of another."""

    def __init__(self, network: task.Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, state: Any, targets: Tensor) -> tuple[Tensor, Any]:
        """As the task's network, by way of the logits."""
        logits, state = self.network(tokens, state)
        nats = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return nats.view(targets.shape), state


class Contender:
    """A network in training."""

    def __init__(self, network: nn.Module, config: task.Config) -> None:
        self.network, self.config, self.state, self.index = network, config, None, 0
        self.optimizer = optimizer.make(config.training, network.parameters())

    def step(self, split: Streams) -> float:
        """One update; the loss before it."""
        batch: Batch = split.batch(0, self.index % len(split))
        outcome = task.loss(self.config, self.network, batch, self.state)
        self.optimizer.zero_grad()
        outcome.loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.state, self.index = outcome.carried, self.index + 1
        return outcome.loss.item()


def contenders(config: task.Config, size: Size) -> dict[str, Contender]:
    """All with the same weights."""
    torch.manual_seed(0)
    ours = task.Network(config, size.vocabulary)
    torchs, usual = (restore(copy.deepcopy(ours)) for _ in range(2))
    networks = {"conveyor": ours, "torch": torchs, "usual": Usual(usual)}
    return {name: Contender(network, config) for name, network in networks.items()}


def text(size: Size) -> Streams:
    """Fifty windows of tokens, the n-th most frequent 1/n times as frequent as the first."""
    shares = 1 / torch.arange(1, size.vocabulary + 1, dtype=torch.float64)
    count = size.batch_size * size.sequence_length * 50 + 1
    generator = torch.Generator().manual_seed(1)
    tokens = torch.multinomial(shares, count, replacement=True, generator=generator)
    return Streams(tokens, size.batch_size, size.sequence_length, count)


def check(all: dict[str, Contender], split: Streams, allowed: float) -> float:
    """The largest error of what the first steps came to: their losses, and by how much they changed each weight."""

    def first_steps(contender: Contender) -> tuple[Tensor, ...]:
        torch.manual_seed(2)  # the same dropout
        before = [weight.detach().clone() for weight in contender.network.parameters()]
        losses = torch.tensor([contender.step(split) for _ in range(5)])
        return losses, *(now.detach() - then for now, then in zip(contender.network.parameters(), before, strict=True))

    ours, *others = map(first_steps, all.values())
    return max(compare(ours, other, allowed, name) for other, name in zip(others, [*all][1:], strict=True))


def measure(name: str, options: Options) -> tuple[str, list[float]]:
    """A row of the table, and the times of the others over ours."""
    size = MODELS[name]
    config = task.Config(
        hidden_size=size.hidden_size,
        embedding_size=size.hidden_size,
        tied=True,
        dropout_input=options.dropout,
        dropout_between=options.dropout,
        dropout_output=options.dropout,
        arithmetic=options.arithmetic,
        training=TrainingOptions(optimizer="sgd", learning_rate=0.5),
    )
    split, all = text(size), contenders(config, size)
    error = check(all, split, ALLOWED[options.arithmetic])
    steps: list[Callable[[], float]] = [lambda mine=mine: mine.step(split) for mine in all.values()]  # type: ignore[misc]
    times = alternate(steps, options.seconds)
    speeds = [size.batch_size * size.sequence_length / seconds for seconds in times]
    ratios = [seconds / times[0] for seconds in times[1:]]
    shape = f"V {size.vocabulary:,}, T {size.sequence_length}, B {size.batch_size}"
    numbers = [*(f"{speed:,.0f}" for speed in speeds), *(f"{ratio:.2f}" for ratio in ratios), f"{error:.0e}"]
    return f"| {name}: {shape} | {' | '.join(numbers)} |", ratios


def main(options: Options) -> None:
    """Measures, prints and writes what the options ask for."""
    report = [machine.description()]
    print(report[0], flush=True)
    ratios: dict[int, list[list[float]]] = {threads: [] for threads in options.threads}
    for threads, name in product(options.threads, options.models):
        machine.use_threads(threads)
        if not ratios[threads]:
            lines = [
                f"\n### {options.arithmetic}, threads: {threads}; tokens a second\n",
                "| model | conveyor | torch | usual | torch's time over ours | usual's | results differ by |",
                "|---|--:|--:|--:|--:|--:|--:|",
            ]
            report += lines
            print("\n".join(lines), flush=True)
        row, found = measure(name, options)
        report.append(row)
        ratios[threads].append(found)
        print(row, flush=True)
    means = (", ".join(f"{geometric_mean(of):.2f}" for of in zip(*ratios[n], strict=True)) for n in options.threads)
    report.append("\ngeometric means: " + "; ".join(means))
    print(report[-1])
    if options.output:
        options.output.write_text("\n".join(report) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
