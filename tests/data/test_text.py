"""Reading text: files, folders, splits, and each mistake in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from conveyor.data import python_text, text
from conveyor.errors import ConveyorError


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_mark_is_dropped_and_line_ends_are_kept(tmp_path: Path) -> None:
    assert text.read(write(tmp_path / "a", b"\xef\xbb\xbfone\r\ntwo\n")) == "one\r\ntwo\n"


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_empty_file(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConveyorError, match=r"^\[text\] .*/a\.txt: the file is empty; give a file with text in it$"):
        text.read(write(tmp_path / "a.txt", content))


@pytest.mark.parametrize(("content", "offset"), [(b"caf\xe9", 3), (b"\xef\xbb\xbfcaf\xe9!", 6), (b"abc\xf0\x9f", 3)])
def test_not_utf8_names_the_byte(tmp_path: Path, content: bytes, offset: int) -> None:
    with pytest.raises(ConveyorError, match=rf"a\.txt: expected UTF-8, but byte {offset} \({content[offset]:#x}\)"):
        text.read(write(tmp_path / "a.txt", content))


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match="nowhere: no such file or folder"):
        text.read_all([tmp_path / "nowhere"])


def test_what_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    write(tmp_path / "closed" / "a.txt", b"text").parent.chmod(0o600)
    write(tmp_path / "open" / "a.txt", b"text").chmod(0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    with nobody(), pytest.raises(ConveyorError, match=r"^\[text\] closed/a\.txt: no such file or folder that may be"):
        text.read_parts([Path("closed/a.txt")], 0.1, 0.1)
    with nobody(), pytest.raises(ConveyorError, match=r"^\[text\] open/a\.txt: cannot be read \(Permission denied\)"):
        text.read_parts([Path("open")], 0.1, 0.1)


def test_folder_is_read_sorted_and_only_its_text(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", b"second")
    write(tmp_path / "a" / "z.md", b"first\n")
    write(tmp_path / "c.png", b"\x89PNG\0\0")
    write(tmp_path / ".hidden", b"no")
    write(tmp_path / ".git" / "config", b"no")
    assert text.read_all([tmp_path, tmp_path / "b.txt"]) == "first\nsecond\nsecond"


def test_folder_without_text(tmp_path: Path) -> None:
    write(tmp_path / "picture.png", b"\0")
    with pytest.raises(ConveyorError, match="no text file in this folder"):
        text.read_all([tmp_path])


def test_cut_in_order_loses_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", bytes(range(32, 127)) * 3)
    parts = text.read_parts([file], 0.1, 0.2)
    assert "".join(parts) == file.read_text()
    assert [len(part) for part in parts] == [200, 28, 57]  # of 285: 70 %, 10 %, 20 %


def test_given_parts(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        write(tmp_path / f"ptb.{part}.txt", part.encode())
    assert text.read_parts([tmp_path], 0.1, 0.1) == ("train", "valid", "test")
    assert text.read_test([tmp_path]) == "test"
    assert text.read_test([tmp_path / "ptb.train.txt"]) == "train"


def test_python_text_mixes_reference_and_sources() -> None:
    content = python_text.read()
    assert 1_000_000 < len(content) < 4_000_000
    for part in text.cut(content, 0.1, 0.1):
        assert "\nimport " in part
        assert "statement" in part
