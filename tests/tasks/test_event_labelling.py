"""Labelling every step: what it learns, its scores, streams, and bad input."""

import csv
import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from conveyor.errors import ConveyorError
from conveyor.tasks import event_labelling as task
from conveyor.training.options import ReadingOptions, TrainingOptions
from conveyor.training.scoring import score
from conveyor.training.task import Model


@pytest.fixture
def config(tmp_path: Path) -> task.Config:
    return task.smoke(tmp_path / "tables").config  # type: ignore[no-any-return]


def taught(config: task.Config, epochs: int, rate: float = 0.02) -> Model:
    torch.manual_seed(0)
    data = task.read(config)
    network = task.network(config, data.facts)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for epoch in range(epochs):
        for index in range(len(data.train)):
            optimizer.zero_grad()
            task.loss(config, network, data.train.batch(epoch, index), None).loss.backward()
            optimizer.step()
    return Model(task, config, data.facts, network.eval())  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [{}, {"causal": True, "change_cost": 0.0}], ids=["both ways", "causal"])
def test_it_learns_levels(config: task.Config, more: dict) -> None:
    of = dataclasses.replace(config, **more)
    model = taught(of, 20)
    found = score(model.task, of, model.network, task.read(of).test)
    assert found["accuracy"] > 0.8 > found["accuracy_prior"]
    assert list(found) == ["loss", "accuracy", "macro_f1", "accuracy_prior"]


def test_scores_are_those_of_the_labels(config: task.Config) -> None:
    model = taught(config, 5)
    split = task.read(config).train
    right, true, given = 0, [], []
    for index in range(len(split)):
        batch = split.batch(0, index)
        logits, _ = model.network(batch.values, batch.lengths)
        for b, length in enumerate(batch.lengths.tolist()):
            own, known = task._labels(config, logits[:length, b]), batch.targets[:length, b].numpy()
            right += int((own == known).sum())
            true += known.tolist()
            given += own.tolist()
    found = score(model.task, config, model.network, split)
    assert found["accuracy"] == pytest.approx(right / len(true))
    both = np.array(true), np.array(given)
    f1 = [2 * ((both[0] == k) & (both[1] == k)).sum() / ((both[0] == k).sum() + (both[1] == k).sum()) for k in range(3)]
    assert found["macro_f1"] == pytest.approx(np.mean(f1))


def test_a_stream_is_labelled_as_in_one_piece(config: task.Config, tmp_path: Path) -> None:
    model = taught(dataclasses.replace(config, causal=True, change_cost=0.0, layers=2), 3)
    file = tmp_path / "tables" / "03.csv"
    [[whole]], [[stream]] = model.predict(file), model.predict(file, stream=True)
    assert whole.labels == stream.labels
    assert stream.sure == pytest.approx(whole.sure, abs=1e-5)
    values = np.array([[float(x) for x in line.split(",")[:2]] for line in file.read_text().splitlines()[1:]])
    watcher = task.Watcher(model)
    assert [watcher.see(step) for step in values] == whole.labels
    with pytest.raises(ConveyorError, match="expected a model of measurements trained with --causal"):
        taught(config, 0).predict(file, stream=True)


def test_parts(config: task.Config) -> None:
    of = dataclasses.replace(config, test_on=("03", "07"))
    data = task.read(of)
    assert [len(part.lengths) for part in (data.train, data.valid, data.test)] == [9, 1, 2]
    with pytest.raises(ConveyorError, match=r"--test-on: expected names of sequences, got 99; e\.g\. 00, 01"):
        task.read(dataclasses.replace(config, test_on=("99",)))
    cut = task.read(dataclasses.replace(config, window=10))
    assert set(cut.test.lengths.tolist()) == {10}
    with pytest.raises(ConveyorError, match="expected sequences of 1000 steps or more"):
        task.read(dataclasses.replace(config, window=1000))
    with pytest.raises(ConveyorError, match="--window and --test-on: expected one of them"):
        dataclasses.replace(of, window=10)
    with pytest.raises(ConveyorError, match="--change-cost: smooths labels"):
        dataclasses.replace(config, causal=True)


def film(path: Path, bright: list[bool]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width = stream.height = 16
        for n, light in enumerate(bright):
            pixels = np.full((16, 16, 3), 40, np.uint8)
            pixels[n % 8 : n % 8 + 6, 2:14] = 220 if light else 60
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_videos_with_events(tmp_path: Path) -> None:
    random, rows = np.random.default_rng(0), ["video,start_frame,end_frame,word"]
    for n in range(12):
        a, b = 3 + int(random.integers(4)), 12 + int(random.integers(4))
        film(tmp_path / f"{n}.mp4", [a <= t < b for t in range(20)])
        rows.append(f"{n}.mp4,{a},{b},flash")
    (tmp_path / "events.csv").write_text("\n".join(rows))
    config = task.Config(
        width=16, height=16, hidden_size=16, layers=1, dropout=0.0, reading=ReadingOptions(data=(str(tmp_path),)),
        training=TrainingOptions(batch_size=4),
    )  # fmt: skip
    model = taught(config, 15, 0.005)
    assert score(model.task, config, model.network, task.read(config).test)["accuracy"] > 0.85
    [[one]] = model.predict(tmp_path / "0.mp4")
    assert set(one.labels) <= {"flash", "none"}
    task.save([task.All([one])], tmp_path / "line.png")
    with Image.open(tmp_path / "line.png") as image:
        assert image.width > 500
    with pytest.raises(ConveyorError, match=r"expected steps of \[16, 16\] values, as trained on, got \[2\]"):
        model.predict(np.zeros((5, 2), np.float32))


def test_bad_input(config: task.Config, tmp_path: Path) -> None:
    model, folder = taught(config, 0), tmp_path / "tables"
    with pytest.raises(ConveyorError, match=r"the values: expected steps of \[2\] values, as trained on, got \[3\]"):
        model.predict(np.zeros((4, 3), np.float32))
    with pytest.raises(ConveyorError, match="expected a table, a video, a folder, or values"):
        model.predict(3)
    (folder / "00.csv").write_text("a,b,label\n1,2,new\n")
    with pytest.raises(ConveyorError, match=r"expected labels that training has, high, low, noise, got new"):
        task.read_test(config, model.facts, [str(folder / "00.csv")], task.BadRecords(False))
    (folder / "00.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConveyorError, match="expected sequences with labels or events, got none"):
        task.read_test(config, model.facts, [str(folder / "00.csv")], task.BadRecords(False))
    [[one]] = model.predict(folder / "00.csv")
    assert len(one.labels) == 1


@pytest.mark.parametrize("ending", task.ENDINGS)
def test_files_of_predictions(config: task.Config, tmp_path: Path, ending: str) -> None:
    model = taught(config, 3)
    found = model.predict(tmp_path / "tables" / "01.csv", tmp_path / "tables" / "02.csv")
    path = tmp_path / f"said{ending}"
    task.save(found, path)
    labels = [label for one in found for each in one for label in each.labels]
    if ending == ".csv":
        assert [row["label"] for row in csv.DictReader(path.read_text().splitlines())] == labels
        parts = [*csv.DictReader((tmp_path / "said.segments.csv").read_text().splitlines())]
        assert sum(int(row["end"]) - int(row["start"]) for row in parts) == len(labels)
    elif ending == ".json":
        assert [label for one in json.loads(path.read_text()) for label in one["labels"]] == labels
    else:
        with Image.open(path) as image:
            assert image.width > 500
