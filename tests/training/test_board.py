"""TensorBoard reads what was written, and forgets what a killed run wrote behind its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conveyor.training.board import Board


def test_curves(tmp_path: Path) -> None:
    first = Board(tmp_path, 0)
    for step in (2, 4, 6):
        first.log_metrics({"train_loss": 1 / step, "speed": 10.0}, step)
    second = Board(tmp_path, 4)  # killed behind its checkpoint of step 4
    second.log_metrics({"train_loss": 0.125}, 6)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train_loss")] == [(2, 0.5), (4, 0.25), (6, 0.125)]
    assert [event.value for event in events.Scalars("speed")] == pytest.approx([10, 10])
