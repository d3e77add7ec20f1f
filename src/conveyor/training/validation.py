"""Validation between two spans of training, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from conveyor.training import bundle, processes
from conveyor.training.learner import Learner
from conveyor.training.scoring import shared_score


class Validation(Callback):
    """Scores the validation part; the best network so far becomes the run's model bundle."""

    def __init__(self, run: Path, learner: Learner) -> None:
        self.run, self.learner = run, learner

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Score, keep the best, and stop where patience ends."""
        learner, progress = self.learner, self.learner.progress
        learner.log_training()
        scores = shared_score(learner.task, learner.config, learner.best, learner.data.valid)
        learner.tick()
        learner.write_line("valid", scores, {})
        value = next(iter(scores.values()))
        if value < progress.best:
            progress.best, progress.stale = value, 0
            if processes.first():
                bundle.write_weights(self.run, learner.best)
        else:
            progress.stale += 1
            progress.reductions += 1
        learner.begin_averaging()
        trainer.should_stop = processes.any_of(learner.done)
