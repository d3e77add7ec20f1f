"""What a confusion matrix tells, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conveyor.training import confusion

MATRIX = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])


def test_scores_by_hand() -> None:
    assert confusion.accuracy(MATRIX) == pytest.approx(7 / 10)
    assert confusion.f1(MATRIX)[:2] == pytest.approx([6 / 9, 8 / 11])
    assert np.isnan(confusion.f1(MATRIX)[2])


def test_table() -> None:
    rows = confusion.table(MATRIX, ["a|b", "c", "d"]).splitlines()
    assert rows[2:] == [
        "| a b | 4 | 0.600 | 0.750 | 0.667 |",
        "| c | 6 | 0.800 | 0.667 | 0.727 |",
        "| d | 0 | – | – | – |",
    ]


@pytest.mark.parametrize("count", [2, 9, 20, 80])
def test_picture(tmp_path: Path, count: int) -> None:
    matrix = np.random.default_rng(0).integers(0, 1000, (count, count))
    confusion.draw(tmp_path / "a.png", matrix, [f"class ${k}" for k in range(count)])
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
