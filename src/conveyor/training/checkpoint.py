"""Checkpoints: all that a training needs to go on as if it had never stopped, in one safetensors file.

They hold the weights, the optimizer, the position in the data, the carried state, every random number generator, the
best validation so far. They are written whole or not at all, and reading one runs no code of its author's (no pickle).
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from conveyor.errors import ConveyorError
from conveyor.training import bundle, processes, tensors
from conveyor.training.interruption import Interruption
from conveyor.training.learner import Learner, Progress


def last(run: Path) -> Path:
    """Where a run keeps its checkpoint."""
    return run / "checkpoints" / "last.safetensors"


def begun(run: Path, resume: bool) -> bool:
    """Whether a run has a checkpoint to go on from; raises where training anew would write over what was learned."""
    there, model = last(run).exists(), run / "model.safetensors"
    if there and not resume:
        raise ConveyorError(f"[train] {run}: this run has begun already; go on with --resume, or take another folder")
    if not there and model.exists():
        raise ConveyorError(
            f"[resume] {last(run)} is missing, and training anew would write over {model}; put it back, or start a "
            "new run"
        )
    return there


def progress(path: Path, learner: Learner) -> Progress:
    """Where a checkpoint stands, after a check that it is one of this network."""
    match tensors.read_tree(path, "resume"):
        case {
            "state_dict": dict(weights),
            "optimizer_states": [{"state": dict(), "param_groups": [dict(group)]}],
            "progress": dict(values),
            "processes": [*parts],
            "pytorch-lightning_version": str(),  # Lightning's own, as those below
            "lr_schedulers": list(),
            "callbacks": dict(),
        } if group.keys() == _optimizer_options(learner) and _is_progress(values) and all(map(_is_part, parts)):
            if len(parts) != processes.count():
                raise ConveyorError(
                    f"[resume] {path}: this run trained in {len(parts)} processes, got {processes.count()}; "
                    "take as many"
                )
            tensors.match(weights, learner.state_dict(), f"[resume] {path}")
            return Progress(**values)
    raise ConveyorError(f"[resume] {path}: expected a checkpoint of this run, got another file; copy it again")


def load_weights(path: Path, network: nn.Module) -> None:
    """Give a network the weights that a checkpoint of its run holds."""
    tree = tensors.read_tree(path, "checkpoint")
    held = tree.get("state_dict") if isinstance(tree, dict) else None
    if not isinstance(held, dict):
        raise ConveyorError(f"[checkpoint] {path}: expected a checkpoint of a run, got another file; copy it again")
    weights = {str(name).removeprefix("network."): weight for name, weight in held.items()}
    tensors.match(weights, network.state_dict(), f"[checkpoint] {path}")
    network.load_state_dict(weights, assign=True)


def _is_progress(values: dict[str, Any]) -> bool:
    numbers = all(isinstance(value, (int, float)) for value in values.values())
    return numbers and values.keys() == asdict(Progress()).keys()


def _is_part(part: Any) -> bool:
    """Whether it is what a process adds."""
    match part:
        case {
            "carried": _,
            "sums": dict(),
            "random": {"torch": Tensor(), "cuda": list(), "numpy": tuple(), "python": tuple()},
        }:
            return True
    return False


def _optimizer_options(learner: Learner) -> set[str]:
    [group] = learner.configure_optimizers().state_dict()["param_groups"]
    return set(group)


class SafeCheckpointIO(CheckpointIO):
    """Lightning's checkpoints as trees of tensors, instead of pickles."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write one, whole or not at all."""
        tensors.write(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read one."""
        return dict(tensors.read_tree(Path(path), "resume"))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete one."""
        Path(path).unlink(missing_ok=True)


class Keeper(Callback):
    """Saves checkpoints, always between two steps: when due, at an epoch's start, at the end, when asked to stop."""

    def __init__(self, run: Path, learner: Learner, interruption: Interruption) -> None:
        self.run, self.learner, self.interruption = run, learner, interruption
        self.saved_step = -1  # no model is ever without a checkpoint: the beginning is saved too
        self.saved_at = time.monotonic()

    def on_train_start(self, *_: Any) -> None:
        """Lightning has now put its signal handlers; ours come after."""
        self.interruption.listen()

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Before a step, all of the one before is done, with its validation and its line of metrics."""
        if self._due():
            self.save(trainer)
        self._leave_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Save the end, from where more epochs may go on."""
        self.save(trainer)
        self._leave_if_asked(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save a checkpoint, unless this step's is there."""
        step = self.learner.progress.step
        if step != self.saved_step:
            trainer.save_checkpoint(last(self.run))
            self.saved_step, self.saved_at = step, time.monotonic()

    def _due(self) -> bool:
        step, options = self.learner.progress.step, self.learner.options
        late = processes.any_of(time.monotonic() - self.saved_at >= 60 * options.save_minutes)
        return late or step % self.learner.batches == 0 or step % (options.save_steps or step + 1) == 0

    def _leave_if_asked(self, trainer: Trainer) -> None:
        if processes.any_of(self.interruption.asked is not None):
            self.save(trainer)
            if processes.first() and not (self.run / "model.safetensors").exists():
                bundle.write_weights(self.run, self.learner.best)
            raise self.interruption.error(self.learner.progress.step, self.learner.last_step)
