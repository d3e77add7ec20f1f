"""One training, as Lightning sees it: steps, learning rate, carried state, and all that a checkpoint must hold.

To Lightning an "epoch" is a span: the batches from one validation to the next. So validation always stands between two
spans, wherever the options put it, and a run goes on in the middle of an epoch as at its beginning: the position in the
data is one number, `progress.step`.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from conveyor.errors import ConveyorError
from conveyor.training import optimizer, processes, randomness
from conveyor.training.averaging import Average
from conveyor.training.scoring import add, numbers
from conveyor.training.task import Data, Split, Sums, Task


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0
    """Updates done; batch step % N of epoch step // N is next, with N batches an epoch."""
    seconds: float = 0.0
    """Time spent, over all sessions."""
    best: float = math.inf
    """The best validation so far."""
    stale: int = 0
    """Validations since then."""
    reductions: int = 0
    """How often the plateau schedule lowered the learning rate."""
    averaging: bool = False
    """Whether the mean of the weights has begun."""


AHEAD = 2
"""Batches made ready while one is trained on."""


class Span:
    """The batches from `start` up to `stop`, counted over all epochs; a thread makes the next ones ready."""

    def __init__(self, split: Split, start: int, stop: int) -> None:
        self.split, self.start, self.stop = split, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Any]:
        with ThreadPoolExecutor(1) as reader:
            ready: deque[Future[Any]] = deque()
            for step in range(self.start, self.stop + AHEAD):
                if step < self.stop:
                    ready.append(reader.submit(self.split.batch, *divmod(step, len(self.split))))
                if step >= self.start + AHEAD and ready:
                    yield ready.popleft().result()


class Learner(LightningModule):
    """A task's network in training."""

    def __init__(self, task: Task, config: Any, data: Data, network: nn.Module) -> None:
        super().__init__()
        self.task, self.config, self.data, self.network = task, config, data, network
        self.options = config.training
        self.average = Average.of(self.options, network)
        self.progress = Progress()
        self.carried: Any = None
        self.sums: Sums = {}
        """What the batches since the last line of metrics came to."""
        self.latest: dict[str, float] = {}
        """The last line of metrics."""
        self._random: dict[str, Any] | None = None
        self._mark = (0.0, 0.0)
        """When the last line of metrics was written, and how much work was in `sums` then."""
        self._clock = time.perf_counter()

    # Position

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return len(self.data.train)

    @property
    def last_step(self) -> int:
        """The step that ends the training, if nothing ends it earlier."""
        all_epochs: int = self.options.epochs * self.batches
        return min(all_epochs, self.options.max_steps or all_epochs)

    @property
    def done(self) -> bool:
        """Whether there is nothing more to do."""
        late = self.progress.seconds >= 60 * (self.options.max_minutes or math.inf)
        stale = self.progress.stale >= (self.options.patience or math.inf)
        return self.progress.step >= self.last_step or late or stale

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        epoch, share = self.progress.step // self.batches, self.progress.step / self.last_step
        return optimizer.learning_rate(self.options, epoch, share, self.progress.reductions)

    def train_dataloader(self) -> Span:
        """The batches up to the next validation; Lightning asks anew for each span."""
        split: Split = self.data.train
        if processes.count() > 1:
            split = split.share(processes.index(), processes.count())
        step, every = self.progress.step, self.options.validate_every or self.batches
        epoch_end = (step // self.batches + 1) * self.batches
        return Span(split, step, min((step // every + 1) * every, epoch_end, self.last_step))

    @property
    def best(self) -> nn.Module:
        """What is validated and kept: the network, or the mean of its weights once that has begun."""
        return self.average.network if self.average and self.progress.averaging else self.network

    # Steps

    def configure_optimizers(self) -> Optimizer:
        """The optimizer; its learning rate is set before each step."""
        return optimizer.make(self.options, self.network.parameters())

    def on_train_start(self) -> None:
        """Go on with the random numbers of the checkpoint, now that setting up has drawn its own."""
        self.progress.averaging |= self.options.average == "ema"
        if self._random:
            randomness.restore(self._random)
        self._clock = time.perf_counter()

    def on_train_epoch_start(self) -> None:
        """Time runs from here: validation does not count as training speed."""
        self._mark = (time.perf_counter(), float(self.sums.get(self.task.UNIT, 0)))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate; at an epoch's start forget the carried state."""
        if self.progress.step % self.batches == 0:
            self.carried = None
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate

    def training_step(self, batch: Any) -> Tensor:
        """The loss of one batch."""
        outcome = self.task.loss(self.config, self.network, batch, self.carried)
        self.carried, self.sums = outcome.carried, add(self.sums, outcome.sums)
        if processes.count() == 1:
            return outcome.loss
        # gradients are averaged over the processes, whose shares of the batch need not be alike
        return outcome.loss * (outcome.weight * processes.count() / processes.total(outcome.weight))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the step; now and then write a line of metrics."""
        self.progress.step += 1
        if self.average and self.progress.averaging:
            self.average.update(self.network)
        self.tick()
        if self.progress.step % self.options.log_every == 0:
            self.log_training()
        self.trainer.should_stop = processes.any_of(self.done)

    def tick(self) -> None:
        """Count the time since the last call."""
        now = time.perf_counter()
        self.progress.seconds += now - self._clock
        self._clock = now

    def begin_averaging(self) -> None:
        """Begin the mean of the weights when it is time."""
        trigger = self.options.average == "trigger" and self.progress.stale >= self.options.average_patience
        if trigger and not self.progress.averaging:
            self.progress.averaging, self.progress.stale = True, 0

    # Metrics

    def log_training(self) -> None:
        """Write what the batches since the last line came to, and begin anew."""
        if not self.sums:
            return
        total: Sums = {}
        for sums in processes.gather(self.sums):
            total = add(total, sums)
        scores = numbers(self.task, total)
        if not math.isfinite(next(iter(scores.values()))):
            raise self.diverged()
        (then, counted), now = self._mark, time.perf_counter()
        speed = processes.total(float(self.sums[self.task.UNIT]) - counted) / (now - then)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]  # of the last step
        self._mark, self.sums = (now, 0.0), {}
        self.write_line("train", scores, {f"{self.task.UNIT}_per_second": speed, "learning_rate": rate})

    def write_line(self, part: str, scores: dict[str, float], more: dict[str, float]) -> None:
        """Hand a line of metrics to every logger."""
        line = {f"{part}_{name}": value for name, value in scores.items()} | more
        self.latest |= line
        where = {"epoch": self.progress.step / self.batches, "minutes": self.progress.seconds / 60}
        for logger in self.loggers:
            logger.log_metrics(where | line, self.progress.step)

    def diverged(self) -> ConveyorError:
        """The error for weights that are no longer numbers."""
        return ConveyorError(
            f"[train] step {self.progress.step}: the loss is no longer a finite number; the earlier checkpoint is "
            "unharmed; start again with a lower --learning-rate or --clip-norm"
        )

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know of, and leave out its counters: `progress` says it all."""
        if not all(weight.isfinite().all() for weight in self.network.parameters()):
            raise self.diverged()
        del checkpoint["loops"], checkpoint["epoch"], checkpoint["global_step"]
        checkpoint["progress"] = dataclasses.asdict(self.progress)
        mine = {"carried": self.carried, "sums": self.sums, "random": randomness.state()}
        checkpoint["processes"] = processes.gather(mine)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        self.progress = Progress(**checkpoint["progress"])
        mine = checkpoint["processes"][processes.index()]
        self.carried = move_data_to_device(mine["carried"], self.device)
        self.sums, self._random = mine["sums"], mine["random"]
