"""Question answering: what it learns, answers and refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from conveyor.data import questions
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.tasks import question_answering as task
from conveyor.training.options import ReadingOptions, TrainingOptions
from conveyor.training.scoring import score
from conveyor.training.task import Model

NAMES, PLACES = ["Ann", "Bob", "Eve", "Tom"], ["garden", "hall", "attic", "office"]


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    """Where someone is, and where two are in order: a word, and a list."""
    random = np.random.default_rng(2)
    for part, count in {"train": 500, "valid": 60, "test": 60}.items():
        files: dict[str, list[str]] = {"one": [], "two": []}
        for _ in range(count):
            people, places = random.permutation(NAMES), random.permutation(PLACES)
            told = [f"{n + 1} {people[n]} went to the {places[n]}." for n in range(4)]
            a, b = random.permutation(4)[:2]
            files["one"] += [*told, f"5 Where is {people[a]}?\t{places[a]}\t{a + 1}"]
            files["two"] += [
                *told,
                f"5 Where are {people[a]} and {people[b]}?\t{places[a]},{places[b]}\t{a + 1} {b + 1}",
            ]
        for name, lines in files.items():
            (tmp_path / f"{name}_{part}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def config(stories: Path, **more) -> task.Config:
    training = TrainingOptions(batch_size=25)
    given = {"embedding_size": 32, "hidden_size": 32, "dropout": 0.0} | more
    return task.Config(reading=ReadingOptions(data=(str(stories),)), training=training, **given)


def taught(of: task.Config, steps: int) -> Model:
    torch.manual_seed(1)
    data = task.read(of)
    network = task.network(of, data.facts)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.005)
    for step in range(steps):
        outcome = task.loss(of, network, data.train.batch(*divmod(step, len(data.train))), None)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
    return Model(task, of, data.facts, network.eval())  # type: ignore[arg-type]


def test_it_learns_to_look(stories: Path, tmp_path: Path) -> None:
    """Words and lists; and what counts as right is what prediction says."""
    of = config(stories)
    model = taught(of, 400)
    split = task.read(of).test
    found = task.evaluate(model, split, task.EvaluateOptions())
    assert list(found) == ["loss", "accuracy", "kinds_passed", "one", "two"]
    assert found["accuracy"] == pytest.approx((found["one"] + found["two"]) / 2)
    assert found["one"] > 0.9
    assert found["two"] > 0.9
    [answers] = model.predict(stories / "two_test.txt")
    true = [
        line.split("\t")[1].replace(",", ", ")
        for line in (stories / "two_test.txt").read_text().splitlines()
        if "\t" in line
    ]
    assert np.mean([one.answers[0] == a for one, a in zip(answers, true, strict=True)]) == pytest.approx(
        found["two"], abs=0.04
    )
    [[one]] = model.predict(
        "Bob went to the attic. Ann went to the hall. Tom went to the office. Where is Ann?", n_best=3
    )
    assert one.answers[0] == "hall"
    assert one.confidence == sorted(one.confidence, reverse=True)
    assert sum(one.confidence) <= 1
    assert one.hops[:, 1].max() > 0.5
    assert str(one).startswith(f"Where is Ann? hall {one.confidence[0]:.1%}, ")
    assert str(one).endswith(f"({one.story[int(one.hops[-1].argmax())]})")
    task.save([answers], tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as stream:
        rows = [*csv.DictReader(stream)]
    assert [row["answer"] for row in rows] == [each.answers[0] for each in answers]
    task.save([answers], tmp_path / "a.json")
    described = json.loads((tmp_path / "a.json").read_text())
    np.testing.assert_allclose(np.sum(described[3]["hops"], 1), 1, atol=1e-3)


def test_spans(tmp_path: Path) -> None:
    """The end of a sentence that begins with a name."""
    random = np.random.default_rng(3)
    rows = []
    for _ in range(300):
        people = random.permutation(NAMES)[:3]
        said = [f"{PLACES[random.integers(4)]} {PLACES[random.integers(4)]}" for _ in range(3)]
        n = random.integers(3)
        context = [f"{person} likes {what}" for person, what in zip(people, said, strict=True)]
        rows.append({"context": context, "question": f"What likes {people[n]}?", "answer": said[n]})
    (tmp_path / "spans.jsonl").write_text("\n".join(map(json.dumps, rows)))
    of = config(tmp_path / "spans.jsonl", answers="span")
    model = taught(of, 120)
    assert score(model.task, of, model.network, task.read(of).test)["accuracy"] > 0.8
    [[one]] = model.predict(
        {"context": ["Eve likes hall garden", "Tom likes attic hall"], "question": "What likes Tom?"}, n_best=2
    )
    assert one.answers[0] == "attic hall"
    coder = task.Coder(of, model.facts)
    told = ("İpek likes red wine",)
    place = coder.answer(questions.Question(told, "What?", ("red wine",), "", "", 0))
    assert task._said(coder, told, place.tolist()) == "red wine"  # though İ becomes two letters in lower case
    (tmp_path / "bad.jsonl").write_text(json.dumps(rows[0] | {"answer": "moon"}))
    with pytest.raises(ConveyorError, match=r"bad\.jsonl:1: expected an answer that stands in the story, got 'moon'"):
        task.read_test(of, model.facts, [str(tmp_path / "bad.jsonl")], BadRecords(False))


def test_bad_answers_and_questions(stories: Path) -> None:
    model = taught(config(stories), 0)
    file = stories / "new_test.txt"
    file.write_text("1 Ann went to the hall.\n2 Where is Ann?\tmoon\t1\n3 Where is Ann?\thall\t1\n")
    with pytest.raises(
        ConveyorError, match=r"new_test\.txt:2: expected an answer of words seen in training, got 'moon'"
    ):
        task.read_test(model.config, model.facts, [str(file)], BadRecords(False))
    assert len(task.read_test(model.config, model.facts, [str(file)], BadRecords(True)).lengths) == 1
    with pytest.raises(ConveyorError, match=r"expected sentences before the question, got none"):
        model.predict("Where is Ann?")
    with pytest.raises(ConveyorError, match=r"expected a file, or a text that ends in a question, got 3"):
        model.predict(3)
    empty = {"context": "", "question": "Where is Ann?"}
    asked = "Ann is in the hall. Where is Ann?"
    assert [len(found) for found in model.predict(asked, empty, skip_bad=True)] == [1, 0]


def test_the_report_shows_where_it_looked(stories: Path, tmp_path: Path) -> None:
    model = taught(config(stories), 0)
    text = task.show(model, task.read(model.config), tmp_path)
    assert "| one | " in text
    assert (tmp_path / "looks.png").stat().st_size > 5_000


def test_a_kind_that_is_not_trained_on_is_not_scored(stories: Path) -> None:
    (stories / "one_train.txt").unlink()
    data = task.read(config(stories))
    assert ", without one, of which" in data.summary
    for part in (data.valid, data.test):
        assert {kind for n in range(len(part)) for kind in part.batch(0, n).tasks} == {"two"}


def test_a_limit_takes_of_every_kind(stories: Path) -> None:
    of = config(stories)
    of.reading.limit = 40
    data = task.read(of)
    assert {kind for n in range(len(data.train)) for kind in data.train.batch(0, n).tasks} == {"one", "two"}


def test_only_the_last_sentences_are_read(stories: Path) -> None:
    of = config(stories, sentences=2)
    batch = task.read(of).train.batch(0, 0)
    assert batch.counts.max() == 2
    assert task.read(config(stories)).train.batch(0, 0).counts.max() == 4
