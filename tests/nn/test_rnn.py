"""What is the simple recurrent network's alone."""

import pytest
import torch
from torch import nn

from conveyor.nn import RNN


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_nonlinearity(nonlinearity: str) -> None:
    torch.manual_seed(0)
    torchs = nn.RNN(3, 4, 2, nonlinearity, bidirectional=True)
    ours = RNN(3, 4, 2, nonlinearity, bidirectional=True)
    ours.load_state_dict(torchs.state_dict())
    input = 3 * torch.randn(7, 2, 3)
    torch.testing.assert_close(ours(input), torchs(input))
    assert ours.nonlinearity == nonlinearity


def test_an_unknown_nonlinearity_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nonlinearity: expected one of \['tanh', 'relu'\], got 'sigmoid'"):
        RNN(3, 4, nonlinearity="sigmoid")


def test_states_are_one_tensor() -> None:
    with pytest.raises(TypeError, match=r"\[RNN\] h_0: expected a tensor \[L\*D, B, H\], got tuple"):
        RNN(3, 4)(torch.zeros(5, 2, 3), (torch.zeros(1, 2, 4),) * 2)
