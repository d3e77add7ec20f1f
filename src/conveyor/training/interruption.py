"""Ctrl-C and SIGTERM: the step under way is finished and saved; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType

from conveyor.errors import ConveyorError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(ConveyorError):
    """A training was asked to stop; what was learned is saved."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.exit_code = 128 + number

    def of(self, text: str) -> Interrupted:
        """The same, said of more than one training."""
        return Interrupted(text, self.exit_code - 128)


class Interruption:
    """Within this context the signals only set `asked`; in other threads than the main one it changes nothing."""

    def __init__(self, run: Path, command: str) -> None:
        self.run, self.command = run, command
        self.asked: int | None = None
        """The signal that came."""

    def __enter__(self) -> Interruption:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self.listen()
        return self

    def __exit__(self, *error: object) -> None:
        if _in_main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def listen(self) -> None:
        """Take the signals; again once Lightning has put before this its own handler, which leaves without a word."""
        if _in_main_thread() and self.asked is None:
            for number in SIGNALS:
                signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # SIGTERM may come twice at once: `timeout` sends it so

    def error(self, step: int, last_step: int) -> Interrupted:
        """What to tell the user."""
        return Interrupted(
            f"[train] stopped at step {step:,} of {last_step:,}; what was learned is in {self.run}; "
            f"go on with: {self.command} --resume {self.run}",
            self.asked or signal.SIGTERM,  # which another process may have got
        )


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
