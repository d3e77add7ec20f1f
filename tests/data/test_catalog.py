"""Public sets by name: the user's own folder first, then what was fetched, then the address."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from conveyor.cli import main
from conveyor.data import catalog
from conveyor.errors import ConveyorError


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> catalog.Entry:
    """A set whose address is a file of this machine; what is fetched lands in a folder of the test."""
    source = tmp_path / "source.txt"
    source.write_text("one\n")
    monkeypatch.delenv("CONVEYOR_DATA", raising=False)
    monkeypatch.setattr(catalog.pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(catalog.pooch, "retrieve", _copy(source))
    sha256 = hashlib.sha256(b"one\n").hexdigest()
    entry = catalog.Entry("tiny", "A tiny set", "CC0", "language-model", "", {"a.txt": (sha256, "https://a.invalid")})
    monkeypatch.setattr(catalog, "entries", lambda: {"tiny": entry})
    return entry


def _copy(source: Path):  # type: ignore[no-untyped-def]
    def retrieve(url: str, known_hash: str, fname: str, path: Path) -> str:
        content = source.read_bytes()
        if known_hash != f"sha256:{hashlib.sha256(content).hexdigest()}":
            raise ValueError(f"SHA256 hash of downloaded file ({fname}) does not match the known hash")
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(content)
        return str(path / fname)

    return retrieve


def test_a_set_is_fetched_with_its_licence_said(served: catalog.Entry, capsys: pytest.CaptureFixture[str]) -> None:
    [folder] = catalog.locate(("tiny",))
    assert Path(folder, "a.txt").read_text() == "one\n"
    assert "Licence: CC0" in capsys.readouterr().err
    assert catalog.locate(("tiny/a.txt",)) == (f"{folder}/a.txt",)
    with pytest.raises(ConveyorError, match=r"tiny/b.txt: the set tiny has no b.txt; expected one of: a.txt"):
        catalog.locate(("tiny/b.txt",))


def test_another_file_than_the_known_one_is_refused(served: catalog.Entry, tmp_path: Path) -> None:
    (tmp_path / "source.txt").write_text("two\n")
    with pytest.raises(
        ConveyorError, match="does not match the known hash; fetch the files by hand into a folder tiny"
    ):
        catalog.locate(("tiny",))


def test_the_users_folder_comes_first(served: catalog.Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine" / "tiny").mkdir(parents=True)
    monkeypatch.setenv("CONVEYOR_DATA", str(tmp_path / "mine"))
    assert catalog.locate(("tiny",)) == (str(tmp_path / "mine" / "tiny"),)


def test_paths_win_over_names(served: catalog.Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").touch()
    assert catalog.locate(("tiny", "nowhere")) == (str(tmp_path / "tiny"), str(tmp_path / "nowhere"))


def test_every_entry_says_all() -> None:
    for name, entry in catalog.entries().items():
        assert entry.name == name
        assert entry.about
        assert entry.licence
        assert entry.files or entry.upstream, name
        for sha256, url in entry.files.values():
            assert len(bytes.fromhex(sha256)) == 32
            assert url.startswith("https://")


def test_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVEYOR_DATA", raising=False)
    assert main(["data"]) == 0
    said = capsys.readouterr().out
    for name in catalog.entries():
        assert f"\n{name} " in f"\n{said}" or f"  {name} " in said


def test_checksums_are_those_of_the_files(conveyor_data: Path) -> None:
    """Of sets small enough to be read in a moment."""
    checked = 0
    for entry in catalog.entries().values():
        for path, (sha256, _) in entry.files.items():
            file = conveyor_data / entry.name / path
            if file.exists() and file.stat().st_size < 2**22:
                assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256, file
                checked += 1
    assert checked > 10
