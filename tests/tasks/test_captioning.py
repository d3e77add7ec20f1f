"""Captioning: what it learns, writes and refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import torch
from PIL import Image

from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.tasks import captioning as task
from conveyor.training.options import TrainingOptions
from conveyor.training.scoring import score
from conveyor.training.task import Model


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> task.Config:
    """Of the made-up squares and discs in colours."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given: task.Config = task.smoke(tmp_path / "shapes").config
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


def test_it_learns_colours(config: task.Config, tmp_path: Path) -> None:
    model = taught(config, 15)
    split = task.read(config).test
    found = score(model.task, config, model.network, split)
    assert list(found) == ["loss", "perplexity", "bleu1", "bleu2", "bleu3", "bleu4"]
    assert found["bleu1"] > 75
    assert task.evaluate(model, split, task.EvaluateOptions(beam=3))["loss"] == pytest.approx(found["loss"])
    solid = np.zeros((40, 30, 3), np.uint8)
    solid[10:30, 6:24] = (220, 40, 40)
    Image.fromarray(solid).save(tmp_path / "mine.png")
    [[one]] = model.predict(tmp_path / "mine.png", n_best=3)
    assert one.texts[0].startswith("a red ")
    assert one.scores == sorted(one.scores, reverse=True)
    for text, weights in zip(one.texts, one.weights, strict=True):
        assert len(weights) in (len(text.split()), len(text.split()) + 1)
        assert (weights.sum(1) <= 1 + 1e-5).all()
    task.save([task.Captions([one])], tmp_path / "a.json")
    assert [said["caption"] for said in json.loads((tmp_path / "a.json").read_text())[0]["captions"]] == one.texts


def test_scores_are_sacrebleus(config: task.Config) -> None:
    """Against several captions of an image, some with fewer than others, however they are batched."""
    file = Path(config.reading.data[0]) / "captions.csv"
    lines = file.read_text().splitlines()
    more = [line.replace(",a ", ",there is one ") for line in lines[1::2]]
    file.write_text("\n".join([*lines, *more]))
    reading = dataclasses.replace(config.reading, test_share=0.3)
    of = dataclasses.replace(config, reading=reading)
    model, split = taught(of, 3), task.read(of).test
    written, said = [], []
    for index in range(len(split)):
        batch = split.batch(0, index)
        found = task._search(model.network, batch.maps, batch.vectors, batch.target, 1, 0.0)
        written += [batch.target.decode(best.tokens) for best, *_ in found]
        said += batch.references
    assert {len(one) for one in said} == {1, 2}
    streams = [[one[min(k, len(one) - 1)] for one in said] for k in range(2)]
    whole = sacrebleu.corpus_bleu(written, streams, tokenize="none", force=True)
    found = score(model.task, of, model.network, split)
    assert found["bleu4"] == pytest.approx(whole.score)
    assert found["bleu1"] == pytest.approx(whole.precisions[0] * whole.bp)


@pytest.mark.parametrize("more", [{"sentinel": False}, {"layers": 2, "attention": "additive"}], ids=str)
def test_every_form_learns(config: task.Config, more: dict) -> None:
    of = dataclasses.replace(config, **more)
    split = task.read(of).valid
    before, after = (score(task, of, taught(of, n).network, split)["loss"] for n in (0, 3))  # type: ignore[arg-type]
    assert after < 0.8 * before


def test_bad_input(config: task.Config, tmp_path: Path) -> None:
    model = taught(config, 0)
    (tmp_path / "some").mkdir()
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(tmp_path / "some" / "a.jpg")
    (tmp_path / "some" / "b.png").write_bytes(b"no image")
    with pytest.raises(ConveyorError, match=r"b\.png: expected a whole image"):
        model.predict(tmp_path / "some")
    [found] = model.predict(tmp_path / "some", skip_bad=True)
    assert [one.path.name for one in found] == ["a.jpg"]
    with pytest.raises(ConveyorError, match=r"expected an image or a folder of images, got 3"):
        model.predict(3)
    with pytest.raises(ConveyorError, match=r"this is not the encoder that the model was trained on"):
        model._replace(facts=model.facts | {"encoder": "0" * 64}).predict(tmp_path / "some")


def test_all_images_are_scored_where_no_file_says_which(config: task.Config) -> None:
    model, read = taught(config, 0), task.read(config)
    images = sum(len(part) for part in (read.train.lengths, read.valid.lengths, read.test.lengths))
    split = task.read_test(config, model.facts, config.reading.data, BadRecords(False))
    assert len(split.lengths) == images


def test_processes_share_a_batch(config: task.Config) -> None:
    of = dataclasses.replace(config, training=TrainingOptions(batch_size=8))
    train = task.read(of).train
    whole, halves = train.batch(0, 0), [train.share(n, 2).batch(0, 0) for n in range(2)]
    assert sum(len(half.owners) for half in halves) == len(whole.owners)
    assert {ref for half in halves for ref in half.references} == set(whole.references)
