"""The runtime's bundle: one safetensors file, whose metadata say what the network is. `runtime/bundle.cpp` reads it."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from conveyor.interchange.graph import MATRICES, Graph, Node

FORMAT = "conveyor-runtime-1"
Weights = Literal["float32", "bfloat16", "int8"]


def to_bytes(graph: Graph, weights: Weights = "float32") -> bytes:
    """The file.

    weights: what the matrices are held in. bfloat16 is rounded to nearest; int8 is w = s q with q of -127 to 127 and a
    scale s a row of W, max |w| / 127. Biases, norms and peepholes stay float32.
    """
    tensors: dict[str, Tensor] = {}
    nodes = [_node(n, node, tensors, weights) for n, node in enumerate(graph.nodes) if n]
    input = {"tokens": graph.tokens} if graph.tokens else {"features": graph.features}
    about = {"format": FORMAT, "task": graph.task, **input, "nodes": nodes, "facts": graph.facts}
    return save(tensors, {"conveyor": json.dumps(about, ensure_ascii=False, allow_nan=False)})


def _node(n: int, node: Node, tensors: dict[str, Tensor], weights: Weights) -> dict[str, Any]:
    names = []
    for d, arrays in enumerate(node.arrays):
        names.append({name: f"{n}.{d}.{name}" if node.op == "recurrent" else f"{n}.{name}" for name in arrays})
        for name, array in arrays.items():
            matrix = name in MATRICES and array.ndim == 2
            tensors |= _tensors(names[-1][name], array, weights if matrix else "float32")
    said = {"op": node.op, "of": [*node.of]}
    if node.op == "recurrent":
        numbers = {name: [_finite(value) for value in node.fields[name]] for name in ("options", "rates")}
        return said | {"cell": node.fields["cell"], "reverse": node.fields["reverse"], **numbers, "directions": names}
    return said | node.fields | (names[0] if names else {})


def _finite(value: float) -> float:
    """JSON has no infinity: a number beyond those of float32 stands for it."""
    return math.copysign(1e39, value) if math.isinf(value) else float(value)


def _tensors(name: str, array: np.ndarray, weights: Weights) -> dict[str, Tensor]:
    values = torch.from_numpy(array)
    if weights == "bfloat16":
        return {name: values.bfloat16()}
    if weights == "float32":
        return {name: values}
    whole, scales = quantised(values)
    return {name: whole, f"{name}.scale": scales}


def quantised(w: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers [N, K] of -127 to 127, and the scale of each row [N]."""
    scales = w.abs().amax(1) / 127
    return (w / scales.where(scales > 0, 1)[:, None]).round().to(torch.int8), scales
