"""Feature tables and tables of events."""

from pathlib import Path

import numpy as np
import pytest

from conveyor.data import events
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError


def read(path: Path, *positions: str, leave_out: tuple[str, ...] = (), skip: bool = False) -> list[events.Source]:
    return events.read([path], positions, leave_out, BadRecords(skip))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_label_for_every_step(tmp_path: Path, end: str) -> None:
    (tmp_path / "a.csv").write_bytes(end.join(["x,y,Phase", "1,2,D", "3,4.5,P", ""]).encode())
    [source] = read(tmp_path)
    assert source.features is not None
    assert source.features.tolist() == [[1, 2], [3, 4.5]]
    assert (source.labels, source.names) == (["D", "P"], ("x", "y"))


def table(folder: Path, *rows: str) -> Path:
    (folder / "a.csv").write_text("x\n" + "1\n" * 10)
    (folder / "events.csv").write_text("\n".join(["file,start,end,label", *rows]))
    return folder


def test_events_of_a_table(tmp_path: Path) -> None:
    [source] = read(table(tmp_path, "a.csv,6.4,8,run", "a.csv,1,3,sit", "a.csv,3,4,sil"), leave_out=("sil",))
    labels = events.labels_of(source, 10)
    assert labels == ["none", "sit", "sit", "none", "none", "none", "run", "run", "none", "none"]
    assert events.segments(labels)[:2] == [(0, 1, "none"), (1, 3, "sit")]


def test_events_named_by_their_place(tmp_path: Path) -> None:
    folder = table(tmp_path, "a.csv,0,3,bin", "a.csv,3,4,sil", "a.csv,4,9,blue")
    [source] = read(folder, "command", "colour", leave_out=("sil",))
    assert [event.label for event in source.events or ()] == ["command", "colour"]
    with pytest.raises(ConveyorError, match="expected 3 events, one for each of --positions, got 2"):
        read(folder, "command", "colour", "digit", leave_out=("sil",))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["a.csv,3,6,run", "a.csv,5,8,sit"], r"expected events that do not overlap, got one from 5 on while 'run'"),
        (["a.csv,-1,6,run"], "expected 0 or more and a later end, got -1 to 6"),
        (["a.csv,6,6,run"], "expected 0 or more and a later end, got 6 to 6"),
        (["a.csv,one,6,run"], "expected a start and an end, got 'a.csv,one,6,run'"),
        (["a.csv,1"], "expected a start and an end"),
        (["a.csv,1,2,"], "expected a label, got an empty one"),
    ],
)
def test_bad_events(tmp_path: Path, rows: list[str], says: str) -> None:
    with pytest.raises(ConveyorError, match=rf"events\.csv:\d: {says}.*--skip-bad"):
        read(table(tmp_path, *rows))


def test_events_past_the_end(tmp_path: Path) -> None:
    [source] = read(table(tmp_path, "a.csv,12,15,run"))
    with pytest.raises(ConveyorError, match=r"expected events within the 10 steps of a\.csv, got one from 12 on"):
        events.labels_of(source, 10)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("x,label\n1,a\ntwo,b\n", r"a\.csv:3: expected 2 cells, numbers but for the label, got 'two,b'"),
        ("x,label\n1,a\n2\n", r"a\.csv:3: expected 2 cells"),
        ("x,label\n1,a\nnan,b\n", r"a\.csv: expected rows of finite numbers"),
        ("x,label\n1,a\n2,\n", r"a\.csv:3: expected a label, got an empty one"),
        ("x,label\n", r"a\.csv: expected rows of finite numbers, got 0 rows"),
        ("file,start,label\na,1,b\n", r"a\.csv:1: expected a column of end, end_frame, got file, start, label"),
    ],
)
def test_bad_tables(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ConveyorError, match=says):
        read(tmp_path)
    with pytest.raises(ConveyorError, match=r"expected feature tables \(\.csv\) or videos, got none, 1 bad records"):
        read(tmp_path, skip=True)


def test_the_prior_is_the_most_frequent_label_of_each_step() -> None:
    assert events.prior([["a", "b"], ["a", "c", "c"], ["b", "c", "a", "b"]]) == ["a", "c", "a", "b"]
    assert np.array(events.prior([])).size == 0
