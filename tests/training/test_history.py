"""The metrics file grows, takes new columns, and is cut back to a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from conveyor.errors import ConveyorError
from conveyor.training.history import History, read


def test_grows_and_is_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = History(path, 0)
    for step in (2, 4, 6):
        first.log_metrics({"train_loss": 1 / step}, step)
    first.log_metrics({"valid_loss": 0.25}, 6)
    first.log_metrics({"train_loss": 0.125}, 8)
    assert path.read_text().splitlines()[0] == "step,train_loss,valid_loss"
    assert read(path) == first.rows

    with path.open("a") as stream:
        stream.write("1")  # killed while writing 10,…
    second = History(path, 6)
    second.log_metrics({"train_loss": 0.5}, 8)
    steps = [(row["step"], row.get("train_loss"), row.get("valid_loss")) for row in read(path)]
    assert steps == [(2, 0.5, None), (4, 0.25, None), (6, 1 / 6, None), (6, None, 0.25), (8, 0.5, None)]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("step,a\nx,y\n1,2\n", "could not convert string to float: 'x'"),
        ("step,a\n1,2,3\n1,2\n", "3 columns instead of 2"),
        ("a\n1\n2\n", "a line has no step"),
        ("step,a\n1,²\n1,2\n", "could not convert string to float: '²'"),
        (f"step,a\n1,{'9' * 200_000}\n\n", "field larger than field limit"),
    ],
)
def test_damage_is_told(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(ConveyorError, match=rf"^\[resume\] .*metrics\.csv: expected lines of numbers \({why}"):
        History(path, 9)
    assert path.read_text() == content
