"""Captions in each form, parts by lists and names, and what is wrong with some."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conveyor.data import captions
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for n in range(10):
        (tmp_path / "images" / f"{n}.jpg").write_bytes(b"")
    return tmp_path


def parts(folder: Path, bad: BadRecords | None = None) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    found = captions.set_aside(captions.read([folder], bad or BadRecords(False)), 0.2, 0.1)
    return {name: [(one.path.stem, one.captions) for one in part] for name, part in found.items()}


def test_tokens_and_lists(folder: Path) -> None:
    """As Flickr8k comes; an image that is in no list, and one in no list that is not there, are passed over."""
    lines = [f"{n}.jpg#{k}\tA Dog, no. {k} !" for n in range(5) for k in range(2)] + ["x.jpg#0\tgone"]
    (folder / "all.token.txt").write_text("\n".join(lines))
    (folder / "Some.trainImages.txt").write_text("0.jpg\n1.jpg\n")
    (folder / "Some.devImages.txt").write_text("2.jpg\n")
    (folder / "Some.testImages.txt").write_text("3.jpg\n")
    found = parts(folder)
    assert found["train"] == [(str(n), ("a dog no 0", "a dog no 1")) for n in range(2)]
    assert [name for name, _ in found["valid"] + found["test"]] == ["2", "3"]


def test_csv_is_split(folder: Path) -> None:
    (folder / "captions.csv").write_text(
        "image,caption\n" + "".join(f'{n}.jpg,"A cat, it\'s {n}"\n' for n in range(10))
    )
    found = parts(folder)
    assert {name: len(part) for name, part in found.items()} == {"train": 7, "valid": 2, "test": 1}
    assert dict(found["train"] + found["valid"] + found["test"]) == {str(n): (f"a cat it's {n}",) for n in range(10)}
    assert found == parts(folder)


def test_coco(folder: Path) -> None:
    for part, numbers in {"train2017": range(6), "val2017": range(6, 8), "test": range(8, 10)}.items():
        described = {
            "images": [{"id": 100 + n, "file_name": f"{n}.jpg"} for n in numbers],
            "annotations": [{"image_id": 100 + n, "caption": f"Bird {n}."} for n in numbers],
        }
        (folder / f"captions_{part}.json").write_text(json.dumps(described))
    found = parts(folder)
    assert found["valid"] == [("6", ("bird 6",)), ("7", ("bird 7",))]
    assert [name for name, _ in found["test"]] == ["8", "9"]
    (folder / "captions_test.json").write_text('{"images": [{"id": 1}]}')
    with pytest.raises(ConveyorError, match=r"captions_test\.json: expected COCO's JSON .* KeyError"):
        parts(folder)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("77.jpg,a dog", r":12: a caption of 77\.jpg, but no such image is there"),
        ("3.jpg,", r":12: expected a caption of 1 to 100 words, got 0"),
        ("3.jpg," + "dog " * 10_000, r":12: expected a caption of 1 to 100 words, got 10,000"),
    ],
    ids=["missing", "empty", "long"],
)
def test_bad_rows(folder: Path, line: str, says: str) -> None:
    good = "".join(f"{n}.jpg,a cat\n" for n in range(10))
    (folder / "captions.csv").write_text(f"image,caption\n{good}{line}\n")
    with pytest.raises(ConveyorError, match=says):
        parts(folder)
    bad = BadRecords(True)
    assert sum(map(len, parts(folder, bad).values())) == 10
    assert bad.count == 1


def test_other_tables(folder: Path) -> None:
    (folder / "captions.csv").write_text("file,text\n1.jpg,a\n")
    with pytest.raises(ConveyorError, match=r"expected columns image and caption, got file, text"):
        parts(folder)
    (folder / "captions.csv").unlink()
    with pytest.raises(ConveyorError, match=r"got 10 images and no captions"):
        parts(folder)
