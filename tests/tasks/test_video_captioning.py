"""Video captioning: what it learns, writes and refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jiwer
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.tasks import video_captioning as task
from conveyor.training.scoring import score
from conveyor.training.task import Model


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> task.Config:
    """Of the made-up spots that move."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given: task.Config = task.smoke(tmp_path / "spots").config
    return given


def taught(of: task.Config, epochs: int) -> Model:
    torch.manual_seed(1)
    data = task.read(of)
    network = task.network(of, data.facts)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.005)
    for step in range(epochs * len(data.train)):
        outcome = task.loss(of, network, data.train.batch(*divmod(step, len(data.train))), None)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
    return Model(task, of, data.facts, network.eval())  # type: ignore[arg-type]


def test_it_learns_where_a_spot_moves(config: task.Config, tmp_path: Path) -> None:
    model = taught(config, 25)
    data = task.read(config)
    losses = [score(model.task, config, one.network, data.test)["loss"] for one in (taught(config, 0), model)]
    assert losses[1] < 0.5 * losses[0]
    [captions] = model.predict(tmp_path / "spots")
    said = [line.split(",")[1] for line in (tmp_path / "spots" / "captions.csv").read_text().splitlines()[1:]]
    assert sum(one.text == caption for one, caption in zip(captions, said, strict=True)) >= 24


@pytest.mark.parametrize("decode", ["attention", "ctc"])
def test_scores_are_jiwers(config: task.Config, decode: str) -> None:
    of = dataclasses.replace(config, decode=decode)
    model, split = taught(of, 5), task.read(of).test
    batch = split.batch(0, 0)
    values, summary = model.network(batch.frames, batch.lengths)
    written = [
        batch.target.decode(best)
        for best, _ in task._write(of, model.network, values, summary, batch.lengths, batch.target)
    ]
    found = score(model.task, of, model.network, split)
    assert list(found) == ["loss", "wer", "exact", "wer_prior", "exact_prior"]
    assert found["wer"] == pytest.approx(100 * jiwer.wer(batch.captions, written))
    assert found["wer_prior"] == pytest.approx(100 * jiwer.wer(batch.captions, [model.facts["prior"]] * len(written)))
    assert found["exact_prior"] == pytest.approx(
        sum(one == model.facts["prior"] for one in batch.captions) / len(written)
    )


def test_the_prior_is_the_most_frequent_word_of_each_place(config: task.Config) -> None:
    clips = [
        task.Clip(Path("x"), caption, 0.0, 1.0, "")
        for caption in ("bin red now", "lay red soon", "bin blue now", "set red")
    ]
    assert task.learn(config, clips)["prior"] == "bin red now"


def test_bad_input(config: task.Config, tmp_path: Path) -> None:
    model, folder = taught(config, 0), tmp_path / "spots"
    whole = (folder / "03.mp4").read_bytes()
    (folder / "03.mp4").write_bytes(b"no video")
    with pytest.raises(ConveyorError, match=r"03\.mp4: expected a whole video"):
        task.read(config)
    skipping = dataclasses.replace(config, reading=dataclasses.replace(config.reading, skip_bad=True))
    data = task.read(skipping)
    assert sum(len(part.lengths) for part in data[:3]) == 29
    assert "1 bad records left out" in data.summary
    assert task.read(skipping).summary == data.summary, "frames come from the cache now, and the mistake is told again"
    with pytest.raises(ConveyorError, match=r"03\.mp4: expected a whole video"):
        model.predict(folder)
    [captions] = model.predict(folder, skip_bad=True)
    assert len(captions) == 29
    assert [len(one) for one in model.predict(folder / "03.mp4", folder / "04.mp4", skip_bad=True)] == [1]
    with pytest.raises(ConveyorError, match=r"nothing left to predict from, 1 bad records left out"):
        model.predict(folder / "03.mp4", skip_bad=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConveyorError, match=r"empty: expected videos in this folder, got none"):
        model.predict(tmp_path / "empty")
    (folder / "03.mp4").write_bytes(whole)
    short = model._replace(config=dataclasses.replace(config, longest=5))
    with pytest.raises(ConveyorError, match=r"expected at most 5 frames \(--longest\), got 10"):
        short.predict(folder / "00.mp4")
    with pytest.raises(ConveyorError, match=r"--decode ctc: expected a --ctc-weight"):
        task.Config(decode="ctc", ctc_weight=0.0)


