"""A distribution over binary vectors that are not independent: the neural autoregressive distribution estimator."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class NADE(nn.Module):
    """What the entries of a binary vector depend on: all entries before them, through a hidden layer.

        a_k = b_h + Σ_{j<k} v_j W_j
        p(v_k = 1 | v_1 … v_{k-1}) = σ(b_v,k + V_k · σ(a_k))

    Larochelle & Murray, "The Neural Autoregressive Distribution Estimator" (2011), (3) and (4). The biases are not
    parameters: a recurrent network gives them at each step, as in Boulanger-Lewandowski, Bengio & Vincent, "Modeling
    Temporal Dependencies in High-Dimensional Sequences" (2012), section 5.

    a_k changes behind a 1 alone. So its hidden layer is computed once for each 1 and once for the start, not for each
    entry: on sparse vectors all of it is two small matrix products.

    Args:
        visible_size: K, the entries of a vector.
        hidden_size: H, the units of the hidden layer.
        dropout: probability of zeroing a hidden unit in training, drawn anew for each 1.

    Shapes of a call: visible [N, K] of zeros and ones, bias_v [N, K], bias_h [N, H]; the result is [N, K], logits of
    p(v_k = 1) given the entries of `visible` before k.

    Parameters: weight_in [K, H], which is W, and weight_out [K, H], V, both drawn from U(-1/√H, 1/√H).
    """

    def __init__(self, visible_size: int, hidden_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight_in = nn.Parameter(torch.empty(visible_size, hidden_size))
        self.weight_out = nn.Parameter(torch.empty(visible_size, hidden_size))
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both matrices."""
        bound = self.weight_in.shape[1] ** -0.5
        for weight in (self.weight_in, self.weight_out):
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, visible: Tensor, bias_v: Tensor, bias_h: Tensor) -> Tensor:
        """The logits; see the class for shapes."""
        marks = torch.cat([visible.new_ones(len(visible), 1), visible], 1).long()  # the start counts as a 1
        row, last = marks.nonzero(as_tuple=True)
        keys = torch.arange(1, marks.shape[1], device=marks.device)
        seen = visible[row] * (keys <= last.unsqueeze(1))  # [M, K], M the number of marks
        a = bias_h.index_select(0, row) + seen @ self.weight_in
        after_each = self.dropout(a.sigmoid()) @ self.weight_out.t()  # [M, K]
        before_k = (marks.flatten().cumsum(0) - 1).view_as(marks)[:, :-1]  # [N, K], the last mark before each k
        logits: Tensor = bias_v + after_each.gather(0, before_k)
        return logits


def decided(logits: Callable[[Tensor], Tensor], threshold: Tensor) -> Tensor:
    """The vectors [N, K] whose entries are 1 where their logit, given the entries before, is above the threshold.

    With the thresholds [N, K] zero that is the likelier choice, entry by entry; with logit(u), u uniform, a sample.

    An entry depends on those before it alone: so what the logits make of a guess is right one entry further on, at
    least, and what comes back unchanged is right altogether. It takes about as many rounds as there are ones.
    """
    guess = torch.zeros_like(threshold)
    while not torch.equal(guess, better := (logits(guess) > threshold).to(guess.dtype)):
        guess = better
    return guess
