"""Tables of sequences: CSV, TSV and Parquet say the same, and each mistake names its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conveyor.data import sequence_tables
from conveyor.data.records import BadRecords
from conveyor.data.sequences import Columns, Records
from conveyor.errors import ConveyorError

LONG = "id,step,x,y,label\nb,2,3,-3,up\nb,1,1.5,-1,up\na,10,7,8,down\na,9,5,6,\n"


def read(
    folder: Path, content: str, name: str = "a.csv", skip: bool = False, fill: bool = False, **columns: str
) -> Records:
    (folder / name).write_text(content)
    found = sequence_tables.read(folder / name, Columns(**columns), BadRecords(skip), fill)
    assert isinstance(found, Records)
    return found


def test_long_table(tmp_path: Path) -> None:
    """Rows are sorted by step, as numbers; ids stay in order; a label may stand in one of the rows."""
    found = read(tmp_path, LONG)
    b, a = found.records
    assert found.channels == ("x", "y")
    assert b.content.tolist() == [[1.5, -1], [3, -3]]
    assert a.content.tolist() == [[5, 6], [7, 8]]
    assert [(r.name, r.label) for r in (b, a)] == [("b", "up"), ("a", "down")]


@pytest.mark.parametrize("name", ["a.csv", "semicolons.csv", "a.tsv", "a.parquet"])
def test_formats_say_the_same(tmp_path: Path, name: str) -> None:
    if name == "a.parquet":
        pl.read_csv(LONG.encode()).write_parquet(tmp_path / name)
        found = sequence_tables.read(tmp_path / name, Columns(), BadRecords(False), False)
        assert isinstance(found, Records)
    else:
        found = read(tmp_path, LONG.replace(",", {"a.csv": ",", "a.tsv": "\t"}.get(name, ";")), name)
    assert [record.content.tolist() for record in found.records] == [[[1.5, -1], [3, -3]], [[5, 6], [7, 8]]]
    assert [record.label for record in found.records] == ["up", "down"]


def test_columns_of_other_names(tmp_path: Path) -> None:
    content = "who,when,x,note,speaker\n1,2026-01-10,2,good,me\n1,2026-01-09,1,fine,me\n"
    found = read(tmp_path, content, id="who", step="when", label="speaker", channels=("x",))
    assert found.records[0].content.tolist() == [[1], [2]]
    assert found.records[0].label == "me"


def test_without_steps_rows_stay_in_order(tmp_path: Path) -> None:
    found = read(tmp_path, "id,x\n1,5\n2,6\n1,4\n")
    assert [record.content.ravel().tolist() for record in found.records] == [[5, 4], [6]]
    assert found.records[0].label is None


def test_texts(tmp_path: Path) -> None:
    found = read(tmp_path, 'label,text\ngood,"fine, ""really""\nfine\u2028"\nbad, poor \n')
    assert found.kind == "text"
    assert [record.content for record in found.records] == ['fine, "really"\nfine', "poor"]
    assert [record.where[-6:] for record in found.records] == ["line 3", "line 4"]
    quotes = read(tmp_path, 'text\tlabel\n"so" they "say\tgood\n', "a.tsv")
    assert quotes.records[0].content == '"so" they "say'


def test_labels_alone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,label\nb,up\na,down\n")
    found = sequence_tables.read(tmp_path / "a.csv", Columns(), BadRecords(False), False)
    assert found == {"b": ("up", f"{tmp_path}/a.csv, line 2"), "a": ("down", f"{tmp_path}/a.csv, line 3")}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,x,label\n1,2,a\n", "expected a column 'id' .* or a column 'text', got name, x, label; .*--id-column"),
        ("id,step,label\n1,2,a\n", "expected columns of channels beside id, step, label"),
        ("id,x,x\n1,2,3\n", "line 1: expected column names, all different, got id, x, x"),
        ("id,x,label\n1,2,a\n1,a\n", "a.csv, line 3: expected 3 columns, as in line 1, got 2"),
        ("id,x,label\n1,2,a,4\n", "a.csv, line 2: expected 3 columns, as in line 1, got 4"),
        (
            "id,x,label\n1,2,a\n1,?,a\n",
            "line 3, column 'x': expected a number, got '\\?'; fill it in, or train with --missing",
        ),
        ("id,x,label\n1,2,a\n1,NaN,a\n", "line 3, column 'x': expected a number, got 'NaN'"),
        ("id,x,label\n1,2,a\n1,,a\n", "line 3, column 'x': expected a number, got ''"),
        ("id,x,label\n1,two,a\n", "line 2, column 'x': expected a number, got 'two'; .*--channels"),
        ("id,x,label\n1,inf,a\n", "line 2, column 'x': expected a number, got 'inf'"),
        ("id,step,x\n1,1,2\n1,1,3\n", "line 3: '1' has two rows of one step"),
        ("id,step,x\n1,,2\n", "line 2: nothing in column 'step'"),
        ("id,x\n,2\n", "line 2: nothing in column 'id'"),
        ("id,x,label\n1,2,a\n2,3,b\n1,2,b\n", "line 4: a sequence of two labels, 'a' and 'b'"),
        ("text,label\n  ,a\n", "line 2: the text is empty"),
        ("id,label\n1,a\n1,b\n", "line 3: a second label for '1'"),
        ("id,label\n1,\n", "line 2: nothing in column 'label'"),
        ("id,x,label\n", "the table has no rows"),
        ('text,label\n"never ends,a\n', "line 2: not a table"),
        ("", "the file is empty"),
    ],
)
def test_mistakes(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(ConveyorError, match=said):
        read(tmp_path, content)


def test_bad_sequences_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,x,label\n1,?,a\n2,3,a\n3,4,a,5\n4,5,b\n4,6,a\n")
    bad = BadRecords(True)
    found = sequence_tables.read(tmp_path / "a.csv", Columns(), bad, False)
    assert isinstance(found, Records)
    assert [record.name for record in found.records] == ["2"]
    assert bad.count == 3


def test_missing_values_are_filled_if_asked(tmp_path: Path) -> None:
    found = read(tmp_path, "id,x,y\n1,?,1\n1,2,\n1,NA,3\n", fill=True)
    assert found.records[0].content.T.tolist() == [[2, 2, 2], [1, 1, 3]]


def test_channels_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match="expected the columns z, got id, x"):
        read(tmp_path, "id,x\n1,2\n", channels=("x", "z"))


def test_parquet_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(ConveyorError, match=r"a\.parquet: expected Parquet"):
        sequence_tables.read(tmp_path / "a.parquet", Columns(), BadRecords(False), False)
    pl.DataFrame({"id": [1], "x": [[1, 2]]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(ConveyorError, match=r"b\.parquet: expected a number or text a cell, got others in x"):
        sequence_tables.read(tmp_path / "b.parquet", Columns(), BadRecords(False), False)
    pl.DataFrame({"id": [1, 1], "x": [1.0, None]}).write_parquet(tmp_path / "c.parquet")
    with pytest.raises(ConveyorError, match=r"c\.parquet, row 2, column 'x': expected a number, got None"):
        sequence_tables.read(tmp_path / "c.parquet", Columns(), BadRecords(False), False)


def test_labels_are_texts(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1, 2], "x": np.ones(2), "label": [0, 1]}).write_parquet(tmp_path / "a.parquet")
    found = sequence_tables.read(tmp_path / "a.parquet", Columns(), BadRecords(False), False)
    assert isinstance(found, Records)
    assert [record.label for record in found.records] == ["0", "1"]
