"""The LSTM as a layer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from conveyor import ops
from conveyor.nn.recurrent import Recurrent


class LSTM(Recurrent):
    """Long short-term memory over a sequence: a drop-in for `torch.nn.LSTM`, on Conveyor's kernels.

    At every step t, in every layer and direction, of the layer's input x_t and the states before it:

        i_t = σ(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)       what is put on the belt
        f_t = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf)       what is kept on it
        g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)    the candidate
        o_t = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho)       what is shown of it
        c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t                      the belt
        h_t = o_t ⊙ tanh(c_t)                                the output

    Hochreiter & Schmidhuber, "Long Short-Term Memory" (1997), appendix A.1, (7) to (9); f_t of Gers,
    Schmidhuber & Cummins, "Learning to Forget" (2000), section 3.1. `conveyor.equations.lstm_step` is the
    same as code.

    Args:
        input_size: I, the features of a step.
        hidden_size: H, the units of a layer and direction.
        num_layers: L, layers stacked, each reading the output of the one below.
        bias: whether there are b_i* and b_h*.
        batch_first: input and output are [B, T, …] instead of [T, B, …]; the states are not affected.
        dropout: probability of zeroing an output between two layers in training.
        bidirectional: D = 2 instead of 1: a second set of weights reads from the last step to the first.
        proj_size: 0; others are not supported yet.
        device, dtype: of the parameters.
        forget_bias: if given, `reset_parameters` sets b_if to it and b_hf to zero in every layer and
            direction, so that it is the whole bias of the forget gate. With 1.0 the belt keeps most of
            what it carries from the start (Jozefowicz, Zaremba & Sutskever 2015). None leaves both as
            drawn, like torch.

    Shapes:
        input [T, B, I], [B, T, I] if batch_first, or [T, I] for a single sequence, of T > 0 steps;
        hx a pair (h_0, c_0) of [L*D, B, H], or [L*D, H] for a single sequence; zeros where not given;
        output as the input, with D*H features of the last layer, forward before reverse;
        (h_n, c_n) as hx: of the last step, for the reverse direction the first.

    Parameters, of layer k: weight_ih_lk [4H, I] (above the first layer [4H, D*H]), weight_hh_lk [4H, H],
    bias_ih_lk [4H], bias_hh_lk [4H], each stacked in the order i, f, g, o; of the reverse direction ending in
    `_reverse`. Names and layout are torch's, so that a state dict goes both ways. They are drawn from
    U(-1/√H, 1/√H); the same seed gives torch's numbers.

    float32 on the CPU runs the kernels, and stays float32 under autocast; everything else runs the equations.

    Raises:
        TypeError, ValueError: constructor arguments of the wrong type or out of range; an input that is no
            tensor, not of 2 or 3 dimensions, or not of the weights' dtype.
        RuntimeError: shapes that do not fit, T = 0, or tensors on several devices.
        NotImplementedError: a PackedSequence, or proj_size above 0.

    >>> import torch
    >>> from conveyor import LSTM
    >>> lstm = LSTM(3, 4, num_layers=2, bidirectional=True)
    >>> output, (h_n, c_n) = lstm(torch.randn(5, 2, 3))
    >>> output.shape, h_n.shape
    (torch.Size([5, 2, 8]), torch.Size([4, 2, 4]))
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
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        forget_bias: float | None = None,
    ) -> None:
        if proj_size != 0:
            raise NotImplementedError(f"proj_size: expected 0, got {proj_size!r}; others are not supported yet")
        if forget_bias is not None and not bias:
            raise ValueError(f"forget_bias: expected None with bias=False, got {forget_bias!r}")
        self.proj_size = proj_size
        self.forget_bias = forget_bias
        super().__init__(
            4, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/√H, 1/√H), in torch's order; then set `forget_bias`, if given."""
        super().reset_parameters()
        if self.forget_bias is None:
            return
        forget = slice(self.hidden_size, 2 * self.hidden_size)
        for _, _, b_ih, b_hh in self.all_weights:
            b_ih[forget] = self.forget_bias
            b_hh[forget] = 0

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Output, and the states (h_n, c_n) after the last step; see the class for shapes."""
        h_0, c_0 = (None, None) if hx is None else self._pair(hx)
        output, (h_n, c_n) = self._run(ops.lstm, input, h_0=h_0, c_0=c_0)
        return output, (h_n, c_n)

    def _pair(self, hx: Sequence[Tensor]) -> Sequence[Tensor]:
        if isinstance(hx, (tuple, list)) and len(hx) == 2:
            return hx
        got = f"{len(hx)} tensors" if isinstance(hx, (tuple, list)) else f"one {type(hx).__name__}"
        raise RuntimeError(f"[{self._get_name()}] hx: expected a pair (h_0, c_0), got {got}")

    def extra_repr(self) -> str:
        """The sizes, and what is not as usual; as torch shows it."""
        usual = super().extra_repr()
        return usual if self.forget_bias is None else f"{usual}, forget_bias={self.forget_bias}"
