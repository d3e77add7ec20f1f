"""One step of a recurrent network as a module."""

import torch
from torch import Tensor, nn

from conveyor import ops
from conveyor.nn import checks, parameters
from conveyor.nn.precision import brought, precision


class Cell(nn.Module):
    """The parameters of one cell of `gates` gates, and its step; subclasses bring the cell's name."""

    def __init__(
        self, gates: int, input_size: int, hidden_size: int, bias: bool, device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:  # fmt: skip
        super().__init__()
        checks.sizes(input_size=input_size, hidden_size=hidden_size)
        checks.dtype(dtype)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self._weights = parameters.direction(gates, input_size, hidden_size, 0, bias)
        parameters.register(self, self._weights, device, dtype)
        if not bias:  # there, and None, as in torch
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/√H, 1/√H), in torch's order: the same seed gives torch's numbers."""
        parameters.reset(self, self.hidden_size)

    def _step(self, cell: str, input: Tensor, states: dict[str, Tensor | None]) -> list[Tensor]:
        """The states after one step, which is a sequence of length 1; a state that is None is zero."""
        weights = parameters.at_hand(self, self._weights)
        if not checks.tracing():
            self._check(input, states, weights)
        dtype, single = precision(weights[0]), input.dim() == 1
        x = brought(_sequence(input, single), dtype)
        first = [
            x.new_zeros(1, x.shape[1], self.hidden_size) if s is None else brought(_sequence(s, single), dtype)
            for s in states.values()
        ]
        named = parameters.named(weights, len(weights) > 2)
        done = ops.layer(cell, x, first[0], first[1] if cell == "lstm" else None, [named])
        last = [state.squeeze(0) for state in (done.h_n, done.c_n)[: len(states)]]
        return [state.squeeze(0) for state in last] if single else last

    def _check(self, input: Tensor, states: dict[str, Tensor | None], weights: list[Tensor]) -> None:
        where, like = self._get_name(), weights[0]
        checks.step(where, "input", input, "[B, I]", "[I]")
        batch = input.shape[:-1]
        symbols = "B, " if batch else ""
        checks.tensor(where, "input", input, (*batch, self.input_size), f"[{symbols}I]", like)
        for name, state in states.items():
            if state is not None:
                checks.step(where, name, state, "[B, H]", "[H]")
                checks.tensor(where, name, state, (*batch, self.hidden_size), f"[{symbols}H]", like)
        checks.weights(where, self._weights, weights, like)

    def extra_repr(self) -> str:
        """The sizes, and what is not as usual; as torch shows it."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias is True else f", bias={self.bias}")


def _sequence(t: Tensor, single: bool) -> Tensor:
    """[B, ·] or [·] as [1, B, ·]."""
    return t.unsqueeze(0).unsqueeze(0) if single else t.unsqueeze(0)


class LSTMCell(Cell):
    """One step of the LSTM: a drop-in for `torch.nn.LSTMCell`. The equations are those of `conveyor.nn.LSTM`.

    Shapes: input [B, I], or [I] for a single row; hx a pair (h, c) of [B, H], or [H]; zeros if None. Gives the next
    pair.

    Parameters: weight_ih [4H, I], weight_hh [4H, H], bias_ih [4H], bias_hh [4H], in the order i, f, g, o.

    Raises: TypeError for what is no tensor; ValueError for a number of dimensions that is not 1 or 2;
    RuntimeError for shapes, dtypes and devices that do not fit.

    >>> import torch
    >>> from conveyor import LSTMCell
    >>> h, c = LSTMCell(3, 4)(torch.randn(2, 3))
    >>> h.shape, c.shape
    (torch.Size([2, 4]), torch.Size([2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(4, input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The states (h, c) after the step; see the class for shapes."""
        h, c = checks.pair(self._get_name(), hx)
        h, c = self._step("lstm", input, {"h": h, "c": c})
        return h, c


class GRUCell(Cell):
    """One step of the gated recurrent unit: a drop-in for `torch.nn.GRUCell`. The equations are those of `GRU`.

    Shapes: input [B, I], or [I] for a single row; hx [B, H], or [H]; zeros if None. Gives the next state.

    Parameters: weight_ih [3H, I], weight_hh [3H, H], bias_ih [3H], bias_hh [3H], in the order r, z, n.

    Raises: as `LSTMCell`.

    >>> import torch
    >>> from conveyor import GRUCell
    >>> GRUCell(3, 4)(torch.randn(2, 3), torch.randn(2, 4)).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(3, input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state after the step; see the class for shapes."""
        return self._step("gru", input, {"h": hx})[0]


class RNNCell(Cell):
    """One step of the simple recurrent network: a drop-in for `torch.nn.RNNCell`. The equation is that of `RNN`.

    Shapes: input [B, I], or [I] for a single row; hx [B, H], or [H]; zeros if None. Gives the next state.

    Parameters: weight_ih [H, I], weight_hh [H, H], bias_ih [H], bias_hh [H].

    Raises: as `LSTMCell`; ValueError also for a nonlinearity other than "tanh" and "relu".

    >>> import torch
    >>> from conveyor import RNNCell
    >>> RNNCell(3, 4, nonlinearity="relu")(torch.randn(3)).shape
    torch.Size([4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        checks.nonlinearity(nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(1, input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state after the step; see the class for shapes."""
        return self._step(f"rnn_{self.nonlinearity}", input, {"h": hx})[0]

    def extra_repr(self) -> str:
        """The sizes, and what is not as usual; as torch shows it."""
        usual = super().extra_repr()
        return usual if self.nonlinearity == "tanh" else f"{usual}, nonlinearity={self.nonlinearity}"
