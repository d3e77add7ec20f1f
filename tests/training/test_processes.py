"""Two processes that share every batch learn what one learns alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from conveyor.cli import main

CLOSE = 1e-4
"""What the order of float32 sums may come to in these few steps; a mistake in the weights is a hundred times that."""


def run(arguments: list[str], folder: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def assert_alike(one: Path, two: Path) -> None:
    alone, together = (load_file(run / "model.safetensors") for run in (one, two))
    assert alone.keys() == together.keys()
    for name, weight in alone.items():
        assert (weight - together[name]).abs().max() < CLOSE, name
    tests = [json.loads((run / "scores.json").read_text())["test"]["loss"] for run in (one, two)]
    assert tests[0] == pytest.approx(tests[1], abs=CLOSE)


def test_rows_of_unequal_lengths(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("lengths.py"))
    run([script, "alone"], tmp_path)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run([*torchrun, script, "together"], tmp_path)
    assert_alike(tmp_path / "alone", tmp_path / "together")


def test_carried_state_of_a_language_model(tmp_path: Path) -> None:
    """Streams that go on from batch to batch, from the command line; and going on with such a run."""
    (tmp_path / "text.txt").write_text("the cat sat on the mat; " * 60)
    sizes = {"hidden-size": 6, "embedding-size": 5, "layers": 1, "sequence-length": 7, "batch-size": 5, "threads": 1}
    options = ["--data", "text.txt", *(f"--{name}={size}" for name, size in sizes.items())]
    train = ["-m", "conveyor.cli", "train", "language-model", *options]
    run([*train, "--epochs", "2", "--run", "alone"], tmp_path)
    run([*train, "--epochs", "1", "--run", "together", "--devices", "2"], tmp_path)
    again = ["-m", "conveyor.cli", "train", "language-model", "--resume", "together", "--epochs", "2"]
    run(again, tmp_path)
    assert_alike(tmp_path / "alone", tmp_path / "together")


def test_more_processes_than_rows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat; " * 60)
    command = f"train language-model --data {tmp_path}/text.txt --batch-size 1 --devices 2 --run {tmp_path}/run".split()
    done = subprocess.run([sys.executable, "-m", "conveyor.cli", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "--batch-size: expected 2 or more, one a process, got 1" in done.stderr
    assert main(["evaluate", str(tmp_path / "run")]) == 2
