"""The simple recurrent network as a layer."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from conveyor.nn import checks
from conveyor.nn.recurrent import Lengths, Recurrent


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
    >>> output, h_n = RNN(3, 4, batch_first=True)(torch.randn(2, 5, 3), lengths=[5, 2])
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
        *,
        checkpoint_every: int = 1,
    ) -> None:
        checks.nonlinearity(nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(
            1, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0,
            checkpoint_every, device, dtype,
        )  # fmt: skip

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        *,
        lengths: Lengths = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Output, and the state h_n at each row's end; see the class for shapes."""
        output, run = self._run(f"rnn_{self.nonlinearity}", input, {"h_0": hx}, lengths, resets)
        return output, run.states[0]
