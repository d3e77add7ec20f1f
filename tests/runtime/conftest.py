"""Networks as bundles, and what the tests of the runtime share."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from conveyor.interchange import modules
from conveyor.interchange.bundle import Weights, to_bytes
from conveyor.interchange.graph import Graph
from conveyor.runtime import Model

Bundled = Callable[..., Model]


def recurrent(module: nn.Module, weights: Weights = "float32") -> Model:
    """A recurrent module alone, as a bundle."""
    graph = Graph(features=module.input_size)  # type: ignore[arg-type]
    modules.recurrent(graph, 0, module.eval())  # type: ignore[arg-type]
    return Model.of_bytes(to_bytes(graph, weights))


@pytest.fixture
def bundled() -> Bundled:
    """`recurrent`."""
    return recurrent


@pytest.fixture
def random() -> np.random.Generator:
    """Random numbers; torch's begin anew as well."""
    torch.manual_seed(0)
    return np.random.default_rng(0)


@pytest.fixture
def network(random: np.random.Generator) -> Graph:
    """Every kind of node that streams: tokens, embedding, norm, two LSTMs with a way around one, an activation,
    output."""

    def drawn(*shape: int) -> np.ndarray:
        return random.normal(0, 0.4, shape).astype(np.float32)

    def lstm(x: int, I: int, H: int) -> int:
        own = {"w_ih": drawn(4 * H, I), "w_hh": drawn(4 * H, H), "b_ih": drawn(4 * H), "b_hh": drawn(4 * H)}
        return graph.recurrent(x, "lstm", [own], H)

    graph = Graph(tokens=11, task="made-up", facts={"letters": "äbc", "n": [1, 2]})
    x = graph.norm(graph.embedding(drawn(11, 17)), drawn(17), drawn(17))
    y = lstm(graph.scale(x, drawn(17), drawn(17)), 17, 17)
    y = lstm(graph.add(x, y), 17, 5)
    graph.linear(graph.activation(graph.concat(x, y), "tanh"), drawn(7, 22), drawn(7))
    return graph
