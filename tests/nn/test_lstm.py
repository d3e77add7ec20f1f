"""What is the LSTM's alone."""

import pytest
import torch
from torch import nn

from conveyor.nn import LSTM


def test_forget_bias_is_the_whole_bias_of_the_forget_gate() -> None:
    torch.manual_seed(0)
    plain = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    torch.manual_seed(0)
    lstm = LSTM(3, 4, num_layers=2, bidirectional=True, forget_bias=1.5)
    forget = slice(4, 8)
    for (name, ours), torchs in zip(lstm.named_parameters(), plain.parameters(), strict=True):
        want = torchs.detach().clone()
        if "bias" in name:
            want[forget] = 1.5 if "_ih_" in name else 0.0
        assert torch.equal(ours, want)
        assert ours.requires_grad
    assert repr(lstm) == "LSTM(3, 4, num_layers=2, bidirectional=True, forget_bias=1.5)"


def test_forget_bias_keeps_the_belt() -> None:
    """A large one turns the cell into a sum over time, as in 1997; a very negative one into no memory at all."""
    for forget_bias, kept in [(50.0, 1.0), (-50.0, 0.0)]:
        lstm = LSTM(1, 2, forget_bias=forget_bias)
        with torch.no_grad():
            lstm.weight_ih_l0.zero_()
            lstm.weight_hh_l0.zero_()
        c_0 = torch.tensor([[[3.0, -4.0]]])
        _, (_, once) = lstm(torch.zeros(1, 1, 1), (torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)))
        _, (_, c_n) = lstm(torch.zeros(1, 1, 1), (torch.zeros(1, 1, 2), c_0))
        torch.testing.assert_close(c_n, once + kept * c_0)


def test_forget_bias_needs_a_bias() -> None:
    with pytest.raises(ValueError, match=r"forget_bias: expected None with bias=False, got 1\.0"):
        LSTM(3, 4, bias=False, forget_bias=1.0)


@pytest.mark.parametrize(
    ("hx", "got"),
    [
        (torch.zeros(1, 2, 4), "one Tensor"),
        ((torch.zeros(1, 2, 4),), "1 tensors"),
        ((torch.zeros(1, 2, 4),) * 3, "3 tensors"),
    ],
)
def test_states_come_as_a_pair(hx: object, got: str) -> None:
    with pytest.raises(RuntimeError, match=rf"^\[LSTM\] hx: expected a pair \(h_0, c_0\), got {got}$"):
        LSTM(3, 4)(torch.zeros(5, 2, 3), hx)


def test_the_cell_state_is_checked_as_well() -> None:
    with pytest.raises(RuntimeError, match=r"c_0: expected \[L\*D, B, H\] = \[1, 2, 4\], got \[1, 2, 5\]"):
        LSTM(3, 4)(torch.zeros(5, 2, 3), (torch.zeros(1, 2, 4), torch.zeros(1, 2, 5)))


def test_the_cell_state_of_a_projection_is_as_wide_as_the_belt() -> None:
    lstm = LSTM(3, 4, proj_size=2)
    with pytest.raises(RuntimeError, match=r"h_0: expected \[L\*D, B, P\] = \[1, 2, 2\], got \[1, 2, 4\]"):
        lstm(torch.zeros(5, 2, 3), (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)))
    with pytest.raises(RuntimeError, match=r"c_0: expected \[L\*D, B, H\] = \[1, 2, 4\], got \[1, 2, 2\]"):
        lstm(torch.zeros(5, 2, 3), (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)))


def test_checkpoint_every() -> None:
    assert repr(LSTM(3, 4, checkpoint_every=8)) == "LSTM(3, 4, checkpoint_every=8)"
    with pytest.raises(ValueError, match="checkpoint_every: expected an int greater than zero, got 0"):
        LSTM(3, 4, checkpoint_every=0)
    with pytest.raises(TypeError, match=r"checkpoint_every: expected an int, got 2\.5 of type float"):
        LSTM(3, 4, checkpoint_every=2.5)


def test_a_run_may_be_cut_and_continued() -> None:
    lstm = LSTM(3, 4, num_layers=2)
    input = torch.randn(7, 2, 3)
    whole, last = lstm(input)
    first, between = lstm(input[:3])
    rest, end = lstm(input[3:], between)
    torch.testing.assert_close(torch.cat([first, rest]), whole)
    torch.testing.assert_close(end, last)
