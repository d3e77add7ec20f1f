"""Drawing pictures: what it learns, what is drawn, and bad input."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.tasks import image_generation as task
from conveyor.training.scoring import score
from conveyor.training.task import Model


@pytest.fixture
def config(tmp_path: Path) -> task.Config:
    return task.smoke(tmp_path / "bars").config  # type: ignore[no-any-return]


def taught(config: task.Config, epochs: int) -> Model:
    torch.manual_seed(0)
    data = task.read(config)
    network = task.network(config, data.facts)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for epoch in range(epochs):
        for index in range(len(data.train)):
            optimizer.zero_grad()
            task.loss(config, network, data.train.batch(epoch, index), None).loss.backward()
            optimizer.step()
    return Model(task, config, data.facts, network.eval())  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 5])
def test_it_learns_bars(config: task.Config, size: int) -> None:
    """16 kinds of pictures, log 16 = 2.8 nats at best; pixels by their mean alone cost about 24."""
    training = dataclasses.replace(config.training, batch_size=20)
    of = dataclasses.replace(config, read_size=size, write_size=size, glimpses=2, hidden_size=64, training=training)
    model = taught(of, 90)
    split = task.read_test(of, {}, of.reading.data, BadRecords(False))
    found = score(model.task, of, model.network, split)
    assert found["loss"] < 22
    assert found["loss"] == pytest.approx(found["kl"] + found["pixels"])
    assert found == score(model.task, of, model.network, split), "the same pixels and noise each time"


def test_grey_values_may_be_drawn_too(config: task.Config) -> None:
    of = dataclasses.replace(config, binarise=False)
    batch = task.Batch(torch.full((4, 8, 8), 128, dtype=torch.uint8), 1)
    model = taught(of, 0)
    canvas = model.network(batch.images / 255, torch.zeros(4, 4, 4)).canvas
    p, q = 128 / 255, canvas.detach().sigmoid()
    expected = -(p * q.log() + (1 - p) * (1 - q).log()).sum((1, 2)).mean()
    sums = task.loss(of, model.network, batch._replace(seed=None), None).sums
    torch.manual_seed(0)
    assert float(sums["pixels"]) / 4 == pytest.approx(float(expected), rel=0.2)


def test_drawings(config: task.Config, tmp_path: Path) -> None:
    model = taught(config, 2)
    [new], [again] = model.predict("5"), model.predict(tmp_path / "bars" / "00.png")
    assert new.steps[-1].shape == (5, 8, 8)
    assert again.steps[-1].shape == (1, 8, 8)
    assert len(new.steps) == len(new.boxes) == 4
    assert np.array_equal(new.steps[-1], model.predict(5)[0].steps[-1])
    assert not np.array_equal(new.steps[-1], model.predict(5, seed=2)[0].steps[-1])
    for ending in task.ENDINGS:
        path = tmp_path / f"drawn{ending}"
        task.save([new], path)
        if ending == ".npz":
            with np.load(path) as held:
                assert np.array_equal(held["pictures"], new.steps[-1])
        else:
            with Image.open(path) as image:
                assert image.size[0] > 60
                assert getattr(image, "n_frames", 1) == (1 if ending == ".png" else 4)
    folder = model.predict(tmp_path / "bars")[0]
    assert folder.steps[-1].shape == (60, 8, 8)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("0", "expected 1 to 1,000 pictures of 8 x 8, got 0"),
        ("5000", "expected 1 to 1,000 pictures of 8 x 8, got 5,000"),
        (np.zeros((2, 9, 9), np.uint8), r"got 2 of \[9, 9\]"),
        (2.5, "expected a number, images, or pictures"),
        ("none.png", "expected a whole image, but"),
    ],
)
def test_bad_input(config: task.Config, given: object, says: str) -> None:
    with pytest.raises(ConveyorError, match=says):
        taught(config, 0).predict(given)


def test_too_few_to_split(config: task.Config, tmp_path: Path) -> None:
    for n in range(2, 60):
        (tmp_path / "bars" / f"{n:02}.png").unlink()
    with pytest.raises(ConveyorError, match="expected pictures to train on, got none or too few to split"):
        task.read(config)
