"""Reading handwriting: what it learns, its scores against jiwer, and bad input."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from conveyor.data import ink
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.tasks import handwriting_recognition as task
from conveyor.tasks import language_model
from conveyor.training import bundle
from conveyor.training.options import ReadingOptions
from conveyor.training.scoring import score
from conveyor.training.task import Model


@pytest.fixture
def config(tmp_path: Path) -> task.Config:
    smoke = task.smoke(tmp_path / "lines")
    return dataclasses.replace(smoke.config, test_on=("test",))


def taught(config: task.Config, epochs: int) -> Model:
    torch.manual_seed(0)
    data = task.read(config)
    network = task.network(config, data.facts)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for epoch in range(epochs):
        for index in range(len(data.train)):
            optimizer.zero_grad()
            task.loss(config, network, data.train.batch(epoch, index), None).loss.backward()
            optimizer.step()
    return Model(task, config, data.facts, network.eval())  # type: ignore[arg-type]


def test_it_learns_shapes(config: task.Config, tmp_path: Path) -> None:
    model = taught(config, 40)
    split = task.read(config).test
    found = score(model.task, config, model.network, split)
    assert found["cer"] < 10
    assert list(found) == ["loss", "cer", "wer", "exact"]
    [texts] = model.predict(tmp_path / "lines" / "lines.npz")
    said = {line.name: line.text for line in ink.read([tmp_path / "lines"], BadRecords(False))}
    assert np.mean([one.text == said[one.name] for one in texts]) > 0.8
    for one in texts:
        assert len(one.confidence) == len(one.text) == len(one.read.spans)
        assert all(0 < share <= 1 for share in one.confidence)
        assert all(a < b <= c for (a, b), (c, _) in zip(one.read.spans, one.read.spans[1:], strict=False))
    wide = task.evaluate(model, split, task.EvaluateOptions(beam=5))
    assert wide["cer"] <= found["cer"] + 3


def test_scores_are_jiwers(config: task.Config) -> None:
    model = taught(config, 8)
    written, said = [], []
    split = task.read(config).valid
    for index in range(len(split)):
        batch = split.batch(0, index)
        logits, steps = model.network(batch.values, batch.lengths)
        written += [batch.target.decode(one.tokens) for one in task.best_path(logits, steps)]
        said += batch.texts
    found = score(model.task, config, model.network, split)
    assert found["cer"] == pytest.approx(100 * jiwer.cer(said, written))
    assert found["wer"] == pytest.approx(100 * jiwer.wer(said, written))


def test_a_language_model_is_asked(config: task.Config, tmp_path: Path) -> None:
    """One that knows one word alone brings it about, where it counts for enough."""
    (tmp_path / "words.txt").write_text("vnov\n" * 400)
    reading = ReadingOptions(data=(str(tmp_path / "words.txt"),))
    of = language_model.Config(embedding_size=8, hidden_size=16, layers=1, sequence_length=20, reading=reading)
    data = language_model.read(of)
    torch.manual_seed(0)
    network = language_model.network(of, data.facts)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    carried = None
    for step in range(60):
        outcome = language_model.loss(of, network, data.train.batch(0, step % len(data.train)), carried)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        carried = outcome.carried
    bundle.write_description(tmp_path / "lm", "language-model", of, data.facts)
    bundle.write_weights(tmp_path / "lm", network)
    model, lines = taught(config, 3), config.reading.data[0]
    [texts] = model.predict(lines, beam=8, language_model=str(tmp_path / "lm"), weight=5.0)
    assert np.mean([one.text == "vnov" for one in texts]) > 0.8
    assert np.mean([one.text == "vnov" for one in model.predict(lines, beam=8)[0]]) < 0.2
    with pytest.raises(ConveyorError, match="--language-model: expected a --beam of 2 or more"):
        model.predict(lines, language_model=str(tmp_path / "lm"))


def test_images_of_lines(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = ["image,text"]
    for n in range(40):
        text = "".join(random.choice(list("|-"), 3))
        image = Image.new("L", (60, 20), 255)
        pen = ImageDraw.Draw(image)
        for k, character in enumerate(text):
            pen.line((10 + 20 * k, 3, 10 + 20 * k, 17) if character == "|" else (4 + 20 * k, 10, 16 + 20 * k, 10), 0, 3)
        image.save(tmp_path / f"{n}.png")
        rows.append(f"{n}.png,{text}")
    (tmp_path / "lines.csv").write_text("\n".join(rows))
    config = task.Config(
        height=16, hidden_size=24, layers=1, dropout=0.0, reading=ReadingOptions(data=(str(tmp_path),), test_share=0.2)
    )
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, batch_size=8))
    model = taught(config, 25)
    assert score(model.task, config, model.network, task.read(config).test)["cer"] < 10
    [[one]] = model.predict(tmp_path / "3.png")
    assert one.text == rows[4].split(",")[1]
    with pytest.raises(ConveyorError, match=r"the points: expected images, as trained on, got ink"):
        model.predict(np.array([[0, 0, 0], [1, 1, 1.0]]))
    (tmp_path / "lines.csv").write_text("image,text\nnone.png,a\n")
    with pytest.raises(ConveyorError, match=r"lines\.csv:2: no image none\.png is there"):
        task.read(config)
    (tmp_path / "lines.csv").write_text("picture,text\n1.png,a\n")
    with pytest.raises(ConveyorError, match=r"lines\.csv:2: expected columns image and text, got picture, text"):
        task.read(config)


def test_bad_input(config: task.Config, tmp_path: Path) -> None:
    model = taught(config, 0)
    with pytest.raises(ConveyorError, match=r"the points: expected 2 to 100,000 points .* got \[1, 3\]"):
        model.predict(np.array([[5.0, 5.0, 1.0]]))
    with pytest.raises(ConveyorError, match=r"expected a file of handwriting or points \[N, 3\], got 3"):
        model.predict(3)
    far = np.array([[0, 0, 0], [1, 1, 0], [2, 0, 0], [3, 1, 0.0]]) * 1e9
    assert len(model.predict(far)) == 1, "no pen-up, and coordinates of 1e9"
    file = Path(config.reading.data[0])
    with np.load(file) as held:
        arrays = dict(held)
    for texts, says in (
        (["vnov" * 20] + ["vnov"] * 59, "whose characters need 99 steps of its"),
        ([""] * 60, "to train"),
    ):
        text = "".join(texts).encode()
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in texts])])
        content = io.BytesIO()
        np.savez(content, **arrays | {"text": np.frombuffer(text, np.uint8), "text_offsets": offsets})
        file.write_bytes(content.getvalue())
        with pytest.raises(ConveyorError, match=says):
            task.read(config)


def test_a_letter_never_seen_is_an_error_not_an_end(config: task.Config) -> None:
    model = taught(config, 0)
    [line, *_] = ink.read([Path(config.reading.data[0])], BadRecords(False))
    split = task.Coder(config, model.facts).batches([line._replace(text="vxv")], BadRecords(False))
    assert score(model.task, config, model.network, split)["cer"] > 0


@pytest.mark.parametrize("ending", task.ENDINGS)
def test_files_of_predictions(config: task.Config, tmp_path: Path, ending: str) -> None:
    model = taught(config, 10)
    found = model.predict(config.reading.data[0])
    path = tmp_path / f"said{ending}"
    task.save(found, path)
    texts = [one.text for one in found[0]]
    if ending == ".txt":
        assert path.read_text().splitlines() == texts
    elif ending == ".csv":
        assert [row["text"] for row in csv.DictReader(path.read_text().splitlines())] == texts
    elif ending == ".json":
        described = json.loads(path.read_text())
        assert ["".join(each["character"] for each in one["characters"]) for one in described] == texts
    else:
        with Image.open(path) as image:
            assert image.width > 500
