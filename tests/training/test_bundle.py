"""A bundle with a fault is refused, by name; a good one is what was saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conveyor import tasks
from conveyor.errors import ConveyorError
from conveyor.tasks import language_model as task
from conveyor.training import bundle

CONFIG = task.Config(hidden_size=5, embedding_size=5, layers=1, tied=True)
FACTS = {"tokenizer": {"kind": "char", "alphabet": "abc"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    bundle.write_description(tmp_path, "language-model", CONFIG, FACTS)
    bundle.write_weights(tmp_path, task.network(CONFIG, FACTS))
    return tmp_path


def test_round_trip(folder: Path) -> None:
    torch.manual_seed(0)
    saved = task.network(CONFIG, FACTS)
    model = tasks.load(folder)
    assert model.config == CONFIG
    for name, weight in saved.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], weight), name
    assert len(model.predict("abc", length=7)[0].text) == 10


def change(folder: Path, name: str, weight: torch.Tensor | None) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights if weight is None else weights | {name: weight}, folder / "model.safetensors")


def test_wrong_weights(folder: Path) -> None:
    change(folder, "lstm.weight_hh_l0", torch.zeros(5, 20))
    with pytest.raises(ConveyorError, match=r"lstm\.weight_hh_l0: expected \[20, 5\] float32, got \[5, 20\] float32"):
        tasks.load(folder)
    change(folder, "lstm.weight_hh_l0", torch.full((20, 5), float("nan")))
    with pytest.raises(ConveyorError, match=r"lstm\.weight_hh_l0 has 100 values that are NaN or infinite"):
        tasks.load(folder)
    change(folder, "lstm.weight_hh_l0", None)
    with pytest.raises(ConveyorError, match=r"lstm\.weight_hh_l0 is missing"):
        tasks.load(folder)


def test_truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        ConveyorError, match=r"^\[bundle\] .*model\.safetensors: expected a safetensors file, but it is"
    ):
        tasks.load(folder)


def test_most_wrong_weights_are_counted(folder: Path) -> None:
    bundle.write_description(folder, "language-model", replace(CONFIG, layers=1000), FACTS)
    with pytest.raises(ConveyorError, match=r"lstm\.bias_hh_l1 is missing; .*; and 3,976 more$"):
        tasks.load(folder)


def test_description_of_something_huge_costs_nothing(folder: Path) -> None:
    description = json.loads((folder / "model.json").read_text())
    description["config"] |= {"hidden_size": 10**6, "embedding_size": 10**6}
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(
        ConveyorError, match=r"lstm\.weight_hh_l0: expected \[4000000, 1000000\] float32, got \[20, 5\]"
    ):
        tasks.load(folder)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", r"model\.json: expected JSON"),
        ("[]", "expected a model of format conveyor-model-1, got list"),
        ('{"format": "other"}', "expected a model of format conveyor-model-1, got other"),
        ('{"format": "conveyor-model-1", "task": "x"}', "config, facts missing or of a wrong type"),
        ('{"format": "conveyor-model-1", "task": 3, "config": {}, "facts": null}', "task, facts missing or of a wrong"),
        ("[" * 100_000, r"model\.json: expected JSON"),
        ('{"format": "conveyor-model-1", "task": "x", "config": {}, "facts": {}}', "unknown task 'x'"),
    ],
)
def test_foreign_description(folder: Path, content: str, expected: str) -> None:
    (folder / "model.json").write_text(content)
    with pytest.raises(ConveyorError, match=expected):
        tasks.load(folder)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match=r"\[bundle\] .*: expected a run's folder, with a model\.json"):
        tasks.load(tmp_path)
