"""Proteins: sequences in FASTA, their secondary structure, and profiles beside them.

Sequences, `NAME.fasta` (also .fa, .faa, .fas, .seq): a header `>name anything`, then residues over any number of lines.
Structure, one letter a residue, in either of two ways:

- beside it in `NAME.ss8`, `NAME.ss3` or `NAME.ss`, FASTA too, the same names in any order. The letters of an .ss file
  say whether it has three states or eight;
- in the same file, as the Protein Data Bank has it in ss.txt: `>1ABC:A:sequence`, then `>1ABC:A:secstr`, eight states.

Eight states are DSSP's: H G I (helices), E B (strands), T S, and coil, for which C, L, -, . and blank all stand, and P.
Three are H, E and coil. ? and X say that nothing is known; such residues are neither learned nor scored.

Residues are the 20 letters, in either case. B, J, O, U, X and Z are read as X, unknown; a * at the end is a stop and is
dropped. All else, gaps above all, is refused.

Profiles lie beside the FASTA file, each named as its chain, with _ for each of /, \\, : and |; those of a file with one
chain may be named as the file: .pssm, .hhm, .hmm (`conveyor.data.profiles`).

`train`, `valid` or `test`, alone or as the last part of a file's name (`cull.train.fasta`), say what the file is for.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from conveyor.data import profiles
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

RESIDUES = "ACDEFGHIKLMNPQRSTVWYX"
"""The kinds of residue; X is any that is not known."""
THREE = "HEC"
EIGHT = "HGIEBTSC"
UNKNOWN = "?"
"""A state that is not known."""
PARTS = ("train", "valid", "test")
SEQUENCES = (".fasta", ".fa", ".faa", ".fas", ".seq")
STRUCTURES = (".ss8", ".ss3", ".ss")
AMBIGUOUS = str.maketrans("BJOUZ", "XXXXX")
COIL = str.maketrans("-L. PX", "CCCCC?")


@dataclass
class Chain:
    """A protein chain."""

    name: str
    sequence: str
    """Letters of `RESIDUES`."""
    ss3: str = ""
    """Letters of `THREE` and UNKNOWN, or nothing where the structure is not given."""
    ss8: str = ""
    """Letters of `EIGHT` and UNKNOWN, or nothing."""
    profiles: dict[str, np.ndarray] = field(default_factory=dict)
    """[T, …] each, by kind."""
    part: str = "train"
    """What the data say it is for."""
    where: str = field(default="", compare=False)
    """File and line, for error texts."""


class Record(NamedTuple):
    """A record of a FASTA file."""

    name: str
    text: str
    where: str


def read(paths: Sequence[Path], bad: BadRecords) -> list[Chain]:
    """The chains of files and folders: FASTA and what lies beside it, and JPred's set as an .npz."""
    chains: dict[str, Chain] = {}
    for file in _files(paths):
        found = jpred(file) if file.suffix == ".npz" else read_fasta(file, bad)
        for chain in found:
            with bad.record():
                if chain.name in chains:
                    raise _again("chain", chain.name, chain.where, chains[chain.name].where)
                chains[chain.name] = chain
    return list(chains.values())


def read_fasta(file: Path, bad: BadRecords) -> Iterator[Chain]:
    """The chains of one file, with structure and profiles where there are any."""
    records = [*fasta(file)]
    sequences = _named("chain", [record for record in records if not record.name.endswith(":secstr")], ":sequence", bad)
    structures = _structures(file, records, bad)
    part = file.stem.rpartition(".")[-1]
    for structure in [structure for given in structures.values() for structure in given.values()]:
        with bad.record():
            if structure.name not in sequences:
                raise ConveyorError(
                    f"[proteins] {structure.where}: structure of {structure.name}, but no sequence of that name "
                    f"in {file}; add it"
                )
    for name, record in sequences.items():
        with bad.record():
            sequence = residues(record.text, record.where)
            chain = Chain(name, sequence, part=part if part in PARTS else "train", where=record.where)
            for states, given in structures.items():
                if name not in given:
                    raise ConveyorError(f"[proteins] {record.where}: no structure of {name}; add it")
                setattr(chain, states, _of_length(given[name], len(sequence), name))
            stems = [re.sub(r"[/\\:|]", "_", name)] + ([file.stem] if len(sequences) == 1 else [])
            chain.profiles = profiles.beside(file.parent, stems, sequence)
            yield chain


