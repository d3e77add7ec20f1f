"""Optimizers, and the learning rate's course as a pure function of where the training stands."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from conveyor.training.options import TrainingOptions


def make(options: TrainingOptions, weights: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer that the options name."""
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimizer == "sgd":
        return SGD(weights, rate, options.momentum, weight_decay=decay, fused=True)
    if options.optimizer == "rmsprop":
        return RMSprop(weights, rate, options.smoothing, momentum=options.momentum, weight_decay=decay)
    return (Adam if options.optimizer == "adam" else AdamW)(weights, rate, weight_decay=decay, fused=True)


def learning_rate(options: TrainingOptions, epoch: int, progress: float, reductions: int) -> float:
    """The rate in `epoch` (counted from 0), with a share `progress` of all steps done, after `reductions` plateaus.

    decay:   rate · factor^max(0, epoch + 1 - after), as in Zaremba et al. 2014
    cosine:  rate · (1 + cos(π · progress)) / 2
    plateau: rate · factor^reductions
    """
    if options.schedule == "decay":
        return options.learning_rate * options.decay_factor ** max(0, epoch + 1 - options.decay_after)
    if options.schedule == "cosine":
        return options.learning_rate * (1 + math.cos(math.pi * progress)) / 2
    if options.schedule == "plateau":
        return options.learning_rate * options.decay_factor**reductions
    return options.learning_rate
