"""Records that are wrong: the first one ends the reading, or each is left out and counted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from conveyor.errors import ConveyorError


class BadRecords:
    """What a reading makes of its mistakes.

    A reader takes each record inside `with bad.record():`, and raises a ConveyorError that names file and line where it
    is wrong, and ends in what to do.
    """

    def __init__(self, skip: bool, hint: str = ", or leave such records out with --skip-bad") -> None:
        self.skip, self.hint = skip, hint
        self.count = 0
        self.first = ""
        """The first mistake."""

    @contextmanager
    def record(self) -> Iterator[None]:
        """One record: its mistake is raised, or with `skip` counted."""
        try:
            yield
        except ConveyorError as error:
            if not self.skip:
                raise ConveyorError(f"{error}{self.hint}") from None
            self.count += 1
            self.first = self.first or str(error)

    def summary(self) -> str:
        """ ", 3 bad records left out, the first: …" where there were any."""
        return f", {self.count:,} bad records left out, the first: {self.first}" if self.count else ""

    def tell(self) -> None:
        """Say on stderr what was left out, where there is no summary to say it in."""
        if self.count:
            print(self.summary().removeprefix(", "), file=sys.stderr, flush=True)
