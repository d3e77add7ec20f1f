"""Torch modules as nodes of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor, nn

from conveyor.errors import ConveyorError
from conveyor.interchange.graph import Graph
from conveyor.nn import GRU, LSTM, RNN
from conveyor.ops.cells import by_direction, cell_named, for_kernels

NAMES = ("w_ih", "w_hh", "b_ih", "b_hh", "w_hr", "vectors")


M = TypeVar("M", bound=nn.Module)


def expect(module: nn.Module, kind: type[M], maker: str = "several trainings make") -> M:
    """The module, if it is of that kind; ConveyorError for another, which `maker` makes."""
    if not isinstance(module, kind):
        raise ConveyorError(
            f"[export] expected {kind.__name__}, got {type(module).__name__}, which {maker}: there are no nodes for it"
        )
    return module


def array(tensor: Tensor) -> np.ndarray:
    """Its values as float32, which later changes leave as they are."""
    values: np.ndarray = tensor.detach().cpu().float().clone().numpy()
    return values


def embedding(graph: Graph, module: nn.Embedding) -> int:
    """The rows of tokens."""
    return graph.embedding(array(module.weight))


def linear(graph: Graph, x: int, module: nn.Linear) -> int:
    """W x + b."""
    return graph.linear(x, array(module.weight), None if module.bias is None else array(module.bias))


def norm(graph: Graph, x: int, module: nn.LayerNorm) -> int:
    """Over the features."""
    if module.eps != 1e-5 or len(module.normalized_shape) != 1 or module.weight is None:
        raise ConveyorError(f"[export] expected a LayerNorm over one dimension with ε = 1e-5, got {module}")
    bias = module.weight.new_zeros(module.weight.shape) if module.bias is None else module.bias
    return graph.norm(x, array(module.weight), array(bias))


def recurrent(graph: Graph, x: int, module: LSTM | GRU | RNN) -> int:
    """All layers of an LSTM, GRU or RNN, as they are in evaluation."""
    variant = module._variant.in_evaluation if module._variant else None
    name = cell(module)
    D, of = 2 if module.bidirectional else 1, cell_named(name)
    rates = [float(getattr(variant, field)) for field in variant.noise] if variant else []
    for layer in range(module.num_layers):
        weights = module.all_weights[layer * D : (layer + 1) * D]
        directions = [_direction(name, one, module.bias) for one in weights]
        x = graph.recurrent(x, of.kernel, directions, module.hidden_size, of.options, rates, variant=of.variant)
    return x


def cell(module: LSTM | GRU | RNN) -> str:
    """The name by which the operators know what it computes in evaluation."""
    if isinstance(module, LSTM):
        return module._cells[False]
    return "gru" if isinstance(module, GRU) else f"rnn_{module.nonlinearity}"


def _direction(name: str, weights: Sequence[Tensor], biased: bool) -> dict[str, np.ndarray]:
    """The arrays that the kernels take of one direction."""
    of = by_direction(name, weights, 1)[0]
    given = [array(w) for w in for_kernels(name, [*weights], 1)]
    there = ["w_ih", "w_hh", *(["b_ih", "b_hh"] if biased else []), *(["w_hr"] if of.w_hr is not None else [])]
    return dict(zip([*there, "vectors"], given, strict=False))
