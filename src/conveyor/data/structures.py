"""Predicted structures of proteins, and the forms in which they are written."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import polars

COLUMNS = ("name", "position", "residue", "state", "confidence", "dssp", "helix", "strand", "coil")
ROW = 60
"""Residues on a line."""


@dataclass
class Structure:
    """The predicted structure of a chain."""

    name: str
    sequence: str
    ss3: str
    """The likeliest of H (helix), E (strand) and C (coil), for each residue."""
    confidence: list[float]
    """Its probability."""
    ss8: str
    """The likeliest of DSSP's eight states, C for coil; nothing where the network has not learned them."""
    probabilities: list[list[float]]
    """Those of H, E and C."""

    def __str__(self) -> str:
        """In the manner of PSIPRED's horizontal format: `conf` is the first digit of the probability."""
        tenths = "".join(str(min(int(10 * p), 9)) for p in self.confidence)
        rows = {"conf": tenths, "pred": self.ss3, "dssp": self.ss8, "  aa": self.sequence}
        lines = [f">{self.name}"]
        for begin in range(0, len(self.sequence), ROW):
            part = slice(begin, begin + ROW)
            lines += [f"{title}: {row[part]}" for title, row in rows.items() if row]
            ends = range(begin + 10, min(begin + ROW, len(self.sequence)) + 1, 10)
            lines += [("      " + "".join(f"{n:10}" for n in ends)).rstrip(), ""]
        return "\n".join(lines)


def written(results: list[Structure], suffix: str) -> str:
    """As a file with this ending holds them.

    `.csv`: a line a residue. `.json`: all there is. `.ss3`, `.ss8`, `.ss` (three states): FASTA of structures;
    `.fasta`, `.fa`: of sequences and structures in turn, eight states if there are some. All of these can be trained on
    again. Any other: as the terminal shows them.
    """
    if suffix == ".json":
        return json.dumps([dataclasses.asdict(result) for result in results], indent=1) + "\n"
    if suffix == ".csv":
        return table(results).write_csv(float_precision=4)
    if suffix in (".ss3", ".ss", ".ss8", ".fasta", ".fa"):
        return "".join(_fasta(result, suffix) for result in results)
    return "\n".join(map(str, results))


def table(results: list[Structure]) -> polars.DataFrame:
    """A row a residue."""
    rows: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for result in results:
        ss8 = result.ss8 or [None] * len(result.sequence)
        columns = zip(result.sequence, result.ss3, result.confidence, ss8, result.probabilities, strict=True)
        for n, (residue, state, sure, state8, p) in enumerate(columns, 1):
            for name, value in zip(COLUMNS, (result.name, n, residue, state, sure, state8, *p), strict=True):
                rows[name].append(value)
    return polars.DataFrame(rows)


def _fasta(result: Structure, suffix: str) -> str:
    structure = result.ss3 if suffix in (".ss3", ".ss") else result.ss8 or result.ss3
    if suffix in (".fasta", ".fa"):
        return f">{result.name}:sequence\n{result.sequence}\n>{result.name}:secstr\n{structure}\n"
    return f">{result.name}\n{structure}\n"
