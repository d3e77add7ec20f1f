"""The metrics of a run for TensorBoard.

Written at once by this thread. Lightning's own logger hands them to another thread, whose full disk nobody can catch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from conveyor.training import files


class Board(Logger):
    """Lightning's logger onto an event file; TensorBoard forgets what earlier files of the run have after `step`."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__()
        self.path = folder / f"events.out.tfevents.{time.time():.6f}"
        with files.writing(self.path):
            folder.mkdir(parents=True, exist_ok=True)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(session_log=SessionLog(status=SessionLog.START), step=step + 1))

    @property
    def name(self) -> str:
        """The file's name, for Lightning."""
        return self.path.name

    @property
    def version(self) -> int:
        """There is one a run."""
        return 0

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They are in `config.json`."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a point to the curve of each figure."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(Event(summary=Summary(value=values), step=step or 0))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        with files.writing(self.path), self.path.open("ab") as stream:
            RecordWriter(stream).write(event.SerializeToString())
