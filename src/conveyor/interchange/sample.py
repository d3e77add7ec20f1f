"""Real input for a graph: what its run's network is given of the test part."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from conveyor.errors import ConveyorError
from conveyor.interchange.graph import Graph
from conveyor.nn import GRU, LSTM, RNN

STEPS, ROWS = 200, 8
"""At most."""


class _Found(Exception):
    """The network has been given what was waited for."""


def of_run(model: Any, graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """An input [T, B, …] of a graph and its lengths [B], from the first batch of the run's test part.

    What the first embedding or recurrent layer is given is caught; a scale before it is undone. ConveyorError where the
    data are not to be had.
    """
    split = model.task.read(model.config, model.facts).test
    kinds: Any = nn.Embedding if graph.tokens else (LSTM, GRU, RNN)
    first = next(module for module in model.network.modules() if isinstance(module, kinds))
    caught: list[torch.Tensor] = []

    def catch(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        caught.append(given[0])
        raise _Found

    hook = first.register_forward_pre_hook(catch)
    try:
        with torch.inference_mode():
            model.task.loss(model.config, model.network.eval(), split.batch(0, 0), None)
    except _Found:
        pass
    finally:
        hook.remove()
    if not caught or caught[0].dim() != (2 if graph.tokens else 3):
        raise ConveyorError(
            "[export] the test part gives no sequences to check with; score and check the export by hand"
        )
    x = caught[0][:STEPS, :ROWS].numpy()
    scale = graph.nodes[1]
    if scale.op == "scale":
        x = ((x - scale.arrays[0]["bias"]) / scale.arrays[0]["weight"]).astype(np.float32)
    lengths = np.full(x.shape[1], len(x))
    lengths[1::2] = np.maximum(1, len(x) * 2 // 3)  # of unequal ones there are always some
    return np.ascontiguousarray(x), lengths
