"""What a training shows: a bar while it runs on a terminal, and a line a validation."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from conveyor.training.learner import Learner


class Display(TQDMProgressBar):
    """Lightning's bar with the training's own figures."""

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} {elapsed}<{remaining}{postfix}"

    def __init__(self, learner: Learner) -> None:
        super().__init__(refresh_rate=10)
        self.learner = learner
        if not sys.stdout.isatty():
            self.disable()

    def get_metrics(self, *_: Any) -> dict[str, Any]:
        """The last line of metrics, short."""
        return short(self.learner.latest, "train", most=2)

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Name the epoch as the user counts it."""
        super().on_train_epoch_start(trainer)
        epoch = self.learner.progress.step // self.learner.batches + 1
        self.train_progress_bar.set_description(f"epoch {epoch}/{self.learner.options.epochs}")

    def on_exception(self, *_: Any) -> None:
        """Leave the bar's line to what is said next."""
        if self._train_progress_bar is not None:
            self._train_progress_bar.close()

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """A line a validation; a star marks the best."""
        super().on_train_epoch_end(trainer, self.learner)
        progress = self.learner.progress
        figures = "  ".join(f"{name} {value}" for name, value in short(self.learner.latest, "valid").items())
        star = "  *" if progress.stale == 0 else ""
        epoch, minutes = progress.step / self.learner.batches, progress.seconds / 60
        say = print if self.is_disabled else self.print  # the bar prints above itself
        say(f"epoch {epoch:6.2f}  step {progress.step:7,}  {figures}  {minutes:6.1f} min{star}")


def short(latest: dict[str, float], part: str, most: int = 9) -> dict[str, str]:
    """The first scores of a part, and the speed, in few digits."""
    names = [name for name in latest if name.startswith(f"{part}_")][:most]
    speeds = [name for name in latest if name.endswith("_per_second")]
    return {name.removeprefix(f"{part}_"): f"{latest[name]:.4g}" for name in names} | {
        name.replace("_per_second", "/s"): f"{latest[name]:,.0f}" for name in speeds
    }
