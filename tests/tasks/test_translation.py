"""Translation: what it reads, learns, finds and refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import torch

import conveyor
from conveyor.cli import main
from conveyor.errors import ConveyorError
from conveyor.tasks import translation as task
from conveyor.training.options import ReadingOptions, TrainingOptions
from conveyor.training.scoring import score
from conveyor.training.task import Model

NUMBERS = (
    ["ba", "do", "ki", "lu", "me", "ne", "po", "ru"],
    ["one", "two", "three", "four", "five", "six", "seven", "eight"],
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Numbers in words, the other way round."""
    random = np.random.default_rng(1)
    rows = [random.integers(8, size=random.integers(1, 7)) for _ in range(400)]
    for part, some in {"train": rows[:300], "valid": rows[300:350], "test": rows[350:]}.items():
        (tmp_path / f"{part}.xx").write_text("\n".join(" ".join(NUMBERS[0][n] for n in row) for row in some))
        (tmp_path / f"{part}.yy").write_text("\n".join(" ".join(NUMBERS[1][n] for n in row[::-1]) for row in some))
    return tmp_path


def config(corpus: Path, **more) -> task.Config:
    given = {"tokens": "word", "embedding_size": 24, "hidden_size": 24, "dropout": 0.0, "label_smoothing": 0.0} | more
    return task.Config(
        source="xx", target="yy", reading=ReadingOptions(data=(str(corpus),)),
        training=TrainingOptions(batch_size=20), **given,
    )  # fmt: skip


def taught(of: task.Config, steps: int) -> Model:
    """A model after some updates."""
    torch.manual_seed(1)
    data = task.read(of)
    network = task.network(of, data.facts)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, max(1, steps))
    for step in range(steps):
        outcome = task.loss(of, network, data.train.batch(step // 15, step % 15), None)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        falling.step()
    return Model(task, of, data.facts, network.eval())  # type: ignore[arg-type]


def test_it_learns_to_turn_round(corpus: Path) -> None:
    """What attention is for; and the predictions say where they looked."""
    of = config(corpus, attention="additive")
    model = taught(of, 500)
    split = task.read(of).test
    found = score(model.task, of, model.network, split)
    assert found["bleu"] > 80
    assert list(found) == ["loss", "perplexity", "bleu", "bleu_lower"]
    [[one]] = model.predict("ba ki me ru")
    assert one.texts == ["eight five three one"]
    assert one.alignments[0].weights[:4].argmax(1).tolist() == [3, 2, 1, 0]
    by_beam = task.evaluate(model, split, task.EvaluateOptions(beam=3))
    assert by_beam["loss"] == pytest.approx(found["loss"])
    assert by_beam["bleu"] > 80


@pytest.mark.parametrize(
    "more",
    [
        {"tokens": "bpe", "vocabulary": 300, "copy_source": True},
        {"input_feeding": True, "attention": "multiplicative", "decoder_layers": 1},
        {"coverage": 0.5, "encoder_layers": 2, "decoder_layers": 3},
        {"scheduled_sampling": 0.3, "label_smoothing": 0.1, "dropout": 0.1},
    ],
    ids=str,
)
def test_every_form_learns(corpus: Path, more: dict) -> None:
    of = config(corpus, **more)
    before, after = taught(of, 0), taught(of, 25)
    split = task.read(of).valid
    assert (
        score(after.task, of, after.network, split)["loss"]
        < 0.9 * score(before.task, of, before.network, split)["loss"]
    )


def test_scores_are_sacrebleus(corpus: Path) -> None:
    """Of all texts at once, in the order of the file."""
    of = config(corpus)
    model = taught(of, 60)
    written = [one.texts[0] for one in model.predict(corpus / "test.xx", beam=1)[0]]
    references = (corpus / "test.yy").read_text().split("\n")
    whole = sacrebleu.corpus_bleu(written, [references]).score
    assert 0 < whole < 99
    assert score(model.task, of, model.network, task.read(of).test)["bleu"] == pytest.approx(whole)
    batched = [task.read(dataclasses.replace(of, training=TrainingOptions(batch_size=n))).test for n in (1, 50)]
    first, second = (score(model.task, of, model.network, split) for split in batched)
    assert first == pytest.approx(second)


def test_n_best(corpus: Path, tmp_path: Path) -> None:
    model = taught(config(corpus), 60)
    results = model.predict("ba do ki", "me ba", beam=4, n_best=3)
    for [one] in results:
        assert one.scores == sorted(one.scores, reverse=True)
        assert len(set(one.texts)) == 3
    task.save(results, tmp_path / "a.tsv")
    rows = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()]
    assert [row[:2] for row in rows[1:]] == [[text, str(n)] for text in ("ba do ki", "me ba") for n in (1, 2, 3)]
    task.save(results, tmp_path / "a.json")
    described = json.loads((tmp_path / "a.json").read_text())
    assert described[1]["tokens"] == ["me", "ba"]
    assert np.array(described[0]["translations"][2]["weights"]).shape[1] == 3
    with pytest.raises(ConveyorError, match=r"--n-best: expected at most --beam, 2, got 3"):
        model.predict("ba", beam=2, n_best=3)


def test_one_vocabulary_has_one_embedding(corpus: Path) -> None:
    of = config(corpus, tokens="bpe", vocabulary=280)
    data = task.read(of)
    network = task.network(of, data.facts)
    assert network.encoder.embedding is network.decoder.embedding
    other = task.network(config(corpus), task.read(config(corpus)).facts)
    assert other.encoder.embedding is not other.decoder.embedding


def test_bad_sentences(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In training, and in prediction."""
    model = taught(config(corpus), 0)
    for text, says in {
        " ": r"the sentence: expected a sentence, got an empty one",
        "ba " * 10_000: r"got 10,000; split it into sentences",
        "中文句子 在 这里": r"expected xx, as trained on, got '中文句子 在 这里'; 100% of its tokens never occurred",
    }.items():
        with pytest.raises(ConveyorError, match=says):
            model.predict(text)
    (corpus / "some.txt").write_text("ba do\n\nki\nquux\n")
    with pytest.raises(ConveyorError, match=r"some\.txt:2: expected a sentence, got an empty one.*--skip-bad"):
        model.predict(corpus / "some.txt")
    [found] = model.predict(corpus / "some.txt", skip_bad=True)
    assert [one.source for one in found] == ["ba do", "ki"]
    assert "2 bad records left out" in capsys.readouterr().err
    (corpus / "train.xx").write_text((corpus / "train.xx").read_text().replace("ba", "ba " * 101, 1))
    with pytest.raises(ConveyorError, match=r"train\.xx:\d+: expected 1 to 100 tokens"):
        task.read(config(corpus))


def test_conflicts() -> None:
    with pytest.raises(
        ConveyorError, match=r"--vocabulary: too small for --tokens bpe, got 200; --source and --target: "
    ):
        task.Config(vocabulary=200, source="en")
    with pytest.raises(ConveyorError, match=r"--copy-source: expected --tokens bpe"):
        task.Config(tokens="word", copy_source=True)


def test_seeds_and_ensemble(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    arguments = ["--data", str(corpus), "--source", "xx", "--target", "yy", "--tokens", "word", "--hidden-size", "12"]
    arguments += ["--embedding-size", "12", "--epochs", "1", "--threads", "1", "--seeds", "2", "--run", str(run)]
    assert main(["train", "translation", *arguments]) == 0
    [translations] = conveyor.load(run).predict("ba do")
    assert len(translations) == 1
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", str(corpus), "--beam", "2"]) == 0
    assert "bleu_lower" in capsys.readouterr().out