def fasta(file: Path) -> Iterator[Record]:
    """The records of a FASTA file; blanks in them are kept, they may stand for coil."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConveyorError(f"[proteins] {file}: cannot be read as text ({error}); give a FASTA file") from None
    heads = [n for n, line in enumerate(lines) if line.startswith(">")]
    first = next((n for n, line in enumerate(lines) if line.strip()), None)
    if first is None or not lines[first].startswith(">"):
        got = "an empty file" if first is None else repr(lines[first][:40])
        line = "" if first is None else f", line {first + 1}"
        raise ConveyorError(f"[proteins] {file}{line}: expected a FASTA header such as '>name', got {got}")
    for begin, end in zip(heads, [*heads[1:], len(lines)], strict=True):
        name = (lines[begin][1:].split() or [""])[0]
        yield Record(name, "".join(lines[begin + 1 : end]), f"{file}, line {begin + 1}")


def residues(text: str, where: str) -> str:
    """A sequence as letters of `RESIDUES`."""
    sequence = "".join(text.split()).upper().removesuffix("*").translate(AMBIGUOUS)
    if not sequence:
        raise ConveyorError(f"[proteins] {where}: an empty sequence; add its residues")
    wrong = next((n for n, letter in enumerate(sequence) if letter not in RESIDUES), None)
    if wrong is not None:
        raise ConveyorError(
            f"[proteins] {where}: residue {wrong + 1} is {sequence[wrong]!r}; expected a letter of an amino acid, or X "
            "where it is not known; take gaps and other marks out"
        )
    return sequence


def states(text: str, known: str, where: str) -> str:
    """A structure as letters of `known` and UNKNOWN."""
    structure = text.upper().translate(COIL)
    wrong = next((n for n, letter in enumerate(structure) if letter not in known + UNKNOWN), None)
    if wrong is not None:
        raise ConveyorError(
            f"[proteins] {where}: state {wrong + 1} is {text[wrong]!r}; expected one of {known}, - or blank for coil, "
            "or ? where it is not known; mend it"
        )
    return structure


def three_of(ss8: str, helices: str) -> str:
    """Eight states as three: `helices` as H, E and B as E, the others as coil."""
    return "".join(
        state if state == UNKNOWN else "H" if state in helices else "E" if state in "EB" else "C" for state in ss8
    )


def _structures(file: Path, records: list[Record], bad: BadRecords) -> dict[str, dict[str, Record]]:
    """By "ss3" and "ss8" the structures given, by name."""
    found: dict[str, list[Record]] = {}
    within = [record for record in records if ":secstr" in record.name]
    if within:
        found["ss8"] = within
    for suffix in STRUCTURES:
        beside = file.with_suffix(suffix)
        if beside.exists():
            given = [*fasta(beside)]
            three = suffix == ".ss3" or (suffix == ".ss" and _has_three(given))
            found.setdefault("ss3" if three else "ss8", given)
    checked: dict[str, dict[str, Record]] = {}
    for kind, given in found.items():
        checked[kind] = {}
        for name, record in _named("structure of", given, ":secstr", bad).items():
            with bad.record():
                text = states(record.text, THREE if kind == "ss3" else EIGHT, record.where)
                checked[kind][name] = record._replace(text=text)
    return checked


def _named(what: str, records: list[Record], suffix: str, bad: BadRecords) -> dict[str, Record]:
    """Records by their names, without what the Protein Data Bank puts behind these."""
    found: dict[str, Record] = {}
    for record in records:
        with bad.record():
            name = record.name.removesuffix(suffix)
            if not name:
                raise ConveyorError(f"[proteins] {record.where}: a header without a name; write one behind the >")
            if name in found:
                raise _again(what, name, record.where, found[name].where)
            found[name] = record._replace(name=name)
    return found


def _again(what: str, name: str, where: str, first: str) -> ConveyorError:
    return ConveyorError(f"[proteins] {where}: a second {what} {name}, the first is in {first}; give each its own name")


def _has_three(records: list[Record]) -> bool:
    return not any(set(record.text.upper().translate(COIL)) - set(THREE + UNKNOWN) for record in records)


def _of_length(record: Record, length: int, name: str) -> str:
    if len(record.text) != length:
        raise ConveyorError(
            f"[proteins] {record.where}: structure of {name}: expected {length} states, one a residue, got "
            f"{len(record.text)}; mark residues without structure by ?"
        )
    return record.text


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not os.path.exists(path):
            raise ConveyorError(f"[proteins] {path}: no such file or folder; check the path")
        inside = [file for file in sorted(path.glob("*")) if file.suffix in (*SEQUENCES, ".npz")]
        if path.is_dir() and not inside:
            raise ConveyorError(f"[proteins] {path}: no FASTA file in this folder; expected {', '.join(SEQUENCES)}")
        # structures are found beside their sequences
        yield from inside if path.is_dir() else [path] if path.suffix not in STRUCTURES else []


def split(chains: list[Chain], valid_share: float, test_share: float) -> dict[str, list[Chain]]:
    """What trains, validates and tests: as the data say, or else drawn from what trains, chain by chain."""
    parts = {name: [chain for chain in chains if chain.part == name] for name in PARTS}
    left, begin = parts["train"], 0
    order = np.random.default_rng(0).permutation(len(left))  # the same for every --seed, so that these can be compared
    for name, share in (("valid", valid_share), ("test", test_share)):
        if not parts[name]:
            end = begin + round(share * len(left))
            parts[name] = [left[n] for n in sorted(order[begin:end])]
            begin = end
    parts["train"] = [left[n] for n in sorted(order[begin:])]
    for name, part in parts.items():
        if not part:
            raise ConveyorError(
                f"[data] no chain is left to {name}, of {len(chains):,} in all; give more, or other shares"
            )
    return parts


def digest(chains: Sequence[Chain]) -> str:
    """SHA-256 of all that chains are."""
    total = hashlib.sha256()
    for chain in chains:
        total.update("\0".join((chain.name, chain.sequence, chain.ss3, chain.ss8)).encode())
        for kind in sorted(chain.profiles):
            total.update(chain.profiles[kind].tobytes())
    return total.hexdigest()


LEFT_OUT = "d3arcz_"
"""Upstream's blind set has 150 chains, the published one 149, without this one."""


