"""Proteins: FASTA, structures and profiles read, and each mistake in them named."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from conveyor.data import proteins
from conveyor.data.proteins import Chain
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError


def read(*paths: Path, skip: bool = False) -> list[Chain]:
    return proteins.read(paths, BadRecords(skip))


def put(folder: Path, **files: str) -> Path:
    """Files a.fasta, a.ss, …; the first one's path."""
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder / next(iter(files)).replace("__", ".")


# Sequences and structures


def test_structures_beside(tmp_path: Path) -> None:
    """Eight and three states, in another order, over several lines, with coil in every spelling."""
    file = put(
        tmp_path,
        a__fasta=">one first of all\nACDe\nFG*\n>two\nBUZXJO\n",
        a__ss8=">two\nHGIEBT\n>one\nS-CL\n .\n",
        a__ss3=">one\nHEC-?X\n>two\nhhhhhh\n",
    )
    one, two = read(file)
    assert one == Chain("one", "ACDEFG", "HECC??", "SCCCCC")
    assert two == Chain("two", "XXXXXX", "HHHHHH", "HGIEBT")


@pytest.mark.parametrize(("letters", "kind"), [("HHE-", "ss3"), ("HHT-", "ss8")])
def test_letters_of_ss_say_which_states(tmp_path: Path, letters: str, kind: str) -> None:
    [chain] = read(put(tmp_path, a__fa=">a\nACDE\n", a__ss=f">a\n{letters}\n"))
    assert getattr(chain, kind) == letters.replace("-", "C")


def test_as_the_protein_data_bank_has_it(tmp_path: Path) -> None:
    file = put(
        tmp_path,
        ss__txt=">1ABC:A:sequence\nACDEF\nGH\n>1ABC:A:secstr\n EEE \n T\n>9XYZ:B:sequence\nAC\n>9XYZ:B:secstr\nHH\n",
    )
    assert read(file) == [Chain("1ABC:A", "ACDEFGH", "", "CEEECCT"), Chain("9XYZ:B", "AC", "", "HH")]


def test_eight_states_as_three() -> None:
    assert proteins.three_of("HGIEBTSC?", "HGI") == "HHHEECCC?"
    assert proteins.three_of("HGIEBTSC?", "H") == "HCCEECCC?"


def test_folder_says_what_is_what(tmp_path: Path) -> None:
    put(
        tmp_path, cull__train__fasta=">a\nAC\n>b\nAC\n", valid__fa=">c\nAC\n", test__faa=">d\nAC\n", more__fa=">e\nAC\n"
    )
    assert {chain.name: chain.part for chain in read(tmp_path)} == {
        "a": "train",
        "b": "train",
        "c": "valid",
        "d": "test",
        "e": "train",
    }


def test_split() -> None:
    """Each chain in one part; the shares; what the data say wins; always the same."""
    chains = [Chain(str(n), "AC") for n in range(50)]
    parts = proteins.split(chains, 0.2, 0.1)
    assert [len(part) for part in parts.values()] == [35, 10, 5]
    assert sorted(int(chain.name) for part in parts.values() for chain in part) == [*range(50)]
    assert parts == proteins.split(chains, 0.2, 0.1)
    given = [*chains, Chain("t", "AC", part="test")]
    assert [len(part) for part in proteins.split(given, 0.2, 0.1).values()] == [40, 10, 1]
    with pytest.raises(ConveyorError, match="no chain is left to test, of 3 in all"):
        proteins.split(chains[:3], 0.3, 0.1)


