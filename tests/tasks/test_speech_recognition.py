"""Hearing what is said: what it learns, its scores, streams, and bad input."""

import csv
import dataclasses
import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
from PIL import Image

from conveyor.data import sound
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.tasks import speech_recognition as task
from conveyor.training.scoring import score
from conveyor.training.task import Model


@pytest.fixture
def config(tmp_path: Path) -> task.Config:
    return task.smoke(tmp_path / "sounds").config  # type: ignore[no-any-return]


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


@pytest.mark.parametrize("causal", [False, True])
def test_it_learns_tones(config: task.Config, tmp_path: Path, causal: bool) -> None:
    of = dataclasses.replace(config, causal=causal)
    model = taught(of, 30)
    split = task.read(of).test
    assert score(model.task, of, model.network, split)["cer"] < 10
    [[one]] = model.predict(tmp_path / "sounds" / "00.wav")
    rows = csv.DictReader((tmp_path / "sounds" / "texts.csv").read_text().splitlines())
    assert one.text == next(rows)["text"]
    assert len(one.words) == 1
    word, first, last = one.words[0]
    assert (word, 0 <= first < last <= 0.46) == (one.text, True)
    assert len(one.confidence) == len(one.text)


@pytest.mark.parametrize("stack", [1, 3])
def test_a_stream_is_heard_as_in_one_piece(config: task.Config, tmp_path: Path, stack: int) -> None:
    """Whatever the chunks: the same logits bit for bit, and the same text."""
    of = dataclasses.replace(config, causal=True, layers=2, stack=stack)
    model = taught(of, 3)
    samples = sound.read(tmp_path / "sounds" / "01.wav", of.rate)
    frames = model_frames = sound.bands(samples, of.rate)
    scaled = task.Coder(of, model.facts).scaled(model_frames)
    with torch.inference_mode():
        whole, *_ = model.network(torch.from_numpy(scaled)[:, None], torch.tensor([len(frames)]))
    for chunk in (7, 80, 333, 10_000):
        listener = task.Listener(model)
        for n in range(0, len(samples), chunk):
            said = listener.hear(samples[n : n + chunk], last=n + chunk >= len(samples))
        torch.testing.assert_close(torch.cat(listener.logits), whole, rtol=1e-4, atol=1e-5)
        [[one]] = model.predict(samples)
        assert said == one.text
    [[streamed]] = model.predict(samples, chunk=20)
    assert (streamed.text, streamed.words) == (one.text, one.words)
    with pytest.raises(ConveyorError, match="expected a model trained with --causal"):
        taught(config, 0).predict(samples, chunk=20)


def test_scores_are_jiwers(config: task.Config) -> None:
    model = taught(config, 6)
    written, said = [], []
    split = task.read(config).train
    for index in range(len(split)):
        batch = split.batch(0, index)
        logits, steps = model.network(batch.frames, batch.lengths)
        written += [batch.target.decode(one.tokens) for one in task.best_path(logits, steps)]
        said += batch.texts
    found = score(model.task, config, model.network, split)
    assert found["cer"] == pytest.approx(100 * jiwer.cer(said, written))
    assert found["wer"] == pytest.approx(100 * jiwer.wer(said, written))
    assert found["exact"] == pytest.approx(np.mean([a == b for a, b in zip(written, said, strict=True)]))


def test_parts_and_joined_recordings(config: task.Config, tmp_path: Path) -> None:
    table = tmp_path / "sounds" / "texts.csv"
    lines = table.read_text().splitlines()
    rows = [f"{line},{'jo' if n % 2 else 'al'},{n % 10}" for n, line in enumerate(lines[1:])]
    table.write_text("\n".join([f"{lines[0]},speaker,index", *rows]))
    of = dataclasses.replace(config, test_column="index", test_values=("3", "4"), join=(2, 4))
    data = task.read(of)
    assert [len(part.lengths) for part in (data.train, data.valid, data.test)] == [43, 5, 12]
    batch = data.test.batch(0, 0)
    counts = {len(said.split()) for said in batch.texts}
    assert counts <= {2, 3, 4}
    assert len(counts) > 1
    wrong = dataclasses.replace(of, test_values=("77",))
    with pytest.raises(ConveyorError, match="expected recordings with 77 in the column index, got none"):
        task.read(wrong)
    with pytest.raises(ConveyorError, match="--join: expected two numbers"):
        dataclasses.replace(of, join=(4, 2))
    with pytest.raises(ConveyorError, match="--test-column and --test-values: expected both or none"):
        dataclasses.replace(of, test_values=())


