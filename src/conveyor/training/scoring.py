"""Scores of a network over one part of the data: the same code for validation and test."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from conveyor.training import processes
from conveyor.training.task import Split, Sums, Task


def add(total: Sums, sums: Sums) -> Sums:
    """The sums of two batches."""
    return total | {name: total.get(name, 0) + value for name, value in sums.items()}


def numbers(task: Task, sums: Sums) -> dict[str, float]:
    """The task's scores of some sums; this waits for the device."""
    return task.scores({name: _plain(value) for name, value in sums.items()})


def _plain(value: Tensor | float) -> Tensor | float:
    return value.item() if isinstance(value, Tensor) and value.dim() == 0 else value


def score(task: Task, config: Any, network: nn.Module, split: Split) -> dict[str, float]:
    """The scores of `split`, its batches read in order with dropout off."""
    return numbers(task, sums_over(task, config, network, split))


def shared_score(task: Task, config: Any, network: nn.Module, split: Split) -> dict[str, float]:
    """The same, each process with its share of every batch."""
    share = split if processes.count() == 1 else split.share(processes.index(), processes.count())
    total: Sums = {}
    for sums in processes.gather(sums_over(task, config, network, share)):
        total = add(total, sums)
    return numbers(task, total)


@torch.no_grad()
def sums_over(task: Task, config: Any, network: nn.Module, split: Split) -> Sums:
    """What the batches of a split come to."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    total: Sums = {}
    carried = None
    for index in range(len(split)):
        outcome = task.loss(config, network, move_data_to_device(split.batch(0, index), device), carried)
        total, carried = add(total, outcome.sums), outcome.carried
    network.train(training)
    return total
