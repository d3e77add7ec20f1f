"""Ctrl-C: the step under way is finished and saved; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType

from conveyor.errors import ConveyorError


class Interrupted(ConveyorError):
    """The user stopped a training; what was learned is saved."""

    exit_code = 128 + signal.SIGINT


class Interruption:
    """Within this context Ctrl-C only sets `asked`; in other threads than the main one it changes nothing."""

    def __init__(self, run: Path, command: str) -> None:
        self.run, self.command = run, command
        self.asked = False

    def __enter__(self) -> Interruption:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def error(self, step: int, last_step: int) -> Interrupted:
        """What to tell the user."""
        return Interrupted(
            f"[train] stopped at step {step:,} of {last_step:,}; what was learned is in {self.run}; "
            f"go on with: {self.command} --resume {self.run}"
        )
