"""A network computed by the runtime where the runtime can, so that what is exported can be scored as its task does."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from conveyor.interchange import modules
from conveyor.interchange.bundle import Weights, quantised, to_bytes
from conveyor.interchange.graph import Graph
from conveyor.nn import GRU, LSTM, RNN
from conveyor.nn.softmaxes import IGNORE
from conveyor.runtime import Model


def held(network: nn.Module, weights: Weights) -> nn.Module:
    """A copy of the network, to be evaluated, whose matrices are held so and whose products are the runtime's."""
    found = copy.deepcopy(network).eval()
    for parent in [*found.modules()]:
        for name, module in [*parent.named_children()]:
            if isinstance(module, (LSTM, GRU, RNN)):
                setattr(parent, name, Recurrent(module, weights))
            elif isinstance(module, nn.Linear):
                setattr(parent, name, Linear(module, weights))
            elif isinstance(module, nn.Embedding):
                setattr(parent, name, nn.Embedding.from_pretrained(_rounded(module.weight, weights)))
    return found


def _rounded(table: Tensor, weights: Weights) -> Tensor:
    values = table.detach()
    if weights == "float32":
        return values
    if weights == "bfloat16":
        return values.bfloat16().float()
    whole, scales = quantised(values)
    return whole * scales[:, None]


class Linear(nn.Module):
    """W x + b, as the runtime computes it."""

    def __init__(self, module: nn.Linear, weights: Weights) -> None:
        super().__init__()
        graph = Graph(features=module.in_features)
        modules.linear(graph, 0, module)
        self.model = Model.of_bytes(to_bytes(graph, weights))
        self.register_parameter(
            "witness", nn.Parameter(torch.zeros(()))
        )  # a network's device is asked of its parameters

    def forward(self, x: Tensor) -> Tensor:
        """Rows [..., K] to [..., N]."""
        rows = x.detach().float().reshape(-1, x.shape[-1]).numpy()
        return torch.from_numpy(self.model.run(rows, threads=torch.get_num_threads())).view(*x.shape[:-1], -1)

    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-log p of each target, of a softmax."""
        logits = self(hidden).flatten(0, -2)
        found = cross_entropy(logits, targets.flatten(), reduction="none", ignore_index=IGNORE)
        return found.view(targets.shape)


class Recurrent(nn.Module):
    """Recurrent layers, as the runtime computes them."""

    def __init__(self, module: LSTM | GRU | RNN, weights: Weights) -> None:
        super().__init__()
        graph = Graph(features=module.input_size)
        modules.recurrent(graph, 0, module)
        self.model = Model.of_bytes(to_bytes(graph, weights))
        self.belt, self.batch_first = isinstance(module, LSTM), module.batch_first
        self.parts = module.num_layers * (2 if module.bidirectional else 1)
        self.hidden_size = module.hidden_size

    def forward(self, input: Tensor, hx: Any = None, *, lengths: Any = None) -> tuple[Tensor, Any]:
        """As the module's own."""
        x = input.transpose(0, 1) if self.batch_first else input
        states = self._states(hx, x.shape[1])
        ends = None if lengths is None else np.asarray(lengths)
        rows = x.detach().float().contiguous().numpy()
        y = torch.from_numpy(self.model.run(rows, ends, states, torch.get_num_threads()))
        return (y.transpose(0, 1) if self.batch_first else y), self._given(torch.from_numpy(states))

    def _states(self, hx: Any, B: int) -> np.ndarray:
        """[B, S]: h and c of each layer and direction."""
        if hx is None:
            return np.zeros((B, self.model.state), np.float32)
        parts = torch.cat([*hx], -1) if self.belt else hx
        found: np.ndarray = parts.detach().float().transpose(0, 1).reshape(B, -1).contiguous().numpy().copy()
        return found

    def _given(self, states: Tensor) -> Any:
        parts = states.view(len(states), self.parts, -1).transpose(0, 1)
        if not self.belt:
            return parts.contiguous()
        return parts[..., : -self.hidden_size].contiguous(), parts[..., -self.hidden_size :].contiguous()
