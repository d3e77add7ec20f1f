"""Speaking texts: what it learns, its scores, what is spoken, and bad input."""

import dataclasses
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conveyor.data import voice
from conveyor.errors import ConveyorError
from conveyor.tasks import speech_synthesis as task
from conveyor.training.scoring import score
from conveyor.training.task import Model


@pytest.fixture
def config(tmp_path: Path) -> task.Config:
    return task.smoke(tmp_path / "hums").config  # type: ignore[no-any-return]


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


def test_analysis_and_synthesis(tmp_path: Path) -> None:
    """A hum of 130 Hz comes back as one."""
    t = np.arange(16_000) / 16_000
    hum = 0.02 * sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 60))
    own = voice.analyse(hum, 16_000)
    again = voice.analyse(voice.synthesise(own, 16_000), 16_000)
    for one in (own, again):
        assert np.exp(np.median(one.pitch)) == pytest.approx(130, rel=0.02)
        assert one.voiced.mean() > 0.9
    middle = [one.envelope[20:180] for one in (own, again)]
    assert np.median(voice.distortion(*middle, 16_000)) < 4
    assert not voice.distortion(own.envelope, own.envelope, 16_000).any()
    with pytest.raises(ConveyorError, match="expected speech, got sound without any pitch"):
        voice.analyse(0.1 * np.sin(2 * np.pi * 3000 * t), 16_000)


@pytest.mark.parametrize("kind", ["lstm", "feedforward"])
def test_it_learns_hums(config: task.Config, kind: str) -> None:
    of = dataclasses.replace(config, network=kind)
    before, after = (taught(of, epochs) for epochs in (0, 60))
    split = task.read(of).train
    found = [score(model.task, of, model.network, split) for model in (before, after)]
    assert list(found[0]) == ["loss", "mcd", "pitch_error", "voicing_error"]
    assert found[1]["mcd"] < 0.9 * found[0]["mcd"]
    assert found[1]["loss"] < 0.6 * found[0]["loss"]


def test_lengths_are_those_of_the_recordings(config: task.Config) -> None:
    data = task.read(config)
    batch = data.train.batch(0, 0)
    assert torch.equal(batch.durations.sum(0), batch.lengths)
    assert (batch.durations >= 0).all()
    assert (batch.text[0] == 0).all(), "silence comes first"
    coder = task.Coder(config, data.facts)
    back = coder.durations(batch.log_lengths.numpy())
    there = batch.durations.numpy() > 0
    assert np.array_equal(back[there], batch.durations.numpy()[there])


def test_what_is_spoken(config: task.Config, tmp_path: Path) -> None:
    model = taught(config, 5)
    slow, fast = model.predict("aoa")[0], model.predict("aoa", speed=2.0)[0]
    assert len(slow.samples) > len(fast.samples) > 0
    assert [word for word, _, _ in slow.words] == ["aoa"]
    task.save([slow, fast], tmp_path / "said.wav")
    with wave.open(str(tmp_path / "said.wav")) as file:
        assert file.getframerate() == 16_000
        assert file.getnframes() == len(slow.samples) + len(fast.samples)
    task.save([slow], tmp_path / "said.png")
    with Image.open(tmp_path / "said.png") as image:
        assert image.width > 500
    found = task.evaluate(model, task.read(config).test, task.EvaluateOptions(recogniser=config.aligner))
    assert found["cer"] > 0
    assert found["cer_recorded"] > 0


def test_bad_input(config: task.Config, tmp_path: Path) -> None:
    model = taught(config, 0)
    with pytest.raises(ConveyorError, match="expected characters that were heard in training, got '漢'"):
        model.predict("漢")
    with pytest.raises(ConveyorError, match="expected a text, got 3"):
        model.predict(3)
    with pytest.raises(ConveyorError, match=r"--speed: expected a number from 0\.1 to 10, got 0"):
        model.predict("aoa", speed=0)
    with pytest.raises(ConveyorError, match="--rate: expected 12,000 to 16,000"):
        dataclasses.replace(config, rate=48_000)
    with pytest.raises(ConveyorError, match="name recordings and a table with --data, and an --aligner"):
        task.read(dataclasses.replace(config, aligner=""))
    folder = tmp_path / "hums"
    table = (folder / "texts.csv").read_text().splitlines()
    (folder / "texts.csv").write_text("\n".join([table[0], f"00.wav,{'ao' * 90}", *table[2:]]))
    with pytest.raises(ConveyorError, match=r"texts\.csv:2: expected the text of its recording, but expected at"):
        task.read(config)
    (folder / "01.wav").write_bytes(voice.wav(np.zeros(9000), 16_000))
    (folder / "texts.csv").write_text("\n".join(table))
    with pytest.raises(ConveyorError, match=r"01\.wav: expected sound, got silence"):
        task.read(config)
