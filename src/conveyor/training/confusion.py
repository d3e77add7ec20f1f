"""What a confusion matrix tells: row k counts the sequences of class k by the class they were given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from conveyor.training import pictures

FULL, COUNTED = 12, 30
"""Up to so many classes a cell of the picture says count and share; up to so many the count alone."""


def accuracy(matrix: np.ndarray) -> float:
    """The share that was given its own class."""
    return float(np.trace(matrix) / matrix.sum())


def f1(matrix: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) of each class [K]; NaN for a class that neither occurs nor is given."""
    marked = matrix.sum(0) + matrix.sum(1)
    scores = np.full(len(matrix), np.nan)
    np.divide(2 * np.diag(matrix), marked, out=scores, where=marked > 0)
    return scores


def table(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Precision, recall and F1 of each class, as Markdown."""
    rows = ["| class | sequences | precision | recall | F1 |", "|---|---|---|---|---|"]
    given, there = matrix.sum(0), matrix.sum(1)
    for k, (name, score) in enumerate(zip(classes, f1(matrix), strict=True)):
        shares = [_share(matrix[k, k], given[k]), _share(matrix[k, k], there[k]), _share(score, not np.isnan(score))]
        rows.append(f"| {name.replace('|', ' ')} | {there[k]:,.0f} | {' | '.join(shares)} |")
    return "\n".join(rows)


def draw(path: Path, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """The matrix as a picture: counts, and their share of the row."""
    K = len(classes)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(max(4.0, 1.5 + 0.62 * K), 14.0)
    figure = pictures.figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = max(5.0, min(9.0, 200 / K))
    for row, column in np.argwhere(matrix > 0) if K <= COUNTED else []:
        said = f"{matrix[row, column]:,.0f}" + (f"\n{shares[row, column]:.0%}" if K <= FULL else "")
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, said, ha="center", va="center", color=color, fontsize=size)
    names = [name if len(name) <= 16 else name[:15] + "…" for name in classes]
    upright = max(map(len, names)) > 3
    axes.set_xticks(range(K), names, fontsize=size, rotation=90 if upright else 0, parse_math=False)
    axes.set_yticks(range(K), names, fontsize=size, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(image, shrink=0.8, label="share of the row")
    pictures.write(path, figure)


def _share(part: float, total: float) -> str:
    return f"{part / total:.3f}" if total else "–"
