"""Hiding parts of spectrograms, and frames put together."""

import torch

from conveyor.nn.spectrogram import SpecAugment, stacked


def test_stacked_frames() -> None:
    frames = torch.randn(7, 2, 3)
    found = stacked(frames, 3)
    assert found.shape == (3, 2, 9)
    for t in range(9):
        own = found[t // 3, :, 3 * (t % 3) : 3 * (t % 3) + 3]
        assert torch.equal(own, frames[t] if t < 7 else torch.zeros(2, 3))


def test_stretches_are_hidden_in_training_alone() -> None:
    torch.manual_seed(0)
    augment, frames, lengths = SpecAugment(8, 20), torch.ones(100, 6, 40), torch.tensor([100, 90, 50, 40, 30, 10])
    assert augment.eval()(frames, lengths) is frames
    hidden = augment.train()(frames, lengths) == 0
    bands, steps = hidden.all(0), hidden.all(2)
    assert bands.sum(1).max() <= 16
    assert (steps.sum(0) <= 2 * torch.minimum(lengths // 5, torch.tensor(20))).all()
    assert hidden.any()
    assert (hidden == bands[None] | steps[..., None]).all(), "whole bands, or whole frames"
    assert SpecAugment(0, 0).train()(frames, lengths) is frames
