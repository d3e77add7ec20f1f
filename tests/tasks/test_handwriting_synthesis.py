"""Writing by hand: what it learns, what is written, and bad input."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils._pytree import tree_leaves

from conveyor.cli import main
from conveyor.data import ink
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.tasks import handwriting_recognition
from conveyor.tasks import handwriting_synthesis as task
from conveyor.training import bundle
from conveyor.training.scoring import score
from conveyor.training.task import Model


@pytest.fixture
def config(tmp_path: Path) -> task.Config:
    return task.smoke(tmp_path / "lines").config  # type: ignore[no-any-return]


def taught(config: task.Config, epochs: int) -> Model:
    torch.manual_seed(0)
    data = task.read(config)
    network = task.network(config, data.facts)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for epoch in range(epochs):
        for index in range(len(data.train)):
            optimizer.zero_grad()
            task.loss(config, network, data.train.batch(epoch, index), None).loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
    return Model(task, config, data.facts, network.eval())  # type: ignore[arg-type]


def test_it_learns_shapes(config: task.Config) -> None:
    """A line of 36 points; the shapes are known but for noise, so that the density is far above 1."""
    before, after = (taught(config, epochs) for epochs in (0, 12))
    split = task.read(config).valid
    losses = [score(model.task, config, model.network, split)["loss"] for model in (before, after)]
    assert losses[0] > 50
    assert losses[1] < 0


def test_the_loss_is_that_of_points_one_after_another(config: task.Config) -> None:
    """Step by step, with the state handed on."""
    model = taught(config, 1)
    network, batch = model.network, task.read(config).valid.batch(0, 0)
    total = 0.0
    for b, length in enumerate(batch.lengths.tolist()):
        point, state = torch.tensor([[[0.0, 0.0, 1.0]]]), (None, None, None, None)
        for t in range(length):
            with torch.no_grad():
                features, _, state = network(
                    point, batch.text[:, b : b + 1], batch.text_lengths[b : b + 1], None, state
                )
                point = batch.points[t : t + 1, b : b + 1]
                total += float(network.pen.nats(features, point))
    sums = task.loss(config, network, batch, None).sums
    assert float(sums["nats"]) == pytest.approx(total, rel=1e-3, abs=0.05)


@pytest.mark.parametrize("count", [1, 4])
def test_pieces_one_behind_another_are_the_lines(config: task.Config, count: int) -> None:
    """The loss of all pieces is that of the whole, and every point is in one; so too of lines of a single point."""
    model, lines = taught(config, 1), task.read(config).valid
    pieces = task.Pieces(lines, count)
    carried, found = None, {"nats": 0.0, "lines": 0.0, "points": 0}
    assert len(pieces) == count * len(lines)
    for index in range(count):
        outcome = task.loss(config, model.network, pieces.batch(0, index), carried)
        carried = outcome.carried
        assert not any(part.requires_grad for part in tree_leaves(carried))
        found = {name: value + float(outcome.sums[name]) for name, value in found.items()}
    whole = task.loss(config, model.network, lines.batch(0, 0), carried).sums
    assert found == pytest.approx({name: float(value) for name, value in whole.items()}, rel=1e-4)
    dots = task.Coder(config, model.facts).batches([ink.Ink("", np.zeros((1, 3)), "v", "", "")], BadRecords(False))
    for index in range(count):
        outcome = task.loss(config, model.network, task.Pieces(dots, count).batch(0, index), None)
        assert outcome.sums["points"] == (index == 0)
        assert outcome.weight == 1
        assert np.isfinite(float(task.scores(outcome.sums)["nats_per_point"]))
        outcome.loss.backward()


def test_it_goes_on_between_two_pieces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As if it had never stopped; what is carried lies in the checkpoint."""
    for run, steps in (("one", "7"), ("two", "4")):
        command = ["train", "handwriting-synthesis", "--smoke", "--pieces", "3", "--threads", "1"]
        assert main([*command, "--max-steps", steps, "--run", str(tmp_path / run)]) == 0
    assert main(["train", "handwriting-synthesis", "--resume", str(tmp_path / "two"), "--max-steps", "7"]) == 0
    one, two = (load_file(tmp_path / run / "model.safetensors") for run in ("one", "two"))
    for name, weight in one.items():
        assert torch.equal(weight, two[name])


def test_written_lines(config: task.Config, tmp_path: Path) -> None:
    model = taught(config, 12)
    lines = model.predict("vno", "onv")
    for line, text in zip(lines, ("vno", "onv"), strict=True):
        assert line.text == text
        assert 3 < len(line.points) <= task.MOST_POINTS * 4
        assert line.points[-1, 2] == 1
        assert line.weights.shape == (len(line.points), 3)
    assert np.array_equal(model.predict("vno")[0].points[:5], model.predict("vno")[0].points[:5])
    assert not np.array_equal(model.predict("vno", seed=2)[0].points[:5], lines[0].points[:5])
    for ending in task.ENDINGS:
        task.save(lines, tmp_path / f"said{ending}")
    assert re.match(r"<svg .*<path d=\"M[\d. L-]+\"/>.*</svg>", (tmp_path / "said.svg").read_text())
    again = ink.read([tmp_path / "said.npz"], BadRecords(False))
    assert [line.text for line in again] == ["vno", "onv"]
    moved = again[0].points[:, :2] - again[0].points[0, :2]
    assert moved == pytest.approx(lines[0].points[:, :2] - lines[0].points[0, :2], abs=1e-3)
    with Image.open(tmp_path / "said.png") as image:
        assert image.width > 200


def test_a_line_of_ones_own_comes_first(config: task.Config, tmp_path: Path) -> None:
    model, lines = taught(config, 2), Path(config.reading.data[0])
    plain, like = model.predict("vno")[0], model.predict("vno", like=str(lines))[0]
    assert not np.array_equal(plain.points[:3], like.points[:3])
    assert like.weights.shape[1] == 3
    (tmp_path / "mine.inkml").write_text("<ink><trace>0 0, 5 9, 9 0</trace></ink>")
    with pytest.raises(ConveyorError, match="expected what the line says; give it with --like-text"):
        model.predict("vno", like=str(tmp_path / "mine.inkml"))
    assert model.predict("vno", like=str(tmp_path / "mine.inkml"), like_text="v")


def test_a_recogniser_reads_it(config: task.Config, tmp_path: Path) -> None:
    of = handwriting_recognition.smoke(tmp_path / "read").config
    data = handwriting_recognition.read(of)
    bundle.write_description(tmp_path / "reader", "handwriting-recognition", of, data.facts)
    bundle.write_weights(tmp_path / "reader", handwriting_recognition.network(of, data.facts))
    model, split = taught(config, 1), task.read(config).test
    found = task.evaluate(model, split, task.EvaluateOptions(recogniser=str(tmp_path / "reader"), lines=3))
    assert list(found) == ["loss", "nats_per_point", "cer"]
    assert found["cer"] >= 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("vxq", "expected characters seen in training, got 'qx'; write others"),
        (" ", "expected characters seen in training, got none"),
        (3, "expected a text, got 3"),
    ],
)
def test_bad_input(config: task.Config, given: object, says: str) -> None:
    model = taught(config, 0)
    with pytest.raises(ConveyorError, match=says):
        model.predict(given)
    assert len(model.predict(given, "vno", skip_bad=True)) == 1
