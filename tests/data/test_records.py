"""Wrong records end the reading, or are counted."""

from __future__ import annotations

import pytest

from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError


def read(bad: BadRecords, lines: list[str]) -> list[int]:
    numbers = []
    for place, line in enumerate(lines, 1):
        with bad.record():
            if not line.isdecimal():
                raise ConveyorError(f"[a.txt:{place}] expected a number, got {line!r}; mend it")
            numbers.append(int(line))
    return numbers


def test_the_first_ends_it() -> None:
    with pytest.raises(ConveyorError, match=r"a.txt:2.*got 'x'; mend it, or leave such records out with --skip-bad"):
        read(BadRecords(skip=False), ["1", "x", "y"])


def test_all_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    bad = BadRecords(skip=True)
    assert read(bad, ["1", "x", "2", "y"]) == [1, 2]
    assert bad.summary() == ", 2 bad records left out, the first: [a.txt:2] expected a number, got 'x'; mend it"
    bad.tell()
    assert capsys.readouterr().err == f"{bad.summary()[2:]}\n"
    assert BadRecords(skip=True).summary() == ""


def test_our_own_bugs_are_not_records() -> None:
    with pytest.raises(ZeroDivisionError), BadRecords(skip=True).record():
        _ = 1 / 0
