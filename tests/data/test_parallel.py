"""Parallel texts in each form, and what is wrong with some."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from conveyor.data.parallel import Languages, lines, read_parts
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

DE_EN = Languages("de", "en")
TMX = """<?xml version="1.0"?><tmx version="1.4"><body>
<tu><tuv xml:lang="de-AT"><seg>Ein <bpt i="1">&lt;b&gt;</bpt>Hund<ept i="1">&lt;/b&gt;</ept>
 rennt.</seg></tuv><tuv xml:lang="en"><seg>A dog runs.</seg></tuv></tu>
<tu><tuv xml:lang="de"><seg>Ja.</seg></tuv><tuv xml:lang="fr"><seg>Oui.</seg></tuv></tu>
<tu><tuv xml:lang="EN-us"><seg>No.</seg></tuv><tuv xml:lang="de"><seg>Nein.</seg></tuv></tu>
</body></tmx>"""


def texts(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def pairs(path: Path, bad: BadRecords | None = None) -> list[tuple[str, str]]:
    [corpus] = DE_EN.find([path])
    return [pair[:2] for pair in DE_EN.read(corpus, bad or BadRecords(False))]


def test_parts_of_a_folder(tmp_path: Path) -> None:
    """Parts by name, packed or not; the first test corpus; longer endings only where they are asked for."""
    texts(
        tmp_path,
        train__de="a\nb\n",
        train__en="A\nB\n",
        val__de="c",
        val__en="C",
        train__tok__de="x",
        train__tok__en="X",
    )
    texts(tmp_path, test_2016__de="d\n", test_2016__en="D\n", test_2017__de="e", test_2017__en="E", notes__txt="no")
    (tmp_path / "train.de.gz").write_bytes(gzip.compress((tmp_path / "train.de").read_bytes()))
    (tmp_path / "train.de").unlink()
    parts = read_parts([tmp_path], DE_EN, BadRecords(False), 0.1, 0.1)
    assert [[pair[:2] for pair in part] for part in parts[:3]] == [[("a", "A"), ("b", "B")], [("c", "C")], [("d", "D")]]
    assert parts.test_name == "test_2016"
    assert parts.train[1].where == f"{tmp_path}/train.de.gz:2"
    longer = Languages("tok.de", "tok.en")
    assert [pair[:2] for pair in longer.read(longer.find([tmp_path])[0], BadRecords(False))] == [("x", "X")]


def test_what_is_not_said_is_split(tmp_path: Path) -> None:
    """Without a word left out or taken twice, and always alike."""
    texts(tmp_path, a__txt="\n".join(map(str, range(50))), b__txt="\n".join(f"n{n}" for n in range(50)))
    given = [tmp_path / "a.txt", tmp_path / "b.txt"]
    parts = read_parts(given, DE_EN, BadRecords(False), 0.2, 0.1)
    assert [len(part) for part in parts[:3]] == [35, 10, 5]
    assert sorted(int(pair.source) for part in parts[:3] for pair in part) == [*range(50)]
    assert all(pair.target == f"n{pair.source}" for part in parts[:3] for pair in part)
    assert parts == read_parts(given, DE_EN, BadRecords(False), 0.2, 0.1)


@pytest.mark.parametrize(
    "table", ["Ja.\tYes.\tnote\nNein.\tNo.\t\n", "nr\ten\tde\n1\tYes.\tJa.\n2\tNo.\tNein.\n"], ids=["plain", "named"]
)
def test_tsv(tmp_path: Path, table: str) -> None:
    (tmp_path / "a.tsv").write_text(table)
    assert pairs(tmp_path / "a.tsv") == [("Ja.", "Yes."), ("Nein.", "No.")]


def test_tsv_keeps_quotation_marks(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('"Ja" sagt er.\t"Yes", he says.\n"\t"\n')
    assert pairs(tmp_path / "a.tsv")[0] == ('"Ja" sagt er.', '"Yes", he says.')


def test_tmx(tmp_path: Path) -> None:
    """Markup is no text, regions are no matter, and a unit that lacks a language is a mistake."""
    (tmp_path / "a.tmx").write_text(TMX)
    with pytest.raises(ConveyorError, match=r"a\.tmx, unit 2: expected a sentence in en, got de, fr"):
        pairs(tmp_path / "a.tmx")
    bad = BadRecords(True)
    assert pairs(tmp_path / "a.tmx", bad) == [("Ein Hund rennt.", "A dog runs."), ("Nein.", "No.")]
    assert bad.count == 1
    (tmp_path / "a.tmx").write_text(TMX[:-60])
    with pytest.raises(ConveyorError, match=r"a\.tmx: expected TMX, but "):
        pairs(tmp_path / "a.tmx")


def test_unequal_length(tmp_path: Path) -> None:
    texts(tmp_path, train__de="a\nb\nc\n", train__en="A\nB\n")
    with pytest.raises(ConveyorError, match=r"expected as many lines in both, got 3 and 2"):
        pairs(tmp_path)


def test_an_empty_line(tmp_path: Path) -> None:
    texts(tmp_path, train__de="a\n \nc\n", train__en="A\nB\nC\n")
    with pytest.raises(ConveyorError, match=r"train\.de:2: expected a sentence \(de\), got an empty one.*--skip-bad"):
        pairs(tmp_path)
    assert pairs(tmp_path, BadRecords(True)) == [("a", "A"), ("c", "C")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"caf\xe9\n", r"expected UTF-8, but byte 3 is not"),
        (gzip.compress(b"text\n" * 99)[:-9], r"expected a whole gzip file"),
        (b"no gzip", r"expected a whole gzip file"),
    ],
    ids=["latin1", "cut", "none"],
)
def test_damage(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / ("a.txt" if b"caf" in content else "a.txt.gz")
    file.write_bytes(content)
    with pytest.raises(ConveyorError, match=says):
        lines(file)


def test_nothing_to_find(tmp_path: Path) -> None:
    texts(tmp_path, train__de="a", train__fr="A")
    with pytest.raises(ConveyorError, match=r"expected TSV, TMX, or texts that end in \.de and \.en"):
        DE_EN.find([tmp_path])
    with pytest.raises(ConveyorError, match=r"no such file or folder"):
        DE_EN.find([tmp_path / "nowhere"])


def test_lines_of_every_system(tmp_path: Path) -> None:
    """A form feed or a line separator within a sentence ends no line, or the two sides would part."""
    (tmp_path / "a").write_bytes("a\u2028b\r\nc\x0cd\n\ne".encode())
    assert lines(tmp_path / "a") == ["a\u2028b", "c\x0cd", "", "e"]
