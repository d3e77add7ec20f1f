"""What the recurrent layers share: parameters laid out as torch's, and the stack of layers and directions."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from conveyor.equations import Weights
from conveyor.nn import checks

Operator = Callable[..., tuple[Tensor, ...]]
"""A layer: (input [T, B, I], states [D, B, H]…, weights of D directions) -> (output [T, B, D*H], states…)"""


class Weight(NamedTuple):
    """What a parameter is called, and its shape, in numbers and in the symbols of the error texts."""

    name: str
    shape: tuple[int, ...]
    symbols: str


class Recurrent(nn.Module):
    """The parameters of a recurrent network of `gates` gates, and its run; subclasses bring the operator."""

    def __init__(
        self,
        gates: int,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        checks.sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        checks.flags(bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        checks.dropout(dropout, num_layers)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self._directions = 2 if bidirectional else 1
        self._weights = [
            self._layout(gates, layer, suffix)
            for layer in range(num_layers)
            for suffix in ["", "_reverse"][: self._directions]
        ]
        for weight in (weight for part in self._weights for weight in part):
            setattr(self, weight.name, nn.Parameter(torch.empty(weight.shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def _layout(self, gates: int, layer: int, suffix: str) -> list[Weight]:
        """The weights of one layer and direction, in the order of `conveyor.equations.Weights`."""
        D, H = self._directions, self.hidden_size
        I, columns = (self.input_size, "I") if layer == 0 else (D * H, "D*H")
        rows = "H" if gates == 1 else f"{gates}H"
        place = f"l{layer}{suffix}"
        weights = [
            Weight(f"weight_ih_{place}", (gates * H, I), f"[{rows}, {columns}]"),
            Weight(f"weight_hh_{place}", (gates * H, H), f"[{rows}, H]"),
            Weight(f"bias_ih_{place}", (gates * H,), f"[{rows}]"),
            Weight(f"bias_hh_{place}", (gates * H,), f"[{rows}]"),
        ]
        return weights if self.bias else weights[:2]

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/√H, 1/√H), in torch's order: the same seed gives torch's numbers."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Do nothing: the kernels pack the weights themselves. Programs written for torch call it."""

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction, in torch's order."""
        # By name at every call: parametrizations, functional_call and assignment change what stands there.
        return [[getattr(self, weight.name) for weight in part] for part in self._weights]

    def _run(self, operator: Operator, input: Tensor, **states: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The output and the final states, in the layout of the input; a state that is None is zero."""
        weights = self.all_weights
        self._check(input, states, weights)
        single = input.dim() == 2
        x = input.unsqueeze(1) if single else input.transpose(0, 1) if self.batch_first else input
        x = x.to(weights[0][0].dtype)  # of a lower precision under autocast
        shape = (len(weights), x.shape[1], self.hidden_size)
        zeros = x.new_zeros(shape)
        first = [zeros if state is None else state.to(x.dtype).reshape(shape) for state in states.values()]
        output, last = self._stack(operator, x, first, weights)
        if single:
            return output.squeeze(1), [state.squeeze(1) for state in last]
        return output.transpose(0, 1) if self.batch_first else output, last

    def _check(self, input: Tensor, states: dict[str, Tensor | None], weights: list[list[Tensor]]) -> None:
        where, like = self._get_name(), weights[0][0]
        checks.input(where, input, self.input_size, self.batch_first, like)
        batch = () if input.dim() == 2 else (input.shape[0 if self.batch_first else 1],)
        shape, symbols = (len(weights), *batch, self.hidden_size), "[L*D, B, H]" if batch else "[L*D, H]"
        for name, state in states.items():
            if state is not None:
                checks.tensor(where, name, state, shape, symbols, like)
        for part, tensors in zip(self._weights, weights, strict=True):
            for weight, tensor in zip(part, tensors, strict=True):
                checks.tensor(where, weight.name, tensor, weight.shape, weight.symbols, like)

    def _stack(
        self, operator: Operator, x: Tensor, states: list[Tensor], weights: list[list[Tensor]]
    ) -> tuple[Tensor, list[Tensor]]:
        finals = []
        for layer in range(self.num_layers):
            if layer and self.training and self.dropout:
                x = functional.dropout(x, self.dropout)
            here = slice(layer * self._directions, (layer + 1) * self._directions)
            directions = [Weights(*tensors) for tensors in weights[here]]
            x, *final = operator(x, *(state[here] for state in states), directions)
            finals.append(final)
        return x, [torch.cat(layers) if len(layers) > 1 else layers[0] for layers in zip(*finals, strict=True)]

    def extra_repr(self) -> str:
        """The sizes, and what is not as usual; as torch shows it."""
        usual = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        unusual = [f", {name}={getattr(self, name)}" for name in usual if getattr(self, name) != usual[name]]
        return f"{self.input_size}, {self.hidden_size}{''.join(unusual)}"
