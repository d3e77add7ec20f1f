"""Tables of series: what is read from long and wide ones, and what is said of mistakes."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conveyor.data import series as tables
from conveyor.data.records import BadRecords
from conveyor.data.series import Columns, Series
from conveyor.errors import ConveyorError


def read(text: str, folder: Path, skip: bool = False, name: str = "a.csv", **columns: object) -> list[Series]:
    (folder / name).write_text(text)
    return tables.read([folder / name], Columns(**columns), BadRecords(skip))  # type: ignore[arg-type]


def test_long_rows_in_any_order(tmp_path: Path) -> None:
    text = "ds,unique_id,y\n2024-01-02,b,5\n2024-01-01,b,4\n2024-01-01,a,1.5\n2024-01-03,b,6\n"
    b, a = read(text, tmp_path)
    assert (b.name, b.values.tolist(), b.step) == ("b", [4, 5, 6], timedelta(days=1))
    assert b.times.to_list() == [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)]
    assert (a.values.tolist(), a.step) == ([1.5], timedelta(days=1)), "one value has the step of the others"
    assert b.test_from == 3


def test_other_names_and_covariates(tmp_path: Path) -> None:
    text = "shop,t,sold,city,price,open\nx,1,3,Ulm,0.5,1\nx,2,4,Ulm,0.7,0\nx,3,,Ulm,,1\nx,4,,Ulm,,0\n"
    named = {"id_column": "shop", "time_column": "t", "target_column": "sold"}
    [one] = read(text, tmp_path, static=("city",), past=("price",), ahead=("open",), **named)
    assert one.values.tolist() == [3, 4]
    assert one.past.tolist() == [[0.5], [0.7]]
    assert one.ahead.tolist() == [[1], [0], [1], [0]], "the future of what is known ahead"
    assert one.static == ("Ulm",)
    assert one.times_behind(2, 2).to_list() == [3, 4]


def test_parquet_is_as_csv(tmp_path: Path) -> None:
    start = datetime(2024, 1, 1)
    frame = pl.DataFrame(
        {"unique_id": [7] * 4, "ds": [start + timedelta(hours=n) for n in range(4)], "y": [1, 2, 3, 4]}
    )
    frame.write_parquet(tmp_path / "a.parquet")
    [one] = tables.read([tmp_path / "a.parquet"], Columns(), BadRecords(False))
    [other] = read(frame.write_csv(), tmp_path)
    assert one.name == other.name == "7"
    assert one.values.tolist() == other.values.tolist() == [1, 2, 3, 4]
    assert (
        one.times_behind(4, 2).to_list()
        == other.times_behind(4, 2).to_list()
        == [start + timedelta(hours=4 + n) for n in (0, 1)]
    )
    assert tables.season_of([tmp_path / "a.csv"], [one]) == 24


def test_wide_files_and_their_test(tmp_path: Path) -> None:
    (tmp_path / "Hourly-train.csv").write_text('"V1","V2","V3","V4"\n"H1","1","2","3"\n"H2","9",,\n')
    (tmp_path / "Hourly-test.csv").write_text('"V1","V2","V3"\n"H2","8","7"\n"H1","4","5"\n"H3","0","0"\n')
    paths = [tmp_path / f"Hourly-{part}.csv" for part in ("test", "train")]
    one, two = tables.read(paths, Columns(), BadRecords(False))
    assert (one.name, one.values.tolist(), one.test_from) == ("H1", [1, 2, 3, 4, 5], 3)
    assert (two.name, two.values.tolist(), two.test_from) == ("H2", [9, 8, 7], 1)
    assert two.times.to_list() == [1, 2, 3]
    assert tables.season_of(paths, [one]) == 24
    [first] = tables.read(paths, Columns(), BadRecords(False), limit=1)
    assert first.values.tolist() == one.values.tolist()


@pytest.mark.parametrize(
    ("days", "behind"),
    [
        (["2023-11-30", "2023-12-31", "2024-01-31"], ["2024-02-29", "2024-03-31"]),
        (["2023-11-01", "2023-12-01", "2024-01-01"], ["2024-02-01", "2024-03-01"]),
        (["2023-04-01", "2023-07-01", "2023-10-01"], ["2024-01-01", "2024-04-01"]),
        (["2024-01-01", "2024-01-08", "2024-01-15"], ["2024-01-22", "2024-01-29"]),
    ],
)
def test_times_that_follow(tmp_path: Path, days: list[str], behind: list[str]) -> None:
    [one] = read("unique_id,ds,y\n" + "".join(f"a,{day},1\n" for day in days), tmp_path)
    assert [str(day) for day in one.times_behind(3, 2)] == behind
    assert [str(day) for day in one.times_behind(2, 2)] == [days[2], behind[0]]


def test_a_long_test_file_goes_on(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("unique_id,ds,y\na,1,1\na,2,2\na,3,3\n")
    paths = [tmp_path / "sales.csv", tmp_path / "sales_test.csv"]
    paths[1].write_text("unique_id,ds,y\na,5,5\na,4,4\nnew,1,1\n")
    [one] = tables.read(paths, Columns(), BadRecords(False))
    assert (one.values.tolist(), one.test_from) == ([1, 2, 3, 4, 5], 3)
    paths[1].write_text("unique_id,ds,y\na,0,5\n")
    with pytest.raises(ConveyorError, match=r"sales_test.csv, line 2: series a: a test row lies before the end"):
        tables.read(paths, Columns(), BadRecords(False))


MISTAKES = {
    "unique_id,ds\na,1\n": "a.csv: expected the columns unique_id, ds, y; y missing, got: unique_id, ds; rename yours",
    "unique_id,ds,y\na,1,1\na,2,2\na,2,3\n": "a.csv, line 4: series a has 2 twice",
    "unique_id,ds,y\na,1,1\na,2,2\na,3,3\na,5,4\n": "line 5: a gap: series a: expected a step of 1 behind 3, got 5",
    "unique_id,ds,y\na,2024-01-01,1\na,2024-01-02,2\na,2024-01-03,3\na,2024-01-09,4\n": "line 5: a gap",
    "unique_id,ds,y\na,10,1\na,20,2\na,25,2\na,35,3\n": "line 4: uneven steps",
    "unique_id,ds,y\na,1,1\na,2,NaN\na,3,3\n": "line 3, y: series a: expected a finite number, got nothing",
    "unique_id,ds,y\na,1,1\na,2,\n": "line 3, y: series a: expected a finite number, got nothing",
    "unique_id,ds,y\na,1,inf\na,2,1\n": "line 2, y: series a: expected a finite number, got inf",
    "unique_id,ds,y\na,1,1\na,2,many\n": "line 3, y: expected a number, got 'many'",
    "unique_id,ds,y\na,1,1\na,soon,2\n": "line 3, ds: expected a date or a whole number, got 'soon'",
    "unique_id,ds,y\na,yes,1\na,no,2\n": "line 2, ds: expected a date or a whole number, got 'yes'",
    "unique_id,ds,y\na,1,1\n,2,2\n": "line 3: no name in unique_id",
    "unique_id,ds,y\n": "the table has no rows",
    "unique_id,ds,y\na,1,1,7\n": "expected a table, CSV or Parquet, but",
    "V1,V2,V3,V4\nH1,1,,3\n": "line 2, V3: series H1: expected a finite number, got nothing",
    "V1,V2,V3\nH1,1,2\nH2,x,2\n": "line 3, V2: expected a number, got 'x'",
    "V1,V2,V3\nH1,1,2\nH1,3,4\n": "line 3: series H1 has 1 twice",
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConveyorError, match=MISTAKES[text]):
        read(text, tmp_path)


def test_bad_series_are_left_out_and_counted(tmp_path: Path) -> None:
    text = "unique_id,ds,y\nbad,1,x\nbad,2,1\ngood,1,1\ngood,2,2\nworse,1,1\nworse,1,1\n"
    (tmp_path / "a.csv").write_text(text)
    bad = BadRecords(True)
    [good] = tables.read([tmp_path / "a.csv"], Columns(), bad)
    assert good.name == "good"
    assert bad.count == 2
    assert "line 2, y: expected a number, got 'x'" in bad.summary()
    with pytest.raises(ConveyorError, match="no series left, 1 bad records left out"):
        read("unique_id,ds,y\na,1,x\n", tmp_path, skip=True)


def test_gaps_are_filled_on_request(tmp_path: Path) -> None:
    text = "unique_id,ds,y\na,2024-01-01,1\na,2024-01-02,\na,2024-01-05,4\na,2024-01-06,5\na,2024-01-07,6\n"
    [one] = read(text, tmp_path, fill_gaps=True)
    assert one.values.tolist() == [1, 1, 1, 1, 4, 5, 6]
    with pytest.raises(ConveyorError, match="line 2, y: series a: expected a finite number"):
        read("unique_id,ds,y\na,1,\na,2,2\n", tmp_path, fill_gaps=True)


def test_a_missing_covariate_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match="line 3, open: series a: expected a finite number, got nothing"):
        read("unique_id,ds,y,open\na,1,1,1\na,2,2,\n", tmp_path, ahead=("open",))
    with pytest.raises(ConveyorError, match="line 2, open: expected a number, got 'no'"):
        read("unique_id,ds,y,open\na,1,1,no\n", tmp_path, ahead=("open",))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match="expected a file, got a folder; give one or some of: "):
        tables.read([tmp_path], Columns(), BadRecords(False))
    with pytest.raises(ConveyorError, match="cannot be read"):
        tables.read([tmp_path / "none.csv"], Columns(), BadRecords(False))
    with pytest.raises(ConveyorError, match="no data; give --data"):
        tables.read([], Columns(), BadRecords(False))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ConveyorError, match="expected a table, CSV or Parquet, but"):
        tables.read([tmp_path / "a.parquet"], Columns(), BadRecords(False))


def test_bare_numbers() -> None:
    assert tables.of_numbers([1, 2, 3]).times_behind(3, 2).to_list() == [4, 5]
    for wrong in ([], [1, np.nan], [[1, 2]]):
        with pytest.raises(ConveyorError, match="expected one finite number or more in a row"):
            tables.of_numbers(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators(tmp_path: Path, separator: str) -> None:
    [one] = read("unique_id,ds,y\na,1,2\na,2,3\n".replace(",", separator), tmp_path)
    assert one.values.tolist() == [2, 3]


def test_a_static_column_that_changes(tmp_path: Path) -> None:
    text = "unique_id,ds,y,city\na,1,2,Ulm\na,2,3,Ulm\na,3,4,Bonn\n"
    with pytest.raises(ConveyorError, match=r"line 4, city: series a: expected 'Ulm' in all its rows, got 'Bonn'"):
        read(text, tmp_path, static=("city",))
