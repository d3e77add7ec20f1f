"""How fast networks train on the same batches, measured in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from conveyor.training import optimizer
from conveyor.training.task import Split, Task

ROUNDS = 6
SECONDS = 1.0


def compare(
    task: Task, config: Any, networks: Sequence[nn.Module], split: Split, rounds: int = ROUNDS, seconds: float = SECONDS
) -> list[list[float]]:
    """Each network's work a second (in the task's unit) in each of some rounds of some seconds.

    The networks take turns, so that what disturbs the machine disturbs all. Raises AssertionError if they do not give
    the same loss on the first batch.
    """
    first = [task.loss(config, network.eval(), split.batch(0, 0), None).loss for network in networks]
    torch.testing.assert_close(first, [first[0]] * len(first), rtol=1e-4, atol=1e-4)
    measured: list[list[float]] = [[] for _ in networks]
    for _ in range(rounds + 1):
        for network, speeds in zip(networks, measured, strict=True):
            speeds.append(_train(task, config, network.train(), split, seconds))
    return [speeds[1:] for speeds in measured]  # the first round warms up


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The ratio of the medians: over all rounds, over the first half of them and over the second."""
    half = len(ours) // 2
    parts = (slice(None), slice(half), slice(half, None))
    return [statistics.median(ours[part]) / statistics.median(theirs[part]) for part in parts]


def _train(task: Task, config: Any, network: nn.Module, split: Split, seconds: float) -> float:
    """Train for some seconds, as a run does; the work done a second."""
    updates = optimizer.make(config.training, network.parameters())
    start, work, step, carried = time.perf_counter(), 0.0, 0, None
    while time.perf_counter() - start < seconds:
        outcome = task.loss(config, network, split.batch(0, step % len(split)), carried)
        updates.zero_grad()
        outcome.loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.training.clip_norm or float("inf"))
        updates.step()
        carried, work, step = outcome.carried, work + float(outcome.sums[task.UNIT]), step + 1
    return work / (time.perf_counter() - start)