MISTAKES = {
    "labels too short": (
        {"a__fa": ">a\nACDE\n", "a__ss": ">a\nHHH\n"},
        r"a.ss, line 1: structure of a: expected 4 states, one a residue, got 3",
    ),
    "labels too long": (
        {"a__fa": ">a\nACDE\n>b\nAC\n", "a__ss": ">b\nHH\n>a\nHHHHH\n"},
        r"a.ss, line 3: .* expected 4 .* got 5",
    ),
    "unknown residue": (
        {"a__fa": ">a\nAC1E\n"},
        r"a.fa, line 1: residue 3 is '1'; expected a letter of an amino acid",
    ),
    "gap": ({"a__fa": ">a\nACDE\n>b\nA-C\n"}, r"a.fa, line 3: residue 2 is '-'.*gaps"),
    "stop within": ({"a__fa": ">a\nAC*DE\n"}, r"residue 3 is '\*'"),
    "empty": ({"a__fa": ">a\n\n>b\nAC\n"}, r"a.fa, line 1: an empty sequence"),
    "no header": ({"a__fa": "\nACDE\n>b\nAC\n"}, r"a.fa, line 2: expected a FASTA header such as '>name', got 'ACDE'"),
    "empty file": ({"a__fa": ""}, r"a.fa: expected a FASTA header such as '>name', got an empty file"),
    "two of a name": ({"a__fa": ">a\nAC\n>a\nAD\n"}, r"a.fa, line 3: a second chain a, the first is in .*a.fa, line 1"),
    "two of a name, with structures": (
        {"a__fa": ">a\nAC\n>a\nAD\n", "a__ss": ">a\nHH\n>a\nHH\n"},
        r"a.fa, line 3: a second chain a, the first",
    ),
    "no name": ({"a__fa": ">\nAC\n"}, r"a.fa, line 1: a header without a name"),
    "unknown state": (
        {"a__fa": ">a\nACDE\n", "a__ss3": ">a\nHHTE\n"},
        r"a.ss3, line 1: state 3 is 'T'; expected one of HEC",
    ),
    "unknown state of eight": ({"a__fa": ">a\nACDE\n", "a__ss": ">a\nHHQE\n"}, r"a.ss, line 1: state 3 is 'Q'"),
    "structure missing": ({"a__fa": ">a\nAC\n>b\nAC\n", "a__ss": ">a\nHH\n"}, r"a.fa, line 3: no structure of b"),
    "structure alone": (
        {"a__fa": ">a\nAC\n", "a__ss": ">a\nHH\n>b\nHH\n"},
        r"a.ss, line 3: structure of b, but no sequence of that name in .*a.fa",
    ),
    "two structures": ({"a__fa": ">a\nAC\n", "a__ss": ">a\nHH\n>a\nHH\n"}, r"a.ss, line 3: a second structure of a"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(tmp_path: Path, mistake: str) -> None:
    files, expected = MISTAKES[mistake]
    with pytest.raises(ConveyorError, match=expected):
        read(put(tmp_path, **files))


def test_bad_records_are_left_out(tmp_path: Path) -> None:
    """Those with a mistake, counted; the others are read."""
    file = put(
        tmp_path,
        a__fa=">good\nACDE\n>gap\nA-\n>short\nACDE\n>good\nAAAA\n>odd\nAC\n>last\nAC\n",
        a__ss=">good\nHHHH\n>gap\nHH\n>short\nH\n>odd\nH!\n>last\nEE\n",
    )
    bad = BadRecords(skip=True)
    assert proteins.read([file], bad) == [Chain("good", "ACDE", "", "HHHH"), Chain("last", "AC", "", "EE")]
    assert bad.count == 5  # the odd one twice: its structure, and that it has none then
    assert "a.fa, line 7: a second chain good" in bad.summary()


def test_no_such_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match=r"none.fa: no such file or folder"):
        read(tmp_path / "none.fa")
    with pytest.raises(ConveyorError, match=r"no FASTA file in this folder; expected .fasta"):
        read(tmp_path)
    (tmp_path / "binary.fa").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConveyorError, match=r"binary.fa: cannot be read as text"):
        read(tmp_path / "binary.fa")


# Profiles

PSSM = """
Last position-specific scoring matrix computed, weighted observed percentages rounded down
            A  R  N  D  C  Q  E  G  H  I  L  K  M  F  P  S  T  W  Y  V   A  R  N  D
    1 A     4 -1 -2 -2  0 -1 -1  0 -2 -1 -1 -1 -1 -2 -1  1  0 -3 -2  0  99  0  0  0  0.46 0.12
    2 C     0 -3 -3 -3  9 -3 -4 -3 -3 -1 -1 -3 -1 -2 -3 -1 -1 -2 -2-10   0  0  0  0  0.46 0.12

                      K         Lambda
Standard Ungapped    0.1326     0.3170
"""
LETTERS = "\t".join("ACDEFGHIKLMNPQRSTVWY")
HHM = f"""HHsearch 1.5
NAME  a
NULL   3706\t5728
HMM    {LETTERS}
       M->M\tM->I\tM->D\tI->M\tI->I\tD->M\tD->D\tNeff\tNeff_I\tNeff_D
       0\t*\t*\t0\t*\t0\t*\t*\t*\t*
A 1    0\t1000\t{chr(9).join(["*"] * 18)}\t1
       0\t*\t*\t2000\t*\t*\t*\t10000\t0\t*

C 2    {chr(9).join(["3000"] * 20)}\t2
       0\t*\t*\t*\t*\t*\t*\t1000\t0\t0

//
"""
HMM = f"""HMMER3/f [3.1b2 | February 2015]
NAME  a
LENG  2
HMM          {LETTERS}
            m->m     m->i     m->d     i->m     i->i     d->m     d->d
  COMPO   {" 3.0" * 20}
          {" 3.0" * 20}
            0.1  4.0  5.0  0.6  0.5  0.0  *
      1   {" 0.5" * 19} 2.0      1 a - - -
          {" 3.0" * 20}
            0.1  4.0  *  0.6  0.5  0.0  *
      2   {" 1.5" * 20}      2 c - - -
          {" 3.0" * 20}
            0.1  *  *  0.6  0.5  0.0  *
//
"""


