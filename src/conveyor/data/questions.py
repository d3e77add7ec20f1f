"""Questions about stories: bAbI's text files, and JSON lines.

bAbI: lines `number sentence`, and questions `number question<TAB>answer<TAB>numbers of the sentences that tell it`;
number 1 begins a new story, and answers of several words are joined by commas. JSON lines: objects with `context` (a
text, or a list of sentences), `question`, and `answer`: a text, or a list of texts.

Names that end in train, valid (or val, dev) and test say what is what. Where no file is for validation, a share of
the stories that train is set aside, always the same.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from conveyor.data import text
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

SUFFIXES = (".txt", ".jsonl")
PART = re.compile(r"(?:^|[._-])(train|valid|val|dev|test)$", re.IGNORECASE)
NAMES = {"val": "valid", "dev": "valid"}
LINE = re.compile(r"(?a:(\d{1,9})) +(.*\S.*)", re.DOTALL)
LINES = re.compile(r"\r\n?|\n")
"""Line ends; `str.splitlines` knows others too, which may stand in a text."""
SENTENCE = re.compile(r"(?<=[.!?])\s+")


class Question(NamedTuple):
    """A question, and the story it is about."""

    story: tuple[str, ...]
    """Sentences."""
    question: str
    answer: tuple[str, ...]
    """One word or several; none where it is not known."""
    task: str
    """Which kind of question: the beginning of its file's name."""
    where: str
    number: int
    """Of its story in the file."""


def read_parts(
    paths: Sequence[Path], bad: BadRecords, valid_share: float, test_share: float
) -> dict[str, list[Question]]:
    """The questions that train, validate and test."""
    parts: dict[str, list[Question]] = {"train": [], "valid": [], "test": []}
    for path in find(paths):
        parts[part_of(path)] += read(path, bad)
    if not parts["train"]:
        raise ConveyorError(f"[data] {', '.join(map(str, paths))}: expected questions to train on, got none")
    for name, share in (("valid", valid_share), ("test", test_share)):
        if not parts[name]:
            parts["train"], parts[name] = _set_aside(parts["train"], share)
    return parts


def find(paths: Sequence[Path]) -> list[Path]:
    """The files of questions among files and folders."""
    found = []
    for path in paths:
        if not os.path.exists(path):
            raise ConveyorError(f"[data] {path}: no such file or folder; check the path given to --data")
        inside = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES) if path.is_dir() else [path]
        parts = [file for file in inside if path.is_file() or PART.search(file.stem)]
        below = sorted({file.parent.name for file in path.glob("*/*") if file.suffix in SUFFIXES}) if not parts else []
        if below:
            raise ConveyorError(f"[data] {path}: expected files of one set, got folders; name one: {', '.join(below)}")
        found += parts or inside
    if not found:
        raise ConveyorError(f"[data] {', '.join(map(str, paths))}: expected bAbI's .txt files, or .jsonl; got neither")
    return found


def part_of(path: Path) -> str:
    """What a file is for, as its name says."""
    said = PART.search(path.stem)
    word = said[1].lower() if said else "train"
    return NAMES.get(word, word)


def read(path: Path, bad: BadRecords, answered: bool = True) -> list[Question]:
    """The questions of a file; `answered` if each must have an answer."""
    lines = LINES.split(text.read(path))
    task = PART.sub("", path.stem).split("_")[0] or "questions"
    reader = _jsonl if path.suffix == ".jsonl" else _babi
    found = list(reader(lines, str(path), task, bad, answered))
    if not found:
        raise ConveyorError(f"[data] {path}: expected questions, got none{bad.summary()}")
    return found


def from_text(words: str) -> Question:
    """Of a text that ends in its question."""
    *story, question = SENTENCE.split(words.strip())
    where = "the text"
    _check(story, question, (), where, answered=False)
    return Question(tuple(story), question, (), "questions", where, 0)


