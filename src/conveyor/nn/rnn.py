"""The simple recurrent network as a layer."""

from functools import partial

import torch
from torch import Tensor

from conveyor import ops
from conveyor.equations import NONLINEARITIES
from conveyor.nn.recurrent import Recurrent


class RNN(Recurrent):
    """Elman's simple recurrent network over a sequence: a drop-in for `torch.nn.RNN`.

    At every step t, in every layer and direction, of the layer's input x_t and the state before it:

        h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)

    Elman, "Finding Structure in Time" (1990), figure 2. `conveyor.equations.rnn_step` is the same as code.

    Args:
        nonlinearity: "tanh", or "relu" for max(0, ·) in its place.
        All others as of `conveyor.nn.LSTM`.

    Shapes: as of `conveyor.nn.LSTM`, but hx and h_n are one tensor [L*D, B, H], or for a single
    sequence [L*D, H].

    Parameters: as of `conveyor.nn.LSTM`, with a single H in the place of 4H.

    Raises: as `conveyor.nn.LSTM`; ValueError also for an unknown nonlinearity.

    >>> import torch
    >>> from conveyor import RNN
    >>> output, h_n = RNN(3, 4, batch_first=True)(torch.randn(2, 5, 3))
    >>> output.shape, h_n.shape
    (torch.Size([2, 5, 4]), torch.Size([1, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity: expected one of {list(NONLINEARITIES)}, got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            1, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Output, and the state h_n after the last step; see the class for shapes."""
        output, (h_n,) = self._run(partial(ops.rnn, nonlinearity=self.nonlinearity), input, h_0=hx)
        return output, h_n
