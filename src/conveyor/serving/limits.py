"""What a service lets its clients do."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from conveyor.errors import ConveyorError

MOST_STREAMS = 1 << 20
"""Of a pool."""


@dataclass(kw_only=True)
class Limits:
    """What one client may ask for."""

    streams: int = 1024
    """Streams at once."""
    message: int = 1 << 20
    """Bytes of a request or a message."""
    steps: int = 4096
    """Steps of a message, or of all sequences of a request."""
    rate: float = 2000.0
    """Steps a second that a stream may ask for, as a mean; so many at once as in two seconds."""
    idle: float = 300.0
    """Seconds after which a stream that sends nothing is closed, with its state."""
    slow: float = 20.0
    """Seconds that a client may take to accept a message."""

    def __post_init__(self) -> None:
        wrong = [name for name, value in vars(self).items() if not 0 < value < math.inf]
        if wrong:
            raise ConveyorError(f"[serve] {', '.join(f'--{name}' for name in wrong)}: expected a number above zero")
        if self.streams > MOST_STREAMS:
            raise ConveyorError(f"[serve] --streams: expected at most {MOST_STREAMS:,}, got {self.streams:,}")


class Bucket:
    """So many steps a second as a mean; those not asked for are saved up for two seconds."""

    def __init__(self, rate: float) -> None:
        self.rate, self.left, self.then = rate, 2 * rate, time.monotonic()

    def wait(self, steps: int) -> float:
        """Take so many; how many seconds to wait before they may be computed."""
        now = time.monotonic()
        self.left = min(2 * self.rate, self.left + (now - self.then) * self.rate) - steps
        self.then = now
        return max(0.0, -self.left / self.rate)