def from_object(
    described: Any, where: str, task: str = "questions", number: int = 0, answered: bool = False
) -> Question:
    """Of an object with context, question and answer."""
    if not isinstance(described, dict):
        raise ConveyorError(
            f"[data] {where}: expected an object with context and question, got {described!r:.40}; mend it"
        )
    context, question, answer = (described.get(name) for name in ("context", "question", "answer"))
    story: Any = SENTENCE.split(context.strip()) if isinstance(context, str) else context
    answers: Any = [answer] if isinstance(answer, str) else [] if answer is None else answer
    for name, value, one in (("context", story, context), ("answer", answers, answer)):
        if not isinstance(value, list) or not all(isinstance(part, str) and part.strip() for part in value):
            raise ConveyorError(
                f"[data] {where}: expected {name} to be a text or a list of texts, got {one!r:.40}; mend it"
            )
    if not isinstance(question, str):
        raise ConveyorError(f"[data] {where}: expected question to be a text, got {question!r:.40}; mend it")
    _check(story, question, answers, where, answered)
    return Question(tuple(story), question, tuple(answers), task, where, number)


def _jsonl(lines: list[str], path: str, task: str, bad: BadRecords, answered: bool) -> Iterator[Question]:
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        with bad.record():
            try:
                described = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ConveyorError(f"[data] {path}:{n}: expected a line of JSON, but {error}; mend it") from None
            yield from_object(described, f"{path}:{n}", task, n, answered)


def _babi(lines: list[str], path: str, task: str, bad: BadRecords, answered: bool) -> Iterator[Question]:
    story: dict[int, str] = {}
    stories, last, torn = 0, 0, ""
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{n}"
        with bad.record():
            number, rest = _numbered(line)
            if number == 1:
                story, stories, last, torn = {}, stories + 1, 0, ""
            sentence, *more = rest.split("\t")
            if torn and more:
                raise ConveyorError(f"[data] {where}: expected a whole story, but {torn} is wrong; mend that")
            if torn:
                continue
            if number != last + 1:
                torn = where
                _refuse(line, where, last)
            last = number
            if not more:
                story[number] = sentence.strip()
                continue
            for told in " ".join(more[1:]).split():
                if told not in map(str, story):
                    raise ConveyorError(
                        f"[data] {where}: expected numbers of sentences before the question, got {told!r}; mend it"
                    )
            answer = tuple(word.strip() for word in more[0].split(",") if word.strip())
            _check([*story.values()], sentence, answer, where, answered)
            yield Question(tuple(story.values()), sentence.strip(), answer, task, where, stories)


def _numbered(line: str) -> tuple[int, str]:
    """A line's number, 0 where it has none, and what follows."""
    found = LINE.fullmatch(line.strip())
    return (int(found[1]), found[2]) if found else (0, line)


def _refuse(line: str, where: str, last: int) -> NoReturn:
    numbers = f"number {last + 1}, or 1 for a new story," if last else "number 1, which begins a story,"
    raise ConveyorError(f"[data] {where}: expected {numbers} and a sentence, got {line[:40]!r}; mend it")


def _check(story: Sequence[str], question: str, answer: Sequence[str], where: str, answered: bool) -> None:
    if not story:
        raise ConveyorError(f"[data] {where}: expected sentences before the question, got none; give its story")
    if not question.strip():
        raise ConveyorError(f"[data] {where}: expected a question, got an empty one; mend it")
    if answered and not answer:
        raise ConveyorError(f"[data] {where}: expected an answer, got none; mend it")


def _set_aside(questions: list[Question], share: float) -> tuple[list[Question], list[Question]]:
    """What is left, and of each task the questions of a share of its stories."""
    random, kept, aside = np.random.default_rng(0), list[Question](), list[Question]()
    for task in sorted({question.task for question in questions}):
        of_task = [question for question in questions if question.task == task]
        stories = sorted({question.number for question in of_task})
        chosen = {*random.permutation(stories)[: max(1, round(len(stories) * share))].tolist()}
        if len(chosen) == len(stories):
            raise ConveyorError(
                f"[data] {of_task[0].where}: too few stories to set some aside, got {len(stories)}; give more"
            )
        kept += [question for question in of_task if question.number not in chosen]
        aside += [question for question in of_task if question.number in chosen]
    return kept, aside
