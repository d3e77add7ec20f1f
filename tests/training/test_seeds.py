"""One training from several seeds."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

import conveyor
from conveyor.cli import main
from conveyor.errors import ConveyorError
from conveyor.tasks import language_model as task
from conveyor.training import bundle


def train(run: Path, *more: str) -> int:
    return main(["train", "language-model", "--smoke", "--run", str(run), "--threads", "1", *more])


def scores(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "scores.json").read_text()))


def test_mean_and_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(task, "ensemble")  # as of a task that has none
    run = tmp_path / "run"
    assert train(run, "--seeds", "2", "--seed", "7") == 0
    each = [scores(run / name)["test"]["loss"] for name in ("seed-7", "seed-8")]
    assert each[0] != each[1]
    assert scores(run)["test"]["loss"] == pytest.approx(statistics.fmean(each))
    assert scores(run)["spread"]["loss"] == pytest.approx(statistics.stdev(each))
    assert f"| standard deviation | {statistics.stdev(each):.5g} |" in (run / "report.md").read_text()
    capsys.readouterr()
    assert train(run, "--seeds", "2") == 2
    assert "this run has begun already; go on with --resume" in capsys.readouterr().err
    assert main(["evaluate", str(run)]) == 2
    assert "the networks of language-model are not put together; take one: " in capsys.readouterr().err


def test_more_seeds_later(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(run, "--seeds", "2") == 0
    before = (run / "seed-1" / "model.safetensors").read_bytes()
    assert main(["train", "language-model", "--resume", str(run), "--seeds", "3"]) == 0
    assert (run / "seed-1" / "model.safetensors").read_bytes() == before
    assert (run / "seed-3" / "model.safetensors").exists()


def test_a_run_of_one_seed_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert train(run) == 0
    before = (run / "model.json").read_bytes()
    assert main(["train", "language-model", "--resume", str(run), "--seeds", "2"]) == 2
    assert "expected a run of several seeds, got one of one seed" in capsys.readouterr().err
    assert (run / "model.json").read_bytes() == before


def test_ensemble(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(run, "--seeds", "2") == 0
    model = conveyor.load(run)
    tokens = torch.tensor([[1, 2], [3, 4]])
    members = [conveyor.load(run / f"seed-{seed}").network(tokens)[0].softmax(-1) for seed in (1, 2)]
    torch.testing.assert_close(model.network(tokens)[0].exp(), (members[0] + members[1]) / 2)
    assert scores(run)["ensemble"]["loss"] > 0
    assert main(["evaluate", str(run)]) == 0


@pytest.mark.parametrize("members", [["../elsewhere"], "seed-1", [3]])
def test_members_are_names(members: Any, tmp_path: Path) -> None:
    bundle.write_description(tmp_path, "language-model", task.Config(), {}, ["seed-1"])
    description = json.loads((tmp_path / "model.json").read_text()) | {"members": members}
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ConveyorError, match="expected names of folders as members"):
        bundle.read(tmp_path, task)
