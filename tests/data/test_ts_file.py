"""`.ts` files: what is read, and each mistake with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conveyor.data import ts_file
from conveyor.data.records import BadRecords
from conveyor.data.sequences import Records
from conveyor.errors import ConveyorError

HEADER = "# made up\n@problemName Two\n@univariate false\n@dimensions 2\n@classLabel true left right\n@data\n"
CASE = "1,2,3:4,5,6:left\n"


def read(folder: Path, content: str | bytes, skip: bool = False, fill: bool = False) -> tuple[Records, BadRecords]:
    file = folder / "a.ts"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    bad = BadRecords(skip)
    return ts_file.read(file, bad, fill), bad


def test_cases_of_unequal_lengths(tmp_path: Path) -> None:
    found, _ = read(tmp_path, f"{HEADER}{CASE}\n# a comment\n 7 , 8 : -9e-1 , .5 : right \r\n")
    one, two = found.records
    assert one.content.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert two.content.tolist() == [[7, np.float32(-0.9)], [8, 0.5]]
    assert one.content.dtype == np.float32
    assert [one.label, two.label] == ["left", "right"]
    assert two.where == f"{tmp_path}/a.ts, line 10"
    assert list(found.declared) == ["left", "right"]
    assert (found.kind, len(found.channels)) == ("series", 2)


def test_without_dimensions_the_first_case_tells(tmp_path: Path) -> None:
    found, _ = read(tmp_path, "@CLASSLABEL true a b\n@Data\n1:2:3:a\n4:5:6:b\n")
    assert len(found.channels) == 3
    univariate, _ = read(tmp_path, "@univariate true\n@classLabel false\n@data\n1,2,3\n")
    assert univariate.records[0].content.tolist() == [[1], [2], [3]]
    assert univariate.records[0].label is None


def test_missing_values_are_filled_if_asked(tmp_path: Path) -> None:
    found, _ = read(tmp_path, f"{HEADER}?,2,?,4,NaN:5,?,?,6,7:left\n", fill=True)
    assert found.records[0].content.T.tolist() == [[2, 2, 2, 4, 4], [5, 5, 5, 6, 7]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            f"{HEADER}1,?,3:4,5,6:left\n",
            "line 7, channel 1, step 2: expected a number .*, got nan; fill it in, or train with --missing fill",
        ),
        (f"{HEADER}1,2:4,nan:left\n", "a.ts, line 7, channel 2, step 2: expected a number"),
        (f"{HEADER}{CASE}1,2,3:4,5:left\n", "line 8: expected as many values in channel 2 as in channel 1, 3, got 2"),
        (f"{HEADER}{CASE}1,2,3:left\n", "line 8: expected 2 channels and a class, parted by ':', got 1 channels"),
        (f"{HEADER}1:2:3:left\n", "line 7: expected 2 channels and a class, parted by ':', got 3 channels"),
        (f"{HEADER}1,x:2,3:left\n", "line 7, channel 1: expected numbers parted by ',' .*'x'"),
        (f"{HEADER}1,:2,3:left\n", "line 7, channel 1: expected numbers"),
        (
            f"{HEADER}1,1e39:2,3:left\n",
            r"channel 1, step 2: expected a number that float32 holds, got 1e\+39; scale",
        ),
        (f"{HEADER}1,2:2,3:up\n", r"line 7: expected a class of the header \(left, right\), got 'up'"),
        (f"{HEADER}1,2:2,3:\n", r"line 7: expected a class of the header \(left, right\), got ''"),
        ("@dimensions 2\n1,2:3,4\n", "line 2: expected the header of a .ts file"),
        ("@dimensions 2\n", "expected a line @data and cases behind it; the file ends before"),
        ("@dimensions two\n@data\n", "@dimensions: expected a whole number, 1 or more, got 'two'"),
        ("@timeStamps true\n@data\n", "@timeStamps true is not read"),
        ("@targetLabel true\n@data\n", "@targetLabel gives numbers to predict"),
        ("@classLabel\n@data\n", "@classLabel: expected true and the classes, or false"),
        ("", "the file is empty"),
        (HEADER.encode() + b"caf\xe9", "expected UTF-8, but byte 96"),
    ],
)
def test_mistakes(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(ConveyorError, match=said):
        read(tmp_path, content)


def test_bad_cases_are_left_out_and_counted(tmp_path: Path) -> None:
    found, bad = read(tmp_path, f"{HEADER}1,?:2,3:left\n{CASE}1:2:3:left\n{CASE}", skip=True)
    assert [record.where[-1] for record in found.records] == ["8", "0"]
    assert bad.count == 2
    assert "line 7" in bad.first


def test_a_channel_without_any_value_cannot_be_filled(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match=r"line 7, channel 2, step 1: .*fill in one of the channel's values"):
        read(tmp_path, f"{HEADER}1,2:?,?:left\n", fill=True)
