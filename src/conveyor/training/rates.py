"""A first guess at the learning rate: let it grow from step to step, and see where the loss falls fastest.

L. N. Smith, "Cyclical Learning Rates for Training Neural Networks" (2017), section 3.3, the range test.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device

from conveyor.errors import ConveyorError
from conveyor.training import files, machine, pictures, processes
from conveyor.training.fit import begin
from conveyor.training.task import Task

LOW, HIGH, STEPS = 1e-6, 10.0, 200
SMOOTHING = 0.9
"""Share of the old in the running mean of the loss."""
SETTLED = 10
"""Steps whose running means are of too few losses to be compared."""
TOO_MUCH = 4.0
"""The test ends where the loss is so many times the least it was."""


def find_rate(task: Task, config: Any, run: Path) -> float:
    """The rate at which the loss falls fastest, in a training that is thrown away; `run/rates.png` shows its course."""
    if processes.count() > 1:
        raise ConveyorError("[find-lr] expected one process, got several; leave --devices out")
    rates, losses = _course(task, config)
    slopes = np.gradient(losses, np.log(rates))
    rate = float(rates[SETTLED:][slopes[SETTLED:].argmin()])
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerows([("learning_rate", "loss"), *zip(rates.tolist(), losses.tolist(), strict=True)])
    files.write(run / "rates.csv", text.getvalue().encode())
    _draw(run / "rates.png", rates, losses, rate)
    return rate


def _course(task: Task, config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rates and the running means of the loss, up to where it leaps."""
    learner = begin(task, config, None)
    device = machine.resolve(config.training.device)
    network, split = learner.network.to(device).train(), learner.data.train
    updates = learner.configure_optimizers()
    losses: list[float] = []
    mean, carried = 0.0, None
    rates = np.geomspace(LOW, HIGH, STEPS)
    for step, rate in enumerate(rates):
        epoch, index = divmod(step, len(split))
        batch = move_data_to_device(split.batch(epoch, index), device)
        outcome = task.loss(config, network, batch, carried if index else None)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * outcome.loss.item()
        smooth = mean / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(smooth) or (losses and smooth > TOO_MUCH * min(losses)):
            break
        losses.append(smooth)
        for group in updates.param_groups:
            group["lr"] = rate
        updates.zero_grad()
        outcome.loss.backward()
        if config.training.clip_norm:
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.training.clip_norm)
        updates.step()
        carried = outcome.carried
    if len(losses) < 2 * SETTLED:
        raise ConveyorError(f"[find-lr] the loss leaps or is no number at step {len(losses)}; look at the data")
    return rates[: len(losses)], np.array(losses)


def _draw(path: Path, rates: np.ndarray, losses: np.ndarray, rate: float) -> None:
    figure = pictures.figure()
    axes = figure.add_subplot()
    axes.semilogx(rates, losses)
    axes.axvline(rate, linestyle="--", color="C1", label=f"falls fastest at {rate:.2g}")
    axes.set(xlabel="learning rate", ylabel="loss, running mean")
    axes.grid(alpha=0.3)
    axes.legend()
    pictures.write(path, figure)