def jpred(file: Path) -> list[Chain]:
    """JPred4's set retr231 as one .npz: `train` trains, `blind` tests.

    Arrays, S being train or blind: S_name, S_seq, S_ss3, S_ss8, ASCII bytes with a newline between two chains;
    S_len [N]; S_pssm [sum of S_len, 20], PSI-BLAST's scores; S_hmm [sum of S_len, 24], JPred's HMM profile times 255.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except Exception as error:  # zip, zlib and numpy each raise their own of a damaged file
        raise ConveyorError(f"[proteins] {file}: not a whole .npz file ({error}); copy it again") from None
    chains = [*_jpred_part(file, arrays, "train"), *_jpred_part(file, arrays, "blind")]
    return [chain for chain in chains if chain.name != LEFT_OUT]


def _jpred_part(file: Path, arrays: dict[str, np.ndarray], part: str) -> Iterator[Chain]:
    kinds = ("name", "seq", "ss3", "ss8", "len", "pssm", "hmm")
    missing = [f"{part}_{kind}" for kind in kinds if f"{part}_{kind}" not in arrays]
    if missing:
        raise ConveyorError(f"[proteins] {file}: expected JPred's arrays, but {', '.join(missing)} is not there")
    given = {kind: arrays[f"{part}_{kind}"] for kind in kinds}
    text = {kind: given[kind].tobytes().decode("ascii", "replace").split("\n") for kind in kinds[:4]}
    lengths = given["len"].ravel()
    counts = {kind: len(lines) for kind, lines in text.items()} | {"len": len(lengths)}
    shapes = given["pssm"].shape, given["hmm"].shape
    rows = int(lengths.sum()) if lengths.dtype.kind in "iu" else 0
    numbers = all(given[kind].dtype.kind in "iuf" for kind in ("pssm", "hmm"))
    if len(set(counts.values())) > 1 or shapes != ((rows, 20), (rows, 24)) or not numbers:
        raise ConveyorError(
            f"[proteins] {file}: {part} does not fit together: {counts} chains, profiles {shapes[0]} and {shapes[1]} "
            f"for {rows} residues; copy the file again"
        )
    ends = np.cumsum(lengths)[:-1]
    both = zip(np.split(given["pssm"], ends), np.split(given["hmm"], ends), strict=True)
    for n, (pssm, hmm) in enumerate(both):
        name, where = text["name"][n], f"{file}, {part} chain {n + 1}, {text['name'][n]}"
        sequence = residues(text["seq"][n], where)
        ss3, ss8 = states(text["ss3"][n], THREE, where), states(text["ss8"][n], EIGHT, where)
        if {len(sequence), len(ss3), len(ss8) or len(ss3)} != {int(lengths[n])}:
            raise ConveyorError(f"[proteins] {where}: sequence, structure and profiles differ in length; copy it again")
        both_profiles: dict[str, np.ndarray] = {
            "pssm": pssm.astype(np.float32),
            "jnet": hmm.astype(np.float32) / 255,
        }
        yield Chain(name, sequence, ss3, ss8, both_profiles, "train" if part == "train" else "test", where)
