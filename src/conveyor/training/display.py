"""What a training shows: a bar while it runs on a terminal, and a line a validation."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from conveyor.training.learner import Learner


class Display(TQDMProgressBar):
    """Lightning's bar with the training's own figures."""

    def __init__(self, learner: Learner) -> None:
        super().__init__(refresh_rate=10)
        self.learner = learner
        if not sys.stderr.isatty():
            self.disable()

    def get_metrics(self, *_: Any) -> dict[str, Any]:
        """The last line of metrics, short."""
        return short(self.learner.latest, "train")

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Name the epoch as the user counts it."""
        super().on_train_epoch_start(trainer)
        epoch = self.learner.progress.step // self.learner.batches + 1
        self.train_progress_bar.set_description(f"epoch {epoch}/{self.learner.options.epochs}")

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """A line a validation; a star marks the best."""
        super().on_train_epoch_end(trainer, self.learner)
        progress = self.learner.progress
        figures = "  ".join(f"{name} {value}" for name, value in short(self.learner.latest, "valid").items())
        star = "  *" if progress.stale == 0 else ""
        epoch, minutes = progress.step / self.learner.batches, progress.seconds / 60
        say = print if self.is_disabled else self.print  # the bar prints above itself
        say(f"epoch {epoch:6.2f}  step {progress.step:7,}  {figures}  {minutes:6.1f} min{star}")


def short(latest: dict[str, float], part: str) -> dict[str, str]:
    """The scores of a part, and the speed, in few digits."""
    scores = {name.removeprefix(f"{part}_"): value for name, value in latest.items() if name.startswith(f"{part}_")}
    speed = {name.removesuffix("_per_second") + "/s": value for name, value in latest.items() if "_per_second" in name}
    return {k: f"{v:.4g}" for k, v in scores.items()} | {k: f"{v:,.0f}" for k, v in speed.items()}
