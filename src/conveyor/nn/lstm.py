"""The LSTM as a layer."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from conveyor.nn import checks
from conveyor.nn.recurrent import Lengths, Recurrent
from conveyor.variant import GATES, Variant


class LSTM(Recurrent):
    """Long short-term memory over a sequence: a drop-in for `torch.nn.LSTM`, on Conveyor's kernels.

    At every step t, in every layer and direction, of the layer's input x_t and the states before it:

        i_t = σ(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)       what is put on the belt
        f_t = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf)       what is kept on it
        g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)    the candidate
        o_t = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho)       what is shown of it
        c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t                      the belt
        h_t = o_t ⊙ tanh(c_t)                                the output
        h_t = W_hr (o_t ⊙ tanh(c_t))                         instead, if proj_size is not 0

    Hochreiter & Schmidhuber, "Long Short-Term Memory" (1997), appendix A.1, (7) to (9); f_t of Gers,
    Schmidhuber & Cummins, "Learning to Forget" (2000), section 3.1; W_hr of Sak, Senior & Beaufays, "Long
    Short-Term Memory Based Recurrent Neural Network Architectures for Large Vocabulary Speech Recognition"
    (2014), (12). `conveyor.equations.lstm_step` is the same as code.

    Args:
        input_size: I, the features of a step.
        hidden_size: H, the units of a layer and direction.
        num_layers: L, layers stacked, each reading the output of the one below.
        bias: whether there are b_i* and b_h*.
        batch_first: input and output are [B, T, …] instead of [T, B, …]; the states are not affected.
        dropout: probability of zeroing an output between two layers in training.
        bidirectional: D = 2 instead of 1: a second set of weights reads from the last step to the first.
        proj_size: P, the features of h_t if W_hr projects it; 0 for none, then P below is H.
        device, dtype: of the parameters.
        forget_bias: if given, `reset_parameters` sets b_if to it and b_hf to zero in every layer and
            direction, so that it is the whole bias of the forget gate. With 1.0 the belt keeps most of
            what it carries from the start (Jozefowicz, Zaremba & Sutskever 2015). None leaves both as
            drawn, like torch.
        variant: a name in `conveyor.VARIANTS`, or a `conveyor.Variant` of your own: what differs from the above, as
            `conveyor.equations.variant_step` writes it. Some have other shapes: w without its rows where a gate has
            none; h_0 and h_n with the gates behind h where gates see gates; and parameters of their own.
        checkpoint_every: n > 1 keeps the belt of every n-th step alone in training and computes the others
            again on the way back: less memory, more time. √T needs least.

    Shapes of a call:
        input [T, B, I], [B, T, I] if batch_first, [T, I] for a single sequence, of T > 0 steps, or a
            PackedSequence, sorted or not;
        hx a pair (h_0, c_0) of [L*D, B, P] and [L*D, B, H], without B for a single sequence; zeros if None;
        lengths [B], a tensor or a list of ints from 0 to T (not with a PackedSequence, which has its own): row
            b ends after lengths[b] steps. Steps past its end come out zero and take no gradient, h_n and c_n are
            those at its own end, from where the reverse direction starts. A row of length 0 keeps its hx. To
            torch.compile a list of another number of rows is another program, a tensor is not;
        resets [T, B], [B, T] if batch_first, [T] for a single sequence, of bool: a row's states are zeroed
            before such a step, in the reverse direction after it, so that both see the same segments. With a
            PackedSequence [T, B] over its padded rows, in the order before sorting;
        output as the input, with D*P features of the last layer, forward before reverse;
        (h_n, c_n) as hx: of the last step, for the reverse direction the first;
        with return_gates also a list of `conveyor.equations.Gates` (i, f, g, o, c), one a layer and direction
            in torch's order, each [T, B, H], [B, T, H] or [T, H] as the input, padded for a PackedSequence:
            [T, B, H]. They are views of what training keeps anyway, and differentiable.

    Parameters, of layer k: weight_ih_lk [4H, I] (above the first layer [4H, D*P]), weight_hh_lk [4H, P],
    bias_ih_lk [4H], bias_hh_lk [4H], each stacked in the order i, f, g, o, and weight_hr_lk [P, H] with a
    projection; of the reverse direction ending in `_reverse`. Names and layout are torch's, so that a state dict
    goes both ways. They are drawn from U(-1/√H, 1/√H); the same seed gives torch's numbers.

    float32 and bfloat16 on the CPU run the kernels; everything else runs the equations. Under autocast all is
    brought to autocast's dtype, but float64.

    Raises:
        TypeError, ValueError: constructor arguments of the wrong type or out of range; an input that is no
            tensor, not of 2 or 3 dimensions, or not of the weights' dtype; lengths or resets that are no tensor.
        RuntimeError: a dtype of whole numbers; shapes that do not fit, T = 0, sparse tensors, tensors on several
            devices; lengths below 0 or above T, not as many as rows, or not of whole numbers; resets that are not
            bool; a PackedSequence that is given lengths or does not fit its own batch_sizes and sorted_indices.

    >>> import torch
    >>> from conveyor import LSTM
    >>> lstm = LSTM(3, 4, num_layers=2, bidirectional=True)
    >>> output, (h_n, c_n) = lstm(torch.randn(5, 2, 3))
    >>> output.shape, h_n.shape
    (torch.Size([5, 2, 8]), torch.Size([4, 2, 4]))
    >>> output, (h_n, c_n), gates = lstm(torch.randn(5, 2, 3), lengths=[5, 2], return_gates=True)
    >>> output[2:, 1].any().item(), len(gates), gates[0].f.shape
    (False, 4, torch.Size([5, 2, 4]))
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
        checkpoint_every: int = 1,
        variant: str | Variant = "lstm",
    ) -> None:
        self.variant = variant
        of = checks.variant(variant, forget_bias, bias, proj_size)
        self.forget_bias = of.forget_bias
        self._cells = (of.in_evaluation.cell, of.cell)  # by self.training
        super().__init__(
            len(of.gates), input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            checkpoint_every, device, dtype, None if replace(of, forget_bias=None) == Variant() else of,
        )  # fmt: skip

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/√H, 1/√H), in torch's order; then set `forget_bias`, if given."""
        super().reset_parameters()
        self.reset_forget_bias()

    @torch.no_grad()
    def reset_forget_bias(self) -> None:
        """Set b_if to `forget_bias` and b_hf to zero in every layer and direction, if it is given."""
        if self.forget_bias is None:
            return
        first = (self._variant.gates if self._variant else GATES).index("f") * self.hidden_size
        forget = slice(first, first + self.hidden_size)
        for _, _, b_ih, b_hh, *_ in self.all_weights:
            b_ih[forget] = self.forget_bias
            b_hh[forget] = 0

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Lengths = None,
        resets: Tensor | None = None,
        return_gates: bool = False,
    ) -> Any:
        """Output, the states (h_n, c_n) at each row's end, and the gates if asked for; see the class for shapes."""
        h_0, c_0 = checks.pair(self._get_name(), hx)
        output, run = self._run(
            self._cells[self.training], input, {"h_0": h_0, "c_0": c_0}, lengths, resets, return_gates
        )
        last = (run.states[0], run.states[1])
        return (output, last, run.gates) if return_gates else (output, last)

    def extra_repr(self) -> str:
        """The sizes, and what is not as usual; as torch shows it."""
        unusual = "" if self.variant == "lstm" else f", variant={self.variant!r}"
        bias = "" if self.forget_bias is None else f", forget_bias={self.forget_bias}"
        return super().extra_repr() + bias + unusual
