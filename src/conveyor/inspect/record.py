"""Every gate of an LSTM at every step."""

import torch
from torch import Tensor, nn

from conveyor.equations import Gates, Weights
from conveyor.equations import lstm as run
from conveyor.nn import LSTM


@torch.no_grad()
def record(lstm: LSTM | nn.LSTM, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> list[Gates]:
    """The gates of every layer and direction, in torch's order, as the equations compute them.

    Takes what `lstm` takes, input [T, B, I], [B, T, I] or [T, I] and hx of [L*D, B, H] or [L*D, H], and
    gives `Gates(i, f, g, o, c)`, each [T, B, H] whatever the input's layout, with B = 1 for a single
    sequence. Nothing is dropped out and there are no gradients. The output of a layer is o ⊙ tanh(c).

    >>> gates = record(LSTM(3, 4, num_layers=2, bidirectional=True), torch.randn(5, 2, 3))
    >>> len(gates), gates[0].f.shape
    (4, torch.Size([5, 2, 4]))
    """
    D = 2 if lstm.bidirectional else 1
    x = input.unsqueeze(1) if input.dim() == 2 else input.transpose(0, 1) if lstm.batch_first else input
    shape = (lstm.num_layers * D, x.shape[1], lstm.hidden_size)
    h_0, c_0 = (x.new_zeros(shape),) * 2 if hx is None else (state.reshape(shape) for state in hx)
    recorded: list[Gates] = []
    for layer in range(lstm.num_layers):
        for number in range(layer * D, (layer + 1) * D):
            w_ih, w_hh, *biases = lstm.all_weights[number]
            weights = Weights(w_ih, w_hh, *biases)
            *_, gates = run(x, h_0[number], c_0[number], weights, reverse=number % D == 1)
            recorded.append(gates)
        x = torch.cat([gates.o * gates.c.tanh() for gates in recorded[-D:]], dim=-1)
    return recorded