def test_frames_and_clips(config: task.Config, tmp_path: Path) -> None:
    """Frames of a user's own, and the rows of a table."""
    model = taught(config, 0)
    table = tmp_path / "spots" / "parts.csv"
    table.write_text("video,start_frame,end_frame,word\n00.mp4,0,4,up\n01.mp4,2,9,down\n")
    [captions] = model.predict(table)
    assert [(one.name, len(one.frames)) for one in captions] == [("00.mp4 0-4", 4), ("01.mp4 2-9", 7)]
    [[one]] = model.predict(captions[1].frames)
    assert one.text == captions[1].text
    with pytest.raises(ConveyorError, match=r"expected frames \[T, 16, 16\], got \[7, 16, 8\]"):
        model.predict(captions[1].frames[:, :, :8])
    assert task.read_test(config, model.facts, [str(table)], BadRecords(False)).lengths.tolist() == [4, 7]


def test_parts_of_its_videos_stand_beside_a_batch(config: task.Config, tmp_path: Path) -> None:
    """In training alone, those of the batch's videos alone; the scores are of whole videos."""
    rows = [line.split(",") for line in (tmp_path / "spots" / "captions.csv").read_text().splitlines()[1:]]
    (tmp_path / "spots" / "words.csv").write_text(
        "video,start_frame,end_frame,word\n"
        + "".join(f"{name},0,5,{said.split()[0]}\n{name},5,9,{said.split()[1]}\n" for name, said in rows)
    )
    data = task.read(config)
    batch = data.train.batch(0, 1)
    assert batch.lengths.tolist() == [10] * len(batch.captions)
    assert batch.parts.captions == [word for caption in batch.captions for word in caption.split()]
    np.testing.assert_array_equal(batch.parts.frames[:4, 3], batch.frames[5:9, 1])
    assert all(split.batch(0, 0).parts is None for split in (data.valid, data.test))
    network = task.network(config, data.facts)
    outcomes = [
        task.loss(config, network.eval(), one, None) for one in (batch, batch._replace(parts=None), batch.parts)
    ]
    assert outcomes[0].loss.item() == pytest.approx(outcomes[1].loss.item() + outcomes[2].loss.item())
    assert outcomes[0].sums["frames"] == 10 * len(batch.captions) + 9 * len(batch.captions)


def test_files_of_predictions(config: task.Config, tmp_path: Path) -> None:
    model = taught(config, 0)
    said = task.Caption("a,b.mp4", "left up", np.eye(2, 7), np.zeros((7, 16, 16), np.uint8))
    for ending in task.ENDINGS:
        task.save([task.Captions([said])], tmp_path / f"x{ending}")
    assert (tmp_path / "x.csv").read_text() == 'video,caption\n"a,b.mp4",left up\n'
    assert (tmp_path / "x.txt").read_text() == "left up\n"
    assert json.loads((tmp_path / "x.json").read_text())[0]["weights"] == np.eye(2, 7).tolist()
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
    [[one]] = model.predict(tmp_path / "spots" / "00.mp4")
    assert one.weights.shape[1] == len(one.frames) == 10


def encoder(path: Path, name: str = "encoder") -> str:
    """One that says how bright each of 4 x 4 parts of an image is."""
    nodes = [
        helper.make_node("AveragePool", ["images"], ["map"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["map"], ["vector"]),
    ]
    shapes = {"map": ["N", 3, 4, 4], "vector": ["N", 48]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 32, 32])
    graph = helper.make_graph(nodes, name, [images], outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


def test_an_encoder_sees_the_frames(config: task.Config, tmp_path: Path) -> None:
    of = dataclasses.replace(config, encoder=encoder(tmp_path / "e.onnx"), image_size=32)
    model = taught(of, 30)
    data = task.read(of)
    batch = data.train.batch(0, 0)
    assert batch.features is not None
    assert batch.features.shape == (*batch.frames.shape[:2], 3 + 48)
    assert score(model.task, of, model.network, data.valid)["exact"] > 0.6
    folder = Path(of.reading.data[0])
    [[one]] = model.predict(folder / "00.mp4")
    assert one.text == (folder / "captions.csv").read_text().splitlines()[1].split(",")[1]
    with pytest.raises(ConveyorError, match="expected a video, a folder of videos, or a CSV, got array"):
        model.predict(np.zeros((5, 16, 16), np.uint8))
    encoder(tmp_path / "e.onnx", "another")
    with pytest.raises(ConveyorError, match="not the encoder that the model was trained on"):
        model.predict(folder / "00.mp4")
