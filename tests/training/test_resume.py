"""A run killed at any moment and gone on with ends exactly as one that never stopped."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conveyor.errors import ConveyorError
from conveyor.tasks import language_model
from conveyor.training import checkpoint, history, tensors
from conveyor.training.fit import fit
from conveyor.training.options import ReadingOptions, TrainingOptions

TEXT = "".join(f"{number} squared is {number * number}.\n" for number in range(120))


def config(text: Path) -> language_model.Config:
    """Everything that has a state: dropout, Adam, plateau, patience, validation within the epoch, carried state."""
    return language_model.Config(
        reading=ReadingOptions(data=(str(text),)),
        hidden_size=8,
        embedding_size=6,
        dropout_input=0.2,
        dropout_between=0.2,
        dropout_output=0.2,
        sequence_length=16,
        training=TrainingOptions(
            batch_size=4,
            epochs=2,
            learning_rate=0.2,
            schedule="plateau",
            patience=9,
            validate_every=7,
            save_steps=6,
            log_every=4,
            threads=1,
        ),
    )


# Trains in a process of its own until the moment named, and kills itself there. A fresh fork a moment saves imports.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_resume import config
from conveyor.tasks import language_model
from conveyor.training.fit import fit

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def at_step(number):
    before, seen = language_model.loss, []
    def loss(config, network, batch, carried):
        seen.append(network.training)
        if sum(seen) > number:
            kill()
        return before(config, network, batch, carried)
    language_model.loss = loss

def at_rename(number):
    before, seen = os.replace, []
    def replace(source, target):
        seen.append(str(target).endswith("last.safetensors"))
        if sum(seen) > number:
            kill()
        before(source, target)
    os.replace = replace

folder = Path(sys.argv[2])
for moment in sys.argv[3:]:
    child = os.fork()
    if not child:
        kind, number = moment.split("-")
        {"step": at_step, "rename": at_rename}[kind](int(number))
        fit(language_model, config(folder / "text.txt"), folder / moment)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, moment
"""

MOMENTS = ["step-0", "step-3", "step-6", "step-16", "step-17", "step-34", "step-59", "rename-0", "rename-2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, and one killed at each moment."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT)
    fit(language_model, config(folder / "text.txt"), folder / "whole")
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", KILLED, here, str(folder), *MOMENTS], check=True, capture_output=True)
    return folder


def outcome(run: Path) -> tuple[object, object, object]:
    """The last checkpoint, the bundle and the metrics, without what is time."""
    saved = tensors.read_tree(checkpoint.last(run), "test")
    del saved["progress"]["seconds"]
    rows = history.read(run / "metrics.csv")
    for row in rows:
        row.pop("minutes")
        row.pop("tokens_per_second", None)
    return saved, (run / "model.safetensors").read_bytes(), rows


def assert_same(one: object, other: object) -> None:
    """Equal trees, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        assert one.numpy().tobytes() == other.numpy().tobytes()
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, (list, tuple)):
        assert isinstance(other, (list, tuple))
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_run_ends_as_the_whole_one(runs: Path, moment: str) -> None:
    saved, _, rows = outcome(runs / "whole")
    assert saved["progress"]["step"] == 2 * 30  # type: ignore[index]
    assert saved["progress"]["reductions"] > 0, "the plateau schedule has to have done something"  # type: ignore[index]
    assert len(rows) == 60 // 4 + 10 + 7  # type: ignore[arg-type]
    fit(language_model, config(runs / "text.txt"), runs / moment, resume=True)
    assert_same(outcome(runs / moment), outcome(runs / "whole"))


@pytest.mark.parametrize(
    "where",
    [
        *("state_dict", "optimizer_states", "progress", "processes", "lr_schedulers", "callbacks"),
        *(
            "progress/step",
            *(f"processes/0/{name}" for name in ("carried", "sums", "random", "random/torch", "random/python")),
            "optimizer_states/0/state",
            "optimizer_states/0/param_groups",
        ),
        *("optimizer_states/0/param_groups/0/betas", "pytorch-lightning_version"),
    ],
)
def test_checkpoint_that_lacks_something(runs: Path, where: str, tmp_path: Path) -> None:
    run = shutil.copytree(runs / "whole", tmp_path / "run")
    tree = part = tensors.read_tree(checkpoint.last(run), "test")
    *path, name = where.split("/")
    for step in path:
        part = part[int(step)] if isinstance(part, list) else part[step]
    del part[name]
    tensors.write(checkpoint.last(run), tree)
    with pytest.raises(ConveyorError, match=r"^\[resume\] .*last\.safetensors: expected a checkpoint of this run, got"):
        fit(language_model, config(runs / "text.txt"), run, resume=True)
