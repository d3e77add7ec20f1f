"""Every task that has a graph: what is exported is what its network computes, on its own data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conveyor import tasks
from conveyor.cli import main
from conveyor.cli.export import graph_of
from conveyor.errors import ConveyorError
from conveyor.interchange import sample
from conveyor.interchange.bundle import to_bytes
from conveyor.interchange.held import held
from conveyor.runtime import Model as Runtime
from conveyor.training import bundle
from conveyor.training.scoring import score
from conveyor.training.task import Model

OPTIONS: dict[str, dict[str, Any]] = {"music": {"head": "independent"}, "protein-structure": {"convolutions": 0}}
"""Where made-up data are tried with what there are no nodes for."""
ABLE = [name for name in tasks.summaries() if hasattr(tasks.find(name), "graph")]


def model_of(name: str, folder: Path) -> Model:
    """Untrained, on the task's made-up data."""
    task = tasks.find(name)
    config = replace(task.smoke(folder / "data").config, **OPTIONS.get(name, {}))
    data = task.read(config)
    torch.manual_seed(0)
    return Model(task, config, data.facts, task.network(config, data.facts).eval())


def run_of(model: Model, name: str, folder: Path) -> Path:
    """Its folder, as training leaves it."""
    bundle.write_description(folder / "run", name, model.config, model.facts)
    bundle.write_weights(folder / "run", model.network)
    return folder / "run"


@pytest.mark.parametrize("name", ABLE)
def test_a_run_is_exported(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of(name, tmp_path)
    run = run_of(model, name, tmp_path)
    assert main(["export", str(run)]) == 0
    runtime = Runtime.load(run / "runtime.safetensors")
    assert runtime.task == name
    assert runtime.facts == model.facts
    assert main(["export", str(run), "--to", "onnx"]) == 0
    assert "onnxruntime's results on the test part differ by" in capsys.readouterr().out
    assert (run / "model.onnx").stat().st_size > 1000
    small = tmp_path / "small.safetensors"
    assert main(["export", str(run), "--weights", "int8", "-o", str(small)]) == 0
    said = capsys.readouterr().out
    assert "float32" in said
    assert "int8" in said
    assert "loss" in said
    assert small.stat().st_size < (run / "runtime.safetensors").stat().st_size


@pytest.mark.parametrize("name", ABLE)
def test_its_scores_are_those_of_the_network(name: str, tmp_path: Path) -> None:
    model = model_of(name, tmp_path)
    split = model.task.read(model.config, model.facts).test
    expected = score(model.task, model.config, model.network, split)
    found = score(model.task, model.config, held(model.network, "float32"), split)
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_graph_of_a_language_model_is_the_network(tmp_path: Path) -> None:
    model = model_of("language-model", tmp_path)
    graph = graph_of(model)
    tokens, lengths = sample.of_run(model, graph)
    with torch.no_grad():
        expected = model.network(torch.from_numpy(tokens))[0].numpy()
    found = Runtime.of_bytes(to_bytes(graph)).run(tokens)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert max(lengths) == len(tokens)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("translation", {}, "expected a run of classification, event-labelling"),
    (
        "language-model",
        {"softmaxes": 2},
        "expected Softmax, got MixtureOfSoftmaxes, which --softmaxes and --cutoffs make",
    ),
    ("classification", {"pooling": "attention"}, "expected a run with --pooling mean, max or last"),
    ("protein-structure", {"convolutions": 1}, "expected a run without --convolutions"),
    ("music", {"head": "nade"}, "expected a run with --head independent"),
]


@pytest.mark.parametrize(("name", "options", "error"), REFUSED)
def test_what_there_are_no_nodes_for(name: str, options: dict[str, Any], error: str, tmp_path: Path) -> None:
    model = model_of(name, tmp_path)
    config = replace(model.config, **options)
    network = model.task.network(config, model.facts)
    with pytest.raises(ConveyorError, match=error):
        graph_of(model._replace(config=config, network=network))


def test_options_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(model_of("language-model", tmp_path), "language-model", tmp_path)
    assert main(["export", str(run), "--to", "onnx", "--weights", "int8"]) == 2
    assert "expected float32 with --to onnx" in capsys.readouterr().err
    assert main(["export", str(run), "-o", str(tmp_path / "model.onnx")]) == 2
    assert "expected a name that ends in .safetensors" in capsys.readouterr().err
    weights = (run / "model.safetensors").read_bytes()
    assert main(["export", str(run), "-o", str(run / "model.safetensors")]) == 2
    assert "expected another file than the run's own model" in capsys.readouterr().err
    assert (run / "model.safetensors").read_bytes() == weights
    assert main(["export", str(tmp_path)]) == 2
    assert "expected a run's folder" in capsys.readouterr().err
