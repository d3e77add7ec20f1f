"""Every gate of an LSTM at every step."""

import copy

import torch
from torch import Tensor, nn

from conveyor.equations import Gates
from conveyor.nn import LSTM
from conveyor.nn.replace import twin


@torch.no_grad()
def gates(lstm: LSTM | nn.LSTM, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> list[Gates]:
    """The gates of every layer and direction, in torch's order: those of the call itself.

    Takes what `lstm` takes, input [T, B, I], [B, T, I] or [T, I] and hx of [L*D, B, H] or [L*D, H], and
    gives `Gates(i, f, g, o, c)`, each [T, B, H] whatever the input's layout, with B = 1 for a single
    sequence. Nothing is dropped out and there are no gradients. The output of a layer is o ⊙ tanh(c), if there
    is no projection.

    >>> found = gates(LSTM(3, 4, num_layers=2, bidirectional=True), torch.randn(5, 2, 3))
    >>> len(found), found[0].f.shape
    (4, torch.Size([5, 2, 4]))
    """
    # A copy, so that the caller's module stays in training; the weights are not copied.
    reader = copy.copy(lstm) if isinstance(lstm, LSTM) else twin(lstm, LSTM)
    reader.training = False
    *_, recorded = reader(input, hx, return_gates=True)
    if input.dim() == 2:
        return [Gates(*(gate.unsqueeze(1) for gate in layer)) for layer in recorded]
    return [Gates(*(gate.transpose(0, 1) for gate in layer)) for layer in recorded] if lstm.batch_first else recorded
