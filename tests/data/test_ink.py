"""Readers of ink, and what makes lines alike."""

import io
from pathlib import Path

import numpy as np
import pytest

from conveyor.data import ink
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

INKML = """<ink xmlns="http://www.w3.org/2003/InkML"><annotation type="truth">a b</annotation>
<trace>0 0 0.1, 10 5 0.2, 20 0 0.3</trace><trace>30 0, 40 10</trace></ink>"""
XML = """<WhiteboardCaptureSession><StrokeSet>
<Stroke colour="black"><Point x="0" y="0" time="1"/><Point x="10" y="5" time="2"/></Stroke>
<Stroke><Point x="30" y="0" time="3"/></Stroke></StrokeSet></WhiteboardCaptureSession>"""


def read(path: Path, skip: bool = False) -> list[ink.Ink]:
    return ink.read([path], BadRecords(skip))


def npz(path: Path, **arrays: object) -> Path:
    content = io.BytesIO()
    np.savez(content, **{name: np.asarray(array) for name, array in arrays.items()})
    path.write_bytes(content.getvalue())
    return path


def test_inkml(tmp_path: Path) -> None:
    (tmp_path / "line-train.inkml").write_text(INKML)
    [line] = read(tmp_path)
    assert (line.text, line.part) == ("a b", "train")
    assert line.points.tolist() == [[0, 0, 0], [10, 5, 0], [20, 0, 1], [30, 0, 0], [40, 10, 1]]


def test_xml_with_its_table(tmp_path: Path) -> None:
    (tmp_path / "a01-01.xml").write_text(XML)
    (tmp_path / "texts.tsv").write_text('id\tsplit\ttext\na01-01\tv\tHe said "no\n')
    [line] = read(tmp_path)
    assert (line.name, line.part, line.text) == ("a01-01", "v", 'He said "no')
    assert line.points.tolist() == [[0, 0, 0], [10, 5, 1], [30, 0, 1]]


def test_npz(tmp_path: Path) -> None:
    texts = "hé".encode()
    file = npz(
        tmp_path / "lines.npz", dx=[0, 3, 4, 0, 5], dy=[0, 4, 0, 0, 5], eos=[0, 1, 1, 0, 0], offsets=[0, 3, 5],
        text=np.frombuffer(texts, np.uint8), text_offsets=[0, 3, 3], id=["one", "two"], split=["train", "f"],
    )  # fmt: skip
    first, second = read(file)
    assert (first.name, first.text, first.part, second.text) == ("one", "hé", "train", "")
    assert first.points.tolist() == [[0, 0, 0], [3, 4, 1], [7, 4, 1]]
    assert second.points[-1, 2] == 1, "the last point lifts the pen"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("<ink><trace>5 5</trace></ink>", r"expected 2 to 100,000 points .* got \[1, 3\]; give a line of writing"),
        ("<ink></ink>", r"expected 2 to 100,000 points"),
        ("<ink><trace>5 5, 5 5</trace></ink>", "expected a line of writing, got 2 points in one place"),
        ("<ink><trace>5 five</trace></ink>", "expected numbers in a trace, got '5 five'"),
        ("<ink><trace>5, 6</trace></ink>", "expected x and y of each point, got '5, 6'"),
        ("<ink><trace>nan 5, 6 6</trace></ink>", "expected finite coordinates, got NaN or infinity"),
        ("<ink><trace>", "expected XML, but no element found"),
        ('<!DOCTYPE ink [<!ENTITY a "b">]><ink></ink>', "expected no document type"),
    ],
)
def test_bad_inkml(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.inkml").write_text(content)
    (tmp_path / "b.inkml").write_text(INKML)
    with pytest.raises(ConveyorError, match=f"a\\.inkml: {says}.*--skip-bad"):
        read(tmp_path)
    assert [line.name for line in read(tmp_path, skip=True)] == ["b"]


def test_bad_npz(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK no archive")
    with pytest.raises(ConveyorError, match=r"a\.npz: expected arrays in \.npz, but"):
        read(tmp_path / "a.npz")
    with pytest.raises(ConveyorError, match="expected arrays dx, dy, eos and offsets, got no offsets"):
        read(npz(tmp_path / "b.npz", dx=[1], dy=[1], eos=[1]))
    with pytest.raises(ConveyorError, match="expected rising numbers from 0 to the length of the arrays, 2, 2, 2"):
        read(npz(tmp_path / "c.npz", dx=[1, 2], dy=[1, 2], eos=[0, 1], offsets=[0, 3]))
    with pytest.raises(ConveyorError, match=r"no such file or folder; check the path given to --data"):
        read(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConveyorError, match="expected handwriting in"):
        read(tmp_path / "empty")


def wave(points: int = 200) -> np.ndarray:
    t = np.linspace(0, 12, points)
    return np.stack([10 * t, 20 * np.sin(t), np.zeros(points)], 1)


def test_lines_are_made_alike() -> None:
    """Whatever their place, size, slope and number of points, even with coordinates of 1e9."""
    plain = ink.even(ink.checked(wave(), ""))
    gaps = np.hypot(*np.diff(plain[:, :2], axis=0).T)
    assert gaps == pytest.approx(gaps[0], rel=0.02)
    assert gaps[0] == pytest.approx(ink.APART, rel=0.02)
    assert plain[:, 1].std() == pytest.approx(1, rel=0.1)
    assert plain[[0, -1], 2:].tolist() == [[1, 0], [0, 1]]
    for line in (wave() * [1e7, 1e7, 1] + [1e9, -1e9, 0], wave(5000), wave() + np.outer(wave()[:, 0], [0, 0.1, 0])):
        other = ink.even(ink.checked(line, ""))
        assert len(other) == pytest.approx(len(plain), abs=3)
        assert other[: len(plain) // 2, :2] == pytest.approx(plain[: len(plain) // 2, :2], abs=0.05)


def test_strokes_stay_apart() -> None:
    line = wave()
    line[80, 2] = 1
    found = ink.even(ink.checked(line, ""))
    assert found[:, 2].sum() == found[:, 3].sum() == 2