def test_words_are_written_and_their_parts_train(config: task.Config, tmp_path: Path) -> None:
    """A token is a word, found in whole recordings, which alone are scored, and in words cut out of them."""
    folder = tmp_path / "sounds"
    rows = [line.split(",") for line in (folder / "texts.csv").read_text().splitlines()[1:]]
    (folder / "texts.csv").write_text("file,text\n" + "".join(f"{name},{' '.join(said)}\n" for name, said in rows))
    cut = [
        f"{name},{0.15 * n:.2f},{0.15 * n + 0.15:.2f},{letter}"
        for name, said in rows
        for n, letter in enumerate(f"{said}")
    ]
    (folder / "parts.csv").write_text("\n".join(["file,start,end,word", *cut, f"{rows[0][0]},0,0.1,sil"]))
    of = dataclasses.replace(config, tokens="word", leave_out=("sil",), mask_bands=0)
    data = task.read(of)
    assert {*data.train.batch(0, 0).target.tokens.words} == {"a", "o", "<eos>", "<unk>"}
    assert [len(part.lengths) for part in (data.train, data.valid, data.test)] == [48 * 4, 6, 6]
    of = dataclasses.replace(of, join_parts=(2, 4))
    data = task.read(of)
    assert [len(part.lengths) for part in (data.train, data.valid, data.test)] == [48 * 4, 6, 6]
    said = [text.split() for n in range(len(data.train)) for text in data.train.batch(0, n).texts]
    assert {len(words) for words in said} == {2, 3, 4}
    model = taught(of, 12)
    assert score(model.task, of, model.network, data.test)["wer"] < 10
    [[one]] = model.predict(folder / "00.wav")
    assert one.text.split() == [word for word, _, _ in one.words] == [*rows[0][1]]
    (folder / "parts.csv").unlink()
    with pytest.raises(ConveyorError, match="--join-parts: expected a table of parts"):
        task.read(of)


def test_bad_input(config: task.Config, tmp_path: Path) -> None:
    model, folder = taught(config, 0), tmp_path / "sounds"
    with pytest.raises(ConveyorError, match=r"the samples: expected 25 ms or more"):
        model.predict(np.zeros(3, np.float32))
    with pytest.raises(ConveyorError, match="expected a recording, a folder of recordings, or samples, got 3"):
        model.predict(3)
    (folder / "00.wav").write_bytes(b"no sound")
    with pytest.raises(ConveyorError, match=r"00\.wav: expected a recording, but .*--skip-bad"):
        model.predict(folder)
    [found] = model.predict(folder, skip_bad=True)
    assert len(found) == 59
    with pytest.raises(ConveyorError, match=r"00\.wav: expected a recording"):
        task.read(config)
    skipping = dataclasses.replace(config, reading=dataclasses.replace(config.reading, skip_bad=True))
    assert "1 bad records left out" in task.read(skipping).summary
    (folder / "texts.csv").write_text(f"file,text\n01.wav,{'la' * 40}\n" + "02.wav,la\n03.wav,la\n04.wav,la\n")
    with pytest.raises(ConveyorError, match=r"texts\.csv:2: expected the text of its recording, .* need 80 steps"):
        task.read(config)
    split = task.Coder(config, model.facts).batches(
        [*task.listen(config, sound.read_table([folder], BadRecords(False))[1:], BadRecords(False)).values()],
        BadRecords(False),
    )
    assert score(model.task, config, model.network, split)["cer"] > 0, "letters never seen are errors"


@pytest.mark.parametrize("ending", task.ENDINGS)
def test_files_of_predictions(config: task.Config, tmp_path: Path, ending: str) -> None:
    model = taught(config, 15)
    found = model.predict(tmp_path / "sounds")
    path = tmp_path / f"said{ending}"
    task.save(found, path)
    texts = [one.text for one in found[0]]
    if ending == ".txt":
        assert path.read_text().splitlines() == texts
    elif ending == ".csv":
        assert [row["word"] for row in csv.DictReader(path.read_text().splitlines())] == [
            text for text in texts if text
        ]
    elif ending == ".json":
        assert [one["text"] for one in json.loads(path.read_text())] == texts
    else:
        with Image.open(path) as image:
            assert image.width > 500
