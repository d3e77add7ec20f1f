"""Features of ink and of images of lines."""

import pytest
import torch

from conveyor.nn.ink import ColumnCNN, InkFeatures


def line(points: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    found = torch.cat([torch.randn(points, 2, generator=generator), torch.zeros(points, 2)], 1)
    found[0, 2] = found[points // 2, 2] = 1
    return found


def test_features_of_each_point() -> None:
    """Against a loop."""
    points, stack, apart = line(10), 3, 0.2
    found, lengths = InkFeatures(stack, apart).eval()(points[:, None], torch.tensor([10]))
    assert found.shape == (4, 1, 18)
    assert lengths.tolist() == [4]
    flat = found.view(12, 6)
    for n in range(10):
        moved = points[n, :2] - points[n - 1, :2] if n else torch.zeros(2)
        starts = bool(points[n, 2])
        want = [*(moved / apart * (not starts)), *(moved * starts), points[n, 1], float(starts)]
        assert flat[n] == pytest.approx(torch.tensor(want))
    assert not flat[10:].any()


@pytest.mark.parametrize("module", [InkFeatures(3, 0.2), ColumnCNN(16, 8, 0.0)], ids=["ink", "columns"])
def test_a_lines_features_do_not_depend_on_its_batch(module: torch.nn.Module) -> None:
    module.eval()
    width = 4 if isinstance(module, InkFeatures) else 16
    short, long = torch.rand(13, width), torch.rand(40, width)
    padded = torch.zeros(40, 2, width)
    padded[:13, 0], padded[:, 1] = short, long
    together, lengths = module(padded, torch.tensor([13, 40]))
    alone, own = module(short[:, None], torch.tensor([13]))
    assert own.tolist() == lengths[:1].tolist()
    torch.testing.assert_close(together[: int(own), :1], alone)
    assert not together[int(own) :, 0].any()


def test_training_writes_lines_again() -> None:
    torch.manual_seed(0)
    module, points = InkFeatures(3, 0.2), line(30)[:, None].expand(-1, 4, -1)
    once, again = (module(points, torch.full((4,), 30))[0] for _ in range(2))
    assert once.shape[2] == again.shape[2] == 18
    assert not torch.equal(once[:9], again[:9])
    still = InkFeatures(1, 0.2, slant=0.0, stretch=0.0, tremble=0.0)
    torch.testing.assert_close(still(points, torch.full((4,), 30))[0], still.eval()(points, torch.full((4,), 30))[0])
