"""Modules of every kind, with weights that differ in every place."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from conveyor import GRU, LSTM, RNN, VARIANTS, Variant

ALL = {
    **{name: partial(LSTM, 5, 9, 2, variant=name) for name in VARIANTS},
    "both ways": partial(LSTM, 5, 9, 2, bidirectional=True),
    "peepholes both ways": partial(LSTM, 5, 9, bidirectional=True, variant="peephole"),
    "normal both ways": partial(LSTM, 5, 9, bidirectional=True, variant="layer-norm"),
    "other activations": partial(
        LSTM, 5, 9,
        variant=Variant(
            gate_activation=("hard-sigmoid", 0.3, 0.4), input_activation=("elu", 0.5),
            output_activation=("leaky-relu", 0.1),
        ),
    ),
    "more activations": partial(LSTM, 5, 9, variant=Variant(input_activation="softsign", output_activation="identity")),
    "clipped": partial(
        LSTM, 5, 9,
        variant=Variant(coupled=True, peepholes=True, clip=0.5, input_activation=("scaled-tanh", 1.5, 0.7)),
    ),
    "bounded": partial(
        LSTM, 5, 9,
        variant=Variant(cell_clip=0.3, zoneout_cell=0.1, zoneout_hidden=0.2, gate_activation="hard-sigmoid"),
    ),
    "to four": partial(LSTM, 5, 9, 2, proj_size=4),
    "to four, bounded": partial(LSTM, 5, 9, 2, proj_size=4, variant=Variant(peepholes=True, proj_clip=0.1)),
    "gru": partial(GRU, 5, 9, 2),
    "gru both ways": partial(GRU, 5, 9, 2, bidirectional=True),
    "rnn": partial(RNN, 5, 9),
    "relu": partial(RNN, 5, 9, nonlinearity="relu"),
    "without biases": partial(LSTM, 5, 9, bias=False),
}  # fmt: skip


@pytest.fixture(params=ALL)
def module(request: pytest.FixtureRequest) -> nn.Module:
    """One of them."""
    return shaken(ALL[request.param])


def shaken(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    found = make().eval()
    with torch.no_grad():
        for weight in found.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return found
