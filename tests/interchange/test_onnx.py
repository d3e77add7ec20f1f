"""ONNX files, with onnxruntime as their witness."""

from typing import Any

import numpy as np
import onnx as files
import pytest
from torch import nn

from conveyor import LSTM
from conveyor.interchange import modules, onnx
from conveyor.interchange.graph import Graph

LENGTHS = np.array([13, 5, 9, 1])


@pytest.fixture
def x() -> np.ndarray:
    """[T, B, I]"""
    return np.random.default_rng(0).normal(size=(13, 4, 5)).astype(np.float32)


def operators(content: bytes) -> set[str]:
    return {node.op_type for node in files.load_from_string(content).graph.node}


def test_onnxruntime_computes_the_same(module: nn.Module, x: np.ndarray) -> None:
    graph = Graph(features=5)
    modules.recurrent(graph, 0, module)  # type: ignore[arg-type]
    content = onnx.to_bytes(graph)
    assert onnx.difference(graph, content, x, LENGTHS) < 1e-5


@pytest.mark.parametrize(
    ("options", "operator"),
    [({}, "LSTM"), ({"variant": "peephole"}, "LSTM"), ({"variant": "coupled"}, "LSTM"),
     ({"variant": "no-input-gate"}, "LSTM"), ({"variant": "layer-norm"}, "Scan"),
     ({"proj_size": 4}, "Scan"), ({"variant": "zoneout"}, "Scan")],
)  # fmt: skip
def test_the_operator_where_it_has_all_of_it(options: Any, operator: str) -> None:
    graph = Graph(features=5)
    modules.recurrent(graph, 0, LSTM(5, 9, **options).eval())
    assert operators(onnx.to_bytes(graph)) & {"LSTM", "Scan"} == {operator}


def test_inputs_and_outputs_have_names_and_any_length() -> None:
    graph = Graph(tokens=7)
    x = graph.embedding(np.random.default_rng(0).normal(size=(7, 5)))
    modules.recurrent(graph, x, LSTM(5, 9, 2).eval())
    found = files.load_from_string(onnx.to_bytes(graph)).graph
    shapes = {
        one.name: [size.dim_param or size.dim_value for size in one.type.tensor_type.shape.dim]
        for one in [*found.input, *found.output]
    }
    assert shapes == {
        "tokens": ["T", "B"], "lengths": ["B"], "y": ["T", "B", 9],
        **{f"{state}{k}": [1, "B", 9] for k in range(2) for state in ("h0_", "c0_", "h_", "c_")},
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["mean", "max", "ends"])
def test_all_other_nodes(kind: Any) -> None:
    random = np.random.default_rng(0)
    graph = Graph(tokens=7)
    x = graph.norm(graph.embedding(random.normal(size=(7, 6))), random.normal(size=6), random.normal(size=6))
    y = graph.linear(
        graph.pool(graph.scale(x, random.normal(size=6), random.normal(size=6)), kind), random.normal(size=(6, 6))
    )
    both = graph.concat(graph.add(x, graph.activation(y, "relu")), graph.activation(y, "softmax"))
    graph.linear(
        graph.activation(graph.activation(graph.activation(both, "tanh"), "sigmoid"), "log_softmax"),
        random.normal(size=(3, 12)),
        np.ones(3),
    )
    assert onnx.difference(graph, onnx.to_bytes(graph), random.integers(7, size=(13, 4)), LENGTHS) < 1e-5


def test_a_wrong_file_is_found_out(x: np.ndarray) -> None:
    graph, other = Graph(features=5), Graph(features=5)
    lstm = LSTM(5, 9).eval()
    modules.recurrent(graph, 0, lstm)
    lstm.weight_hh_l0.data[9:18] *= -1  # of the forget gate
    modules.recurrent(other, 0, lstm)
    assert onnx.difference(graph, onnx.to_bytes(other), x, LENGTHS) > 1e-3
