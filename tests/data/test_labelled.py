"""What trains, validates and tests; classes; labels; and the mistakes in them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from conveyor.data import labelled
from conveyor.data.labelled import Reader
from conveyor.data.records import BadRecords
from conveyor.data.sequences import Columns, Record
from conveyor.errors import ConveyorError


def reader(skip: bool = False) -> Reader:
    return Reader(Columns(), BadRecords(skip), False)


def table(counts: dict[str, int]) -> str:
    names = [name for name, count in counts.items() for _ in range(count)]
    return "id,x,label\n" + "".join(f"{n},{n},{name}\n" for n, name in enumerate(names))


def split(
    folder: Path, shares: tuple[float, float] = (0.1, 0.2), skip: bool = False, **files: str
) -> tuple[object, ...]:
    """Parts, classes and the mistakes left out, of files by their names."""
    for name, content in files.items():
        (folder / f"{name}.{'ts' if content.startswith('@') else 'csv'}").write_text(content)
    read = reader(skip)
    parts, classes = read.split(read.read_parts([folder]), *shares)
    return parts, classes, read.bad


def labels(records: list[Record]) -> Counter[str | None]:
    return Counter(record.label for record in records)


def test_each_class_is_split(tmp_path: Path) -> None:
    """By the shares, one sequence at the least; nothing is lost or read twice; the second time it is the same."""
    (train, valid, test), classes, _ = split(tmp_path, all=table({"b": 40, "a": 3, "10": 20, "9": 10}))
    assert labels(train) == {"b": 28, "a": 1, "10": 14, "9": 7}
    assert labels(valid) == {"b": 4, "a": 1, "10": 2, "9": 1}
    assert labels(test) == {"b": 8, "a": 1, "10": 4, "9": 2}
    assert sorted(int(record.name) for record in train + valid + test) == [*range(73)]
    assert classes == ["9", "10", "a", "b"]
    again, _, _ = split(tmp_path)
    assert labelled.digest(again) == labelled.digest((train, valid, test))


def test_given_parts(tmp_path: Path) -> None:
    few = table({"a": 5, "b": 5})
    (train, valid, test), _, _ = split(tmp_path, x_TRAIN=few, x_TEST=table({"b": 2}))
    assert (labels(train), labels(valid), labels(test)) == ({"a": 4, "b": 4}, {"a": 1, "b": 1}, {"b": 2})
    (train, valid, _), _, _ = split(tmp_path, val=table({"a": 1}))
    assert (labels(train), labels(valid)) == ({"a": 5, "b": 5}, {"a": 1})


def test_without_a_share_nothing_is_set_aside(tmp_path: Path) -> None:
    (train, valid, _), _, _ = split(tmp_path, (0, 0), x_TRAIN=table({"a": 1, "b": 1}), x_TEST=table({"b": 2}))
    assert (len(train), valid) == (2, [])


def test_names_of_files() -> None:
    parts = {
        stem: labelled.PART.search(stem) for stem in ("Vowels_TRAIN", "a.test", "val", "constrain", "latest", "b-Valid")
    }
    assert [match and match[1] for match in parts.values()] == ["TRAIN", "test", "val", None, None, "Valid"]


def test_labels_from_a_table_of_their_own(tmp_path: Path) -> None:
    rows = "id,x\n" + "".join(f"{n},{n}\n" for n in range(10))
    (train, valid, test), _, _ = split(
        tmp_path, rows=rows, given="id,label\n" + "".join(f"{n},{n % 2}\n" for n in range(10))
    )
    assert all(record.label == str(int(record.name) % 2) for record in train + valid + test)


def test_columns_may_stand_in_another_order(tmp_path: Path) -> None:
    one, two = "id,x,y,label\n1,1,2,a\n2,1,2,b\n", "label,y,x,id\na,2,1,3\n"
    (_, _, test), _, _ = split(tmp_path, (0, 0), train=one, test=two)
    assert test[0].content.tolist() == [[1, 2]]


HEADER = "@classLabel true a b c\n@dimensions 1\n@data\n"
TWO = table({"a": 3, "b": 3})


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"t": HEADER + "1:a\n" * 3 + "1:b\n" * 3}, r"t\.ts: class 'c' has no sequence, too few to train and"),
        ({"t": table({"a": 9, "b": 1})}, r"t\.csv: class 'b' has 1 sequence, too few to train and valid and test with"),
        ({"t": table({"a": 9, "b": 2})}, r"t\.csv: class 'b' has 2 sequences, .*expected 3 or more"),
        ({"t": table({"a": 9})}, "expected two classes or more to tell apart, got a"),
        ({"train": TWO, "test": table({"a": 1, "c": 1})}, r"test\.csv, line 3, '1': the label 'c' is .*\(a, b\)"),
        ({"train": TWO, "valid": table({"c": 1}), "test": TWO}, r"valid\.csv, line 2, '0': the label 'c'"),
        ({"t": "id,x,label\n1,2,a\n2,3,\n"}, r"t\.csv, line 3, '2': no label; add it in column 'label'"),
        ({"t": "id,x\n1,2\n"}, r"t\.csv, line 2, '1': no label"),
        ({"t": TWO, "u": "id,label\n9,a\n"}, r"u\.csv, line 2: a label for '9', but no sequence has this id"),
        ({"t": TWO, "u": "id,y,label\n1,2,a\n"}, r"u\.csv: expected the columns x, got id, y, label"),
        ({"t": TWO, "u": "text,label\nb,a\n"}, r"u\.csv: expected series of 1 channels.*got text of 0 channels"),
        ({"train": TWO, "test": "@dimensions 2\n@data\n1:2\n"}, r"test\.ts: .*series of 1 channels, .*got series of 2"),
        ({"train": TWO, "notes": TWO}, r"notes\.csv: expected a name that ends in train, valid or test"),
        ({"t": "id,label\n1,a\n"}, "expected sequences, got none"),
        ({}, "no file of .ts, .csv, .tsv, .parquet in this folder"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(ConveyorError, match=said):
        split(tmp_path, **files)


def test_nothing_to_test_on(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match="nothing to test on; raise --test-share"):
        split(tmp_path, (0.1, 0), t=TWO)


def test_bad_records_are_left_out_and_counted(tmp_path: Path) -> None:
    """An empty class, a class too small, a label never seen in training, a label for nothing, no label."""
    train = HEADER + "1:a\n" * 3 + "1:b\n" * 3
    (_, valid, test), classes, bad = split(
        tmp_path, skip=True, train=train, test="@classLabel true a c\n@data\n1:a\n2:c\n"
    )
    assert (classes, labels(valid), labels(test), bad.count) == (["a", "b"], {"a": 1, "b": 1}, {"a": 1}, 2)
    other = tmp_path / "other"
    other.mkdir()
    files = {"t": table({"a": 4, "b": 4, "c": 2}) + "11,1,\n", "u": "id,label\n77,a\n"}
    (train, _, _), classes, bad = split(other, skip=True, **files)
    assert (classes, bad.count) == (["a", "b"], 3)
    assert labels(train) == {"a": 2, "b": 2}


def test_paths_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match="nowhere: no such file or folder"):
        labelled.find([tmp_path / "nowhere"])
    (tmp_path / "a.png").touch()
    with pytest.raises(ConveyorError, match=r"a\.png: expected a file of \.ts, .*, got \.png"):
        labelled.find([tmp_path / "a.png"])


def test_some_are_from_all_over() -> None:
    records = [Record(str(n), "", None, "") for n in range(100)]
    chosen = [int(record.name) for record in labelled.some(records, 20)]
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 20
    assert (min(chosen) < 20, max(chosen) > 80) == (True, True)
    assert labelled.some(records, 20) == labelled.some(records, 20)
    assert labelled.some(records, None) is records
