"""Pieces out of folders of MIDI and out of `.mat` files, and what can be wrong with these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conveyor.data import midi, piano_rolls
from conveyor.data.midi import KEYS, Roll
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

SHARES = (0.2, 0.1)


def piece(key: int, length: int = 4) -> np.ndarray:
    """One key all the time."""
    frames = np.zeros((length, KEYS), np.uint8)
    frames[:, key] = 1
    return frames


def put(path: Path, key: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(midi.write([Roll(piece(key), 120.0)], ["x"], 1))


def keys(pieces: list[np.ndarray]) -> list[int]:
    """Which key each piece is."""
    return [int(frames[0].argmax()) for frames in pieces]


def parts(*paths: Path, limit: int | None = None, skip: bool = False) -> tuple[piano_rolls.Parts, BadRecords]:
    bad = BadRecords(skip)
    return piano_rolls.read_parts(paths, 1, SHARES, limit, bad), bad


def test_a_folder_is_dealt_out(tmp_path: Path) -> None:
    """Every piece once; always in the same way; folders in it and either ending count."""
    for key in range(20):
        put(tmp_path / f"{'abc'[key % 3]}" / f"{key:02}{('.mid', '.midi', '.MID')[key % 3]}", key)
    (tmp_path / "readme.txt").write_text("no music")
    (tmp_path / ".hidden.mid").write_bytes(b"no music")
    once, _ = parts(tmp_path)
    assert [len(part) for part in once] == [14, 4, 2]
    assert sorted(keys([p for part in once for p in part])) == list(range(20))
    assert keys(once.train) != sorted(keys(once.train))
    again, _ = parts(tmp_path)
    assert list(map(keys, again)) == list(map(keys, once))
    few, _ = parts(tmp_path, limit=3)
    assert list(map(keys, few)) == [keys(part)[:3] for part in once]
    assert len(piano_rolls.read_test([tmp_path], 1, BadRecords(False))) == 20


def test_a_folder_may_say_what_is_what(tmp_path: Path) -> None:
    for key, part in enumerate(("train", "train", "valid", "test", "test")):
        put(tmp_path / part / f"{key}.mid", key)
    given, _ = parts(tmp_path)
    assert list(map(keys, given)) == [[0, 1], [2], [3, 4]]
    assert keys(piano_rolls.read_test([tmp_path], 1, BadRecords(False))) == [3, 4]


def test_bad_files_end_the_reading_or_are_counted(tmp_path: Path) -> None:
    for key in range(10):
        put(tmp_path / f"{key}.mid", key)
    (tmp_path / "3.mid").write_bytes(b"")
    with pytest.raises(ConveyorError, match=r"3.mid: the file is empty.*--skip-bad"):
        parts(tmp_path)
    read, bad = parts(tmp_path, skip=True)
    assert sum(map(len, read)) == 9
    assert "1 bad records left out, the first: [midi]" in bad.summary()


def test_a_piece_of_one_frame_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mid").write_bytes(midi.write([Roll(piece(4, 1), 120.0)], ["x"], 1))
    with pytest.raises(ConveyorError, match=r"a.mid: expected notes and two frames or more, got 1 frames"):
        parts(tmp_path / "a.mid")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match=r"none: no such file or folder"):
        parts(tmp_path / "none")
    with pytest.raises(ConveyorError, match=r"expected .mid or .midi files in this folder, got none; give a folder"):
        parts(tmp_path)
    (tmp_path / "JSB.mat").write_bytes(b"x")
    with pytest.raises(ConveyorError, match=r"got none; give one of \S*JSB.mat"):
        parts(tmp_path)
    with pytest.raises(ConveyorError, match=r"JSB.mat: expected a .mat file alone, got 2 paths"):
        parts(tmp_path, tmp_path / "JSB.mat")


# MATLAB


def mat(path: Path, **values: Any) -> Path:
    """A `.mat` file; lists become cells."""
    matlab = pytest.importorskip("scipy.io")
    cells = {}
    for name, value in values.items():
        cells[name] = value
        if isinstance(value, list):
            cells[name] = np.empty((1, len(value)), object)
            cells[name][0] = [*value, None][:-1]
    matlab.savemat(path, cells)
    return path


def good(**changed: Any) -> dict[str, Any]:
    usual = {"traindata": [piece(1), piece(2, 9)], "validdata": [piece(3)], "testdata": [piece(4), piece(5, 3)]}
    return usual | changed


def test_parts_of_a_mat_file(tmp_path: Path) -> None:
    path = mat(tmp_path / "a.mat", **good(validdata=[piece(3).astype(float)]))
    read, _ = parts(path)
    assert list(map(keys, read)) == [[1, 2], [3], [4, 5]]
    assert [frames.shape for frames in read.train] == [(4, KEYS), (9, KEYS)]
    assert read.valid[0].dtype == np.uint8
    assert keys(parts(path, limit=1)[0].test) == [4]
    assert keys(piano_rolls.read_test([path], 1, BadRecords(False))) == [4, 5]


WRONG = {
    "expected 0 or 1, got 2": piece(1) * 2,
    "frame 1, key 2: expected 0 or 1, got 0.5": piece(1) * 0.5,
    "expected 0 or 1, got nan": np.full((2, KEYS), np.nan),
    r"expected a matrix \[T, 88\] of numbers, got \(4, 87\)": piece(1)[:, 1:],
    r"expected a matrix \[T, 88\] of numbers, got \(1,\)": np.array("a word"),
    "expected notes and two frames or more, got no note": np.zeros((5, KEYS)),
    "got 1 frames": piece(7, 1),
    "got no note; give": np.zeros((0, KEYS)),
}


@pytest.mark.parametrize("expected", WRONG)
def test_a_piece_that_is_wrong(tmp_path: Path, expected: str) -> None:
    path = mat(tmp_path / "a.mat", **good(testdata=[piece(4), WRONG[expected]]))
    with pytest.raises(ConveyorError, match=rf"a.mat, testdata, piece 2.*{expected}"):
        parts(path)
    read, bad = parts(path, skip=True)
    assert keys(read.test) == [4]
    assert bad.count == 1


def test_a_mat_file_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match=r"a.mat: expected cells traindata, validdata and testdata, got no .*valid"):
        parts(mat(tmp_path / "a.mat", traindata=[piece(1)], testdata=[piece(1)]))
    with pytest.raises(ConveyorError, match=r"got no cells traindata"):
        parts(mat(tmp_path / "a.mat", **good(traindata=piece(1))))


def test_a_damaged_mat_file(tmp_path: Path) -> None:
    path = mat(tmp_path / "a.mat", **good())
    content = path.read_bytes()
    hdf = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF"
    for damaged in (b"", b"no matrix", content[:100], content[:500], content[: len(content) // 2], hdf):
        path.write_bytes(damaged)
        with pytest.raises(ConveyorError, match=r"a.mat: expected "):
            parts(path)
    with pytest.raises(ConveyorError, match=r"none.mat: no such file"):
        parts(tmp_path / "none.mat")


def test_jsb_chorales(conveyor_data: Path) -> None:
    """As many pieces and frames as the literature has."""
    pytest.importorskip("scipy")
    read, _ = parts(conveyor_data / "poly_music" / "JSB_Chorales.mat")
    assert [len(part) for part in read] == [229, 76, 77]
    assert [sum(map(len, part)) for part in read] == [13_807, 4_602, 4_725]


# Batches


def drawn(length: int) -> np.ndarray:
    return (np.random.default_rng(length).random((length, KEYS)) < 0.1).astype(np.uint8)


def test_pieces_side_by_side() -> None:
    """The longest first, zeros behind the ends."""
    pieces = [drawn(3), drawn(9), drawn(6)]
    batch = piano_rolls.batches(pieces, 3).batch(0, 0)
    assert batch.lengths.tolist() == [9, 6, 3]
    assert batch.frames.dtype == torch.float32
    for column, piece in enumerate((pieces[1], pieces[2], pieces[0])):
        assert np.array_equal(batch.frames[: len(piece), column].numpy(), piece)
        assert not batch.frames[len(piece) :, column].any()


def test_pieces_are_cut() -> None:
    parts = piano_rolls.cut([drawn(7), drawn(5), drawn(16)], 5)
    assert [len(part) for part in parts] == [4, 3, 5, 4, 4, 4, 4]
    assert np.array_equal(np.concatenate(parts[3:]), drawn(16))


def test_transposition_moves_a_piece_as_a_whole() -> None:
    torch.manual_seed(0)
    frames = torch.zeros(3, 400, KEYS)
    frames[0, :, 40] = frames[2, :, 47] = 1
    frames[1, :100, 2] = 1  # two keys free below
    frames[1, 100:200, 87] = 1  # none above
    frames[:, 200] = 0  # silence
    moved = piano_rolls.transposed(frames, 3)
    assert torch.equal(moved.sum((0, 2)), frames.sum((0, 2)))
    shift = moved[0].argmax(1) - 40
    assert torch.equal(moved[2].argmax(1)[shift > -40], (47 + shift)[shift > -40])
    assert set(shift[:100].tolist()) == {-2, -1, 0, 1, 2, 3}
    assert set(shift[100:200].tolist()) == {-3, -2, -1, 0}
    assert set(shift[201:].tolist()) == {-3, -2, -1, 0, 1, 2, 3}
    assert not moved[:, 200].any()
