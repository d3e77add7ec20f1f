"""The metrics file grows, takes new columns, and is cut back to a checkpoint."""

from __future__ import annotations

from pathlib import Path

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