def test_profiles_beside(tmp_path: Path) -> None:
    [chain] = read(put(tmp_path, a__fa=">a\nAC\n", a__pssm=PSSM, a__hhm=HHM, a__hmm=HMM))
    assert {kind: rows.shape for kind, rows in chain.profiles.items()} == {
        "pssm": (2, 20),
        "hhm": (2, 30),
        "hmm": (2, 27),
    }
    pssm, hhm, hmm = chain.profiles.values()
    assert pssm[0, :2] == pytest.approx([4, -1])
    assert pssm[1, -2:] == pytest.approx([-2, -10])  # the scores touch
    assert hhm[0].tolist() == pytest.approx([1, 0.5, *[0] * 18, 1, 0, 0, 0.25, 0, 0, 0, 0.5, 0, 0])
    assert hhm[1, :20] == pytest.approx([0.125] * 20)
    assert hmm[0, [0, 19]] == pytest.approx([math.exp(-0.5), math.exp(-2)])
    assert hmm[1, 20:] == pytest.approx([math.exp(-0.1), 0, 0, math.exp(-0.6), math.exp(-0.5), 1, 0])


def test_plain_profiles_under_a_chain_s_name(tmp_path: Path) -> None:
    """As JNet has them; characters that no file's name may have are _."""
    scores = "\n".join(" ".join(["-3", "5", *["0"] * 18]) for _ in range(3))
    (tmp_path / "1ABC_A.pssm").write_text(scores)
    (tmp_path / "1ABC_A.hmm").write_text(f"{' '.join(['0.25'] * 24)}\n" * 3)
    [chain, other] = read(put(tmp_path, a__fa=">1ABC:A\nACD\n>other\nACD\n"))
    assert chain.profiles["pssm"][2, :3] == pytest.approx([-3, 5, 0])
    assert chain.profiles["jnet"].tolist() == [[0.25] * 24] * 3
    assert other.profiles == {}
    squashed = " ".join(f"{1 / (1 + math.exp(-score)):.8f}" for score in range(-10, 10))
    (tmp_path / "other.pssm").write_text(f"{squashed}\n" * 3)  # as JPred writes it
    assert read(tmp_path / "a.fa")[1].profiles["pssm"][1] == pytest.approx(np.arange(-10, 10), abs=1e-3)


BAD_PROFILES = {
    "another length": (
        {"a__fa": ">a\nACD\n", "a__pssm": PSSM},
        r"a.pssm: expected 3 rows, one a residue of the sequence, got 2",
    ),
    "another protein": ({"a__fa": ">a\nAD\n", "a__pssm": PSSM}, r"a.pssm: residue 2 is C, but D in the sequence"),
    "another length, hhm": ({"a__fa": ">a\nA\n", "a__hhm": HHM}, r"a.hhm: expected 1 rows, .* got 2"),
    "another length, hmm": ({"a__fa": ">a\nA\n", "a__hmm": HMM}, r"a.hmm: expected 1 rows, .* got 2"),
    "cut off": ({"a__fa": ">a\nAC\n", "a__hmm": HMM[:500]}, r"a.hmm: not a profile as HMMER 3 or JPred writes it"),
    "cut off, hhm": ({"a__fa": ">a\nAC\n", "a__hhm": HHM[:330]}, r"a.hhm: not a profile as HHblits writes it"),
    "no columns": (
        {"a__fa": ">a\nAC\n", "a__pssm": "Last position-specific scoring matrix\n"},
        r"a.pssm: .*no line with the columns A R N",
    ),
    "words": (
        {"a__fa": ">a\nAC\n", "a__pssm": "one two\n"},
        r"a.pssm: not a profile as PSI-BLAST writes it \(could not convert",
    ),
    "not a number": ({"a__fa": ">a\nA\n", "a__hmm": " nan" * 24}, r"a.hmm: expected numbers alone"),
    "too narrow": (
        {"a__fa": ">a\nA\n", "a__hmm": "1 2 3\n"},
        r"a.hmm: expected 24 numbers a residue .* got shape \(1, 3\)",
    ),
    "empty": ({"a__fa": ">a\nA\n", "a__pssm": ""}, r"a.pssm: expected 20 numbers a residue"),
}


