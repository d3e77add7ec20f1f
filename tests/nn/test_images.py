"""Images and frames as memories."""

import pytest
import torch

from conveyor.nn.frames import FrameCNN
from conveyor.nn.images import PlacesEncoder, SmallCNN


def test_places() -> None:
    """Each place by itself; the summary sees all, and what is said of the whole."""
    torch.manual_seed(1)
    encoder = PlacesEncoder(6, 3, 8).eval()
    maps, vectors = torch.randn(2, 5, 6) * 100, torch.randn(2, 3)
    values, summary = encoder(maps, vectors)
    x = maps[1, 2].sign() * maps[1, 2].abs().sqrt()
    normal = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(values[2, 1], encoder.places(normal).relu())
    other = maps.clone()
    other[1, 2] += 50 * torch.randn(6)
    changed, told = encoder(other, vectors)
    assert (changed != values).any(-1).nonzero().tolist() == [[2, 1]]
    assert (told[1] != summary[1]).any()
    assert torch.equal(told[0], summary[0])
    assert not torch.equal(encoder(maps, vectors + torch.randn(2, 3))[1], summary)


def test_small_cnn() -> None:
    """A place sees what is near it, and no more than that."""
    torch.manual_seed(1)
    cnn = SmallCNN(map_size=32, halvings=3).eval()
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    maps = cnn(pixels)
    assert maps.shape == (1, 64, 32)
    other = pixels.clone()
    other[0, :4, :4] = 255 - other[0, :4, :4]
    changed = (cnn(other) != maps).any(-1)[0].nonzero().flatten().tolist()
    assert 0 in changed
    assert set(changed) <= {0, 1, 8, 9}


@pytest.mark.parametrize("training", [False, True])
def test_frames_past_the_end(training: bool) -> None:
    """What is behind a clip's end changes nothing of it."""
    torch.manual_seed(1)
    cnn = FrameCNN(16, 24, 10, 0.0, shift=2)
    cnn.layers.eval()
    cnn.train(training)
    cnn.layers.eval()
    frames = torch.randint(0, 256, (6, 2, 16, 24), dtype=torch.uint8)
    other = frames.clone()
    other[4:, 1] = 255 - other[4:, 1]
    torch.manual_seed(2)
    first = cnn(frames, torch.tensor([6, 4]))
    torch.manual_seed(2)
    second = cnn(other, torch.tensor([6, 4]))
    assert torch.equal(first[:, 0], second[:, 0])
    assert torch.equal(first[:4, 1], second[:4, 1])


def test_brightness_is_no_matter() -> None:
    torch.manual_seed(1)
    cnn = FrameCNN(16, 24, 10, 0.0).eval()
    frames = torch.randint(0, 100, (5, 1, 16, 24), dtype=torch.uint8)
    bright = cnn(frames + 100, torch.tensor([5]))
    torch.testing.assert_close(bright, cnn(frames, torch.tensor([5])), rtol=1e-3, atol=1e-4)
