"""The gated recurrent unit as a layer."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from conveyor.nn.recurrent import Lengths, Recurrent


class GRU(Recurrent):
    """Gated recurrent units over a sequence: a drop-in for `torch.nn.GRU`.

    At every step t, in every layer and direction, of the layer's input x_t and the state before it:

        r_t = σ(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)                 how much of the past the candidate sees
        z_t = σ(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)                 how much of the past is kept
        n_t = tanh(W_in x_t + b_in + r_t ⊙ (W_hn h_{t-1} + b_hn))      the candidate
        h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}                          the output

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (2014), (5) to (8), with torch's
    place of r_t. `conveyor.equations.gru_step` is the same as code.

    Args: as of `conveyor.nn.LSTM`.

    Shapes: as of `conveyor.nn.LSTM`, but hx and h_n are one tensor [L*D, B, H], or for a single
    sequence [L*D, H].

    Parameters: as of `conveyor.nn.LSTM`, with 3H in the place of 4H, stacked in the order r, z, n.

    Raises: as `conveyor.nn.LSTM`.

    >>> import torch
    >>> from conveyor import GRU
    >>> output, h_n = GRU(3, 4, bidirectional=True)(torch.randn(5, 2, 3), resets=torch.rand(5, 2) < 0.1)
    >>> output.shape, h_n.shape
    (torch.Size([5, 2, 8]), torch.Size([2, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        checkpoint_every: int = 1,
    ) -> None:
        super().__init__(
            3, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0,
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
        output, run = self._run("gru", input, {"h_0": hx}, lengths, resets)
        return output, run.states[0]