@pytest.mark.parametrize("mistake", BAD_PROFILES)
def test_bad_profiles_are_named(tmp_path: Path, mistake: str) -> None:
    files, expected = BAD_PROFILES[mistake]
    file = put(tmp_path, **files)
    with pytest.raises(ConveyorError, match=expected):
        read(file)
    assert read(file, skip=True) == []


# JPred's set


def arrays(**changes: object) -> dict[str, np.ndarray]:
    """Two chains to train on and two blind ones, one of which is left out."""

    def text(*lines: str) -> np.ndarray:
        return np.frombuffer("\n".join(lines).encode(), np.uint8)

    made: dict[str, np.ndarray] = {}
    for part, names in (("train", ("one", "two")), ("blind", ("three", "d3arcz_"))):
        made |= {f"{part}_name": text(*names), f"{part}_seq": text("ACD", "EX"), f"{part}_ss3": text("H-E", "EE")}
        made |= {f"{part}_ss8": text("H-B", ""), f"{part}_len": np.array([3, 2], np.int32)}
        made[f"{part}_pssm"] = np.arange(100).reshape(5, 20).astype(np.int8)
        made[f"{part}_hmm"] = np.full((5, 24), 51, np.uint8)
    return {name: array for name, array in (made | changes).items() if array is not None}


def test_jpred(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **arrays())
    one, two, three = read(tmp_path)
    assert (one.name, one.sequence, one.ss3, one.ss8, one.part) == ("one", "ACD", "HCE", "HCB", "train")
    assert (two.sequence, two.ss3, two.ss8) == ("EX", "EE", "")
    assert (three.name, three.part) == ("three", "test")
    assert two.profiles["pssm"][0, 0] == 60
    assert two.profiles["jnet"] == pytest.approx(np.full((2, 24), 0.2))


DAMAGED = {
    "array missing": ({"blind_len": None}, "blind_len is not there"),
    "rows missing": ({"train_pssm": np.zeros((4, 20), np.int8)}, r"train does not fit together: .*\(4, 20\)"),
    "chain missing": ({"train_seq": np.frombuffer(b"ACDEX", np.uint8)}, "train does not fit together"),
    "lengths differ": ({"train_len": np.array([2, 3], np.int32)}, "train chain 1, one: .*differ in length"),
    "letters": ({"train_seq": np.frombuffer(b"A1D\nEX", np.uint8)}, "train chain 1, one: residue 2 is '1'"),
    "objects": ({"train_hmm": np.array([{}], object)}, "not a whole .npz file"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_jpred(tmp_path: Path, damage: str) -> None:
    changes, expected = DAMAGED[damage]
    np.savez(tmp_path / "set.npz", **arrays(**changes))
    with pytest.raises(ConveyorError, match=expected):
        read(tmp_path / "set.npz")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_jpred_cut_off(tmp_path: Path, share: float) -> None:
    np.savez(tmp_path / "set.npz", **arrays())
    content = (tmp_path / "set.npz").read_bytes()
    (tmp_path / "set.npz").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConveyorError, match="not a whole"):
        read(tmp_path / "set.npz")


def test_the_real_set(conveyor_data: Path) -> None:
    chains = read(conveyor_data / "jpred")
    train, blind = ([chain for chain in chains if chain.part == part] for part in ("train", "test"))
    assert (len(train), len(blind)) == (1348, 149)
    assert sum(len(chain.sequence) for chain in train) == 218_421
    assert sum(not chain.ss8 for chain in train) == 10
    assert all(proteins.three_of(chain.ss8, "H") == chain.ss3 for chain in chains if chain.ss8)
