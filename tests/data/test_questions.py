"""Stories and questions in each form, and what is wrong with some."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conveyor.data import questions
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

BABI = """1 Mary took the milk.
2 Mary went to the hall.
3 Where is Mary?\thall\t2
4 Mary took the apple.
5 What is Mary carrying?\tmilk,apple\t1 4
1 Bob is in the attic.
2 Is Bob in the attic?\tyes\t1
"""


def babi(folder: Path, text: str = BABI, name: str = "qa8_lists_train.txt") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_babi(tmp_path: Path) -> None:
    """A question knows the sentences before it alone, and lists are lists."""
    first, second, third = questions.read(babi(tmp_path), BadRecords(False))
    assert first.story == ("Mary took the milk.", "Mary went to the hall.")
    assert (first.question, first.answer, first.task) == ("Where is Mary?", ("hall",), "qa8")
    assert second.story == (*first.story, "Mary took the apple.")
    assert second.answer == ("milk", "apple")
    assert third.story == ("Bob is in the attic.",)
    assert [one.number for one in (first, second, third)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Mary took the milk.", r":8: expected number 3, or 1 for a new story, and a sentence, got 'Mary took"),
        ("² Mary took the milk.", r":8: expected number 3, or 1 for a new story"),
        ("4 Mary took the milk.", r":8: expected number 3, or 1 for a new story"),
        ("3 Where is Bob?\tattic\t¹", r":8: expected numbers of sentences before the question, got '¹'"),
        ("3 Where is Bob?\tattic\t7", r":8: expected numbers of sentences before the question, got '7'"),
        ("3 Where is Bob?\tattic\tone", r"got 'one'"),
        ("1 Where is Bob?\tattic\t", r":8: expected sentences before the question, got none"),
        ("3 \tattic\t1", r":8: expected a question, got an empty one"),
        ("3 Where is Bob?\t\t1", r":8: expected an answer, got none"),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, says: str) -> None:
    file = babi(tmp_path, BABI + line + "\n")
    with pytest.raises(ConveyorError, match=says):
        questions.read(file, BadRecords(False))
    bad = BadRecords(True)
    assert len(questions.read(file, bad)) == 3
    assert bad.count == 1


def test_a_torn_story_is_left_out(tmp_path: Path) -> None:
    """What follows a sentence that cannot be read is answered from no other story, nor from half of its own."""
    file = babi(tmp_path, BABI.replace("1 Bob is", "1Bob is") + "1 Ann left.\n2 Who left?\tAnn\t1\n\n")
    bad = BadRecords(True)
    assert [one.answer for one in questions.read(file, bad)] == [("hall",), ("milk", "apple"), ("Ann",)]
    assert bad.count == 2  # the sentence, and the question about it
    with pytest.raises(ConveyorError, match=r":1: expected number 1, which begins a story, and a sentence"):
        questions.read(babi(tmp_path, "2 Ann left.\n"), BadRecords(False))


def test_a_folder_of_sets(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    babi(tmp_path / "en")
    (tmp_path / "README.txt").write_text("what this is")
    with pytest.raises(ConveyorError, match=r"got folders; name one: en"):
        questions.find([tmp_path])


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {"context": "Ann is here. Eve left.", "question": "Who left?", "answer": "Eve"},
        {"context": ["Ann has a cup", "and a pen"], "question": "What has Ann?", "answer": ["cup", "pen"]},
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    first, second = questions.read(file, BadRecords(False))
    assert first.story == ("Ann is here.", "Eve left.")
    file.write_text(json.dumps(rows[0] | {"context": "Ann\u2028is here."}, ensure_ascii=False) + "\n\n")
    assert [one.story for one in questions.read(file, BadRecords(False))] == [("Ann\u2028is here.",)]
    assert (first.answer, second.answer, second.story) == (("Eve",), ("cup", "pen"), ("Ann has a cup", "and a pen"))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", r":1: expected a line of JSON"),
        ("[]", r":1: expected an object with context and question"),
        ('{"context": 3, "question": "a?", "answer": "b"}', r"expected context to be a text or a list of texts, got 3"),
        ('{"context": "a.", "question": "a?", "answer": [2]}', r"expected answer to be a text or a list"),
        ('{"context": "a.", "answer": "b"}', r"expected question to be a text, got None"),
        ('{"context": [], "question": "a?", "answer": "b"}', r"expected sentences before the question, got none"),
    ],
)
def test_bad_json(tmp_path: Path, row: str, says: str) -> None:
    (tmp_path / "a.jsonl").write_text(row)
    with pytest.raises(ConveyorError, match=says):
        questions.read(tmp_path / "a.jsonl", BadRecords(False))


def test_stories_are_not_torn(tmp_path: Path) -> None:
    """Set aside are whole stories, of each kind of question, always the same."""
    for task in ("qa1", "qa2"):
        lines = [f"1 {task} {n}.\n2 first?\ta\t1\n3 second?\tb\t1\n" for n in range(20)]
        babi(tmp_path, "".join(lines), f"{task}_x_train.txt")
    parts = questions.read_parts([tmp_path], BadRecords(False), 0.1, 0.2)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 56,
        "valid": 8,
        "test": 16,
    }  # 20 % of the rest
    stories = {name: {one.story for one in part} for name, part in parts.items()}
    assert not stories["train"] & stories["valid"] | stories["train"] & stories["test"]
    assert {one.task for one in parts["valid"]} == {"qa1", "qa2"}
    assert parts == questions.read_parts([tmp_path], BadRecords(False), 0.1, 0.2)


def test_a_text_that_asks() -> None:
    one = questions.from_text("Ann is in the hall. Bob left! Where is Ann?")
    assert (one.story, one.question) == (("Ann is in the hall.", "Bob left!"), "Where is Ann?")
    with pytest.raises(ConveyorError, match=r"the text: expected sentences before the question"):
        questions.from_text("Where is Ann?")
