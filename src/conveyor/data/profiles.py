"""Profiles of protein families, read from the files of the programs that make them; one row of numbers a residue.

| kind | file | made by | numbers a residue |
|---|---|---|---|
| pssm | `.pssm` | PSI-BLAST (`-out_ascii_pssm`); JPred: 20 plain numbers a line | 20 scores |
| hhm | `.hhm` | HHblits, HHmake | 20 probabilities, 7 of transitions, 3 effective numbers of sequences / 20 |
| hmm | `.hmm` | HMMER 3 (hmmbuild) | 20 probabilities, 7 of transitions |
| jnet | `.hmm` | JPred: 24 plain numbers a line | these, from 0 to 1 |

Plain numbers of a .pssm that are all between 0 and 1 are 1 / (1 + e^-x) of the scores x, as JPred writes them.

A profile has one row for each residue of its sequence: of a model that was built from an alignment, the match columns
have to be the sequence's residues. Where a PSSM tells the residues they have to be the sequence's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from conveyor.errors import ConveyorError

WIDTHS = {"pssm": 20, "hhm": 30, "hmm": 27, "jnet": 24}
"""Numbers a residue, by kind."""
PSIBLAST = [*"ARNDCQEGHILKMFPSTWYV"]
NEFF = 20.0
"""The most that HHsuite's effective number of sequences can be."""


def beside(folder: Path, stems: Sequence[str], sequence: str) -> dict[str, np.ndarray]:
    """The profiles [T, …] of a sequence of T residues that lie in `folder` under one of the names."""
    found: dict[str, np.ndarray] = {}
    for suffix in (".pssm", ".hhm", ".hmm"):
        file = next((path for stem in stems if (path := folder / f"{stem}{suffix}").exists()), None)
        if file:
            kind, letters, rows = _read(file)
            _check(file, kind, letters, rows, sequence)
            found[kind] = rows
    return found


def scores_of(numbers: np.ndarray) -> np.ndarray:
    """The scores x, also where 1 / (1 + e^-x) is given; no score of PSI-BLAST's is beyond ±20."""
    if numbers.size and ((numbers > 0) & (numbers < 1)).all():
        numbers = np.log(numbers / (1 - numbers)).clip(-20, 20)
    return numbers


def _read(file: Path) -> tuple[str, str, np.ndarray]:
    """Kind, residues where the file tells them, and numbers."""
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        first = lines[0] if lines else ""
        if file.suffix == ".hhm":
            return ("hhm", *_hhm(lines))
        if first.startswith("HMMER3"):
            return ("hmm", *_hmmer(lines))
        if file.suffix == ".pssm" and any("position-specific" in line for line in lines[:3]):
            return ("pssm", *_psiblast(lines))
        rows = np.array([[float(number) for number in line.split()] for line in lines], np.float32)
    except OSError as error:
        raise ConveyorError(f"[profiles] {file}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, IndexError) as error:  # also of bytes that are no text, and of rows of unequal lengths
        raise ConveyorError(
            f"[profiles] {file}: not a profile as {_makers(file.suffix)} writes it ({error}); make it again"
        ) from None
    return ("pssm", "", scores_of(rows)) if file.suffix == ".pssm" else ("jnet", "", rows)


def _makers(suffix: str) -> str:
    return {".pssm": "PSI-BLAST", ".hhm": "HHblits"}.get(suffix, "HMMER 3 or JPred")


def _check(file: Path, kind: str, letters: str, rows: np.ndarray, sequence: str) -> None:
    if rows.ndim != 2 or rows.shape[1] != WIDTHS[kind]:
        raise ConveyorError(
            f"[profiles] {file}: expected {WIDTHS[kind]} numbers a residue of a {kind} profile, got shape "
            f"{rows.shape}; make it again"
        )
    if len(rows) != len(sequence):
        raise ConveyorError(
            f"[profiles] {file}: expected {len(sequence)} rows, one a residue of the sequence, got {len(rows)}; make "
            "it of this sequence, with its residues as the match columns"
        )
    if not np.isfinite(rows).all():
        raise ConveyorError(f"[profiles] {file}: expected numbers alone, got some that are not finite; make it again")
    pairs = enumerate(zip(letters.upper(), sequence, strict=False), 1)
    wrong = next((f"{n} is {a}, but {b}" for n, (a, b) in pairs if a != b and "X" not in (a, b)), None)
    if wrong and kind == "pssm":  # the letters of a model are those of a consensus
        raise ConveyorError(f"[profiles] {file}: residue {wrong} in the sequence; make the profile of this sequence")


def _psiblast(lines: list[str]) -> tuple[str, np.ndarray]:
    """Rows `number residue scores…`; in old files scores may touch: -1-10."""
    head = next((n for n, line in enumerate(lines) if line.split()[:20] == PSIBLAST), None)
    if head is None:
        raise ValueError(f"no line with the columns {' '.join(PSIBLAST)}")
    found = [re.match(r"\s*\d+\s+([A-Za-z])\s+(.*)", line) for line in lines[head + 1 :]]
    rows = [row for row in found if row]
    scores = [[float(number) for number in re.findall(r"-?\d+", row[2])[:20]] for row in rows]
    return "".join(row[1] for row in rows), np.array(scores, np.float32)


def _hhm(lines: list[str]) -> tuple[str, np.ndarray]:
    """Behind `HMM` three lines of heads; then two a residue: `letter number emissions… number`, transitions."""
    body = lines[next(n for n, line in enumerate(lines) if line.split()[0] == "HMM") + 3 : lines.index("//")]
    letters = "".join(line.split()[0] for line in body[::2])
    emissions = [line.split()[2:22] for line in body[::2]]
    others = [line.split() for line in body[1::2]]
    both = np.array([[*e, *o[:7]] for e, o in zip(emissions, others, strict=True)])
    powers = np.where(both == "*", "inf", both).astype(float)
    neff = np.array([o[7:10] for o in others])
    neff = np.where(neff == "*", "0", neff).astype(float) / 1000 / NEFF
    return letters, np.hstack([2.0 ** (-powers / 1000), neff]).astype(np.float32)


def _hmmer(lines: list[str]) -> tuple[str, np.ndarray]:
    """Behind `HMM` heads and the state 0; then three lines a residue: emissions, those of inserts, transitions."""
    head = next(n for n, line in enumerate(lines) if line.split()[0] == "HMM")
    begin = next(n for n, line in enumerate(lines) if n > head and line.split()[0] == "1")
    body = [line.split() for line in lines[begin : lines.index("//")]]
    both = np.array([[*e[1:21], *t[:7]] for e, t in zip(body[::3], body[2::3], strict=True)])
    powers = np.where(both == "*", "inf", both).astype(float)
    return "", np.exp(-powers).astype(np.float32)
