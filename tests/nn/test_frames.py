"""Frames as features: what a clip's features depend on, and what training changes."""

import torch
from torch.testing import assert_close

from conveyor.nn.frames import FrameCNN, _strayed

LENGTHS = torch.tensor([9, 5])


def clips() -> torch.Tensor:
    """Two clips of noise, the second shorter."""
    torch.manual_seed(3)
    frames = torch.randint(256, (9, 2, 20, 28), dtype=torch.uint8)
    frames[5:, 1] = 0
    return frames


def cnn(shift: int = 2, mirror: bool = True) -> FrameCNN:
    torch.manual_seed(4)
    return FrameCNN(20, 28, 7, 0.0, shift, mirror)


def test_a_clip_alone_and_beside_a_longer_one() -> None:
    features, frames = cnn().eval(), clips()
    both = features(frames, LENGTHS)
    assert_close(both[:5, 1:], features(frames[:5, 1:], LENGTHS[1:]), rtol=1e-4, atol=1e-5)
    assert not both[5:, 1].any()
    assert both[:5, 1].std() > 0


def test_light_and_contrast_do_not_matter() -> None:
    features, frames = cnn().eval(), clips() // 4
    assert_close(features(2 * frames + 60, LENGTHS), features(frames, LENGTHS), rtol=1e-2, atol=1e-3)


def test_a_frame_is_seen_between_its_neighbours() -> None:
    """Frame 4 changes the features of frames 3 to 5."""
    features, frames = cnn().eval(), clips()
    other = frames.clone()
    other[4, 0] = other[4, 0].flip(-1)  # mean and deviation stay
    changed = (features(frames, LENGTHS) - features(other, LENGTHS)).abs().amax(-1) > 1e-6
    assert changed[:, 0].nonzero().flatten().tolist() == [3, 4, 5]
    assert not changed[:, 1].any()


def test_training_moves_and_turns_clips() -> None:
    x = torch.arange(20.0 * 28).reshape(1, 1, 20, 28).repeat(2, 40, 1, 1)
    turned = cnn(shift=0)._moved(x)
    alike = [bool((turned[:, b] == x[:, b]).all()) for b in range(40)]
    assert all(one or bool((turned[:, b] == x[:, b].flip(-1)).all()) for b, one in enumerate(alike))
    assert 8 < sum(alike) < 32
    assert_close(cnn(shift=0, mirror=False)._moved(x), x)
    moved = cnn(shift=2, mirror=False)._moved(x)
    corners = {(int(moved[0, b, 10, 14]) // 28 - 10, int(moved[0, b, 10, 14]) % 28 - 14) for b in range(40)}
    assert {down for down, _ in corners} == {right for _, right in corners} == {-2, -1, 0, 1, 2}


def test_training_strays_in_time() -> None:
    torch.manual_seed(5)
    times = torch.arange(200.0)[:, None, None, None].repeat(1, 30, 1, 1)
    lengths = torch.full((30,), 200)
    lengths[7] = 50
    strayed = _strayed(times, lengths)[..., 0, 0]
    steps = strayed.diff(dim=0)
    others = torch.arange(30) != 7
    assert set(steps[:150, others].unique().tolist()) == {0.0, 1.0, 2.0}
    assert 0.03 < (steps[:150, others] == 0).float().mean() < 0.07
    assert 0.03 < (steps[:150, others] == 2).float().mean() < 0.07
    assert strayed[:, 7].max() == 49
