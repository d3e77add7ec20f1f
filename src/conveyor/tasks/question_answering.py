"""Question answering: the answer to a question about a story.

The task: of sentences s_1 … s_N and a question, tell the answer: a word, a list of words, or a span of the story. An
LSTM reads the words of each sentence, another the sentences; a third looks at the story several times, each look guided
by what those before have found (S. Sukhbaatar et al. 2015, arXiv 1503.08895, whose hops it controls), and a decoder
writes the answer, or two pointers mark it (S. Wang & J. Jiang 2017, arXiv 1608.07905).

    conveyor train question-answering --data babi/en
    conveyor evaluate runs/question-answering/TIME
    conveyor predict runs/question-answering/TIME "Mary went to the garden. Bob is in the hall. Where is Mary?"

Data: bAbI's text files, or JSON lines with context, question and answer. Names that end in train, valid (val, dev) or
test say what is what; what is before the first `_` names the kind of question. A kind without questions to train on
(qa3 of `en-valid-10k`) is left out, unless `conveyor evaluate` is given it as --data.

bAbI (J. Weston et al. 2015, arXiv 1502.05698), one network for all tasks, without supporting facts: mean accuracy
77.7 % on 1,000 examples a task, in 14 minutes; its authors' LSTM has 49.2. On 10,000 examples, in 38 minutes, 11 of 19
tasks come to 95 % or more:

    conveyor train question-answering --data babi/en --epochs 40 --max-minutes 14 --threads 1
    conveyor train question-answering --data babi/en-valid-10k --batch-size 64 --epochs 14 --max-minutes 38 --threads 1

Scores: `loss`, nats a question; `accuracy`, the share of answers that are right in all their words, mean over the kinds
of questions; `kinds_passed`, how many of these have 95 % or more, bAbI's mark. `conveyor evaluate` tells each.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from conveyor.data import labelled, questions, tokenizer
from conveyor.data.batches import Batches, pad
from conveyor.data.questions import Question
from conveyor.data.records import BadRecords
from conveyor.data.written import BOUNDARY, NOTHING, Teacher
from conveyor.errors import ConveyorError
from conveyor.nn.beam_search import Hypothesis, beam_search
from conveyor.nn.decoder import Decoder
from conveyor.nn.hops import Found, StoryReader
from conveyor.training import alignment, files
from conveyor.training.alignment import Alignment
from conveyor.training.options import Count, Depth, ReadingOptions, Share, Size, TrainingOptions, VariantName, check
from conveyor.training.scoring import numbers, sums_over
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps, Sums

UNIT = "questions"
ENDINGS: tuple[str, ...] = (".csv", ".json", ".png")
WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(kw_only=True)
class Config:
    """Train a reader that answers questions about stories.

    Data: bAbI's text files, JSON lines, or folders of these. Names that end in train, valid, test say what is what; a
    share of the stories is set aside for what is not there. --limit counts questions.
    """

    answers: Literal["words", "span"] = "words"
    """What an answer is: words out of those seen in training, or a span of the story."""
    sentences: Count = 100
    """Read only so many sentences of a story, the last ones."""
    vocabulary: Count = 10_000
    """Most words told apart."""
    embedding_size: Size = 64
    """Numbers that stand for a word."""
    hidden_size: Size = 64
    """Units of each LSTM and direction."""
    hops: Depth = 3
    """Looks at the story."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    dropout: Share = 0.2
    """Share dropped of embeddings and sentences."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            batch_size=32, epochs=40, learning_rate=0.002, schedule="cosine", average="ema"
        )
    )

    def __post_init__(self) -> None:
        check(self)


# Reading


class Batch(NamedTuple):
    """Questions side by side; time goes first."""

    sentences: Tensor
    """All there are, of stories and questions, each once [W, U]."""
    lengths: Tensor
    """Words of each [U]."""
    story: Tensor
    """Which they are [N, B]."""
    counts: Tensor
    """Sentences of each story [B]."""
    question: Tensor
    """Which sentences are the questions [B]."""
    answers: Teacher
    """Of words: their numbers; of a span: the places of its ends in the story's words, [2, B] both."""
    tasks: list[str]
    """The kind of each question."""


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read the questions of each part; the vocabulary is that of the training part, or of `facts`."""
    reading = config.reading
    if not reading.data:
        raise ConveyorError("[data] nothing to read; name files with --data")
    bad, paths = BadRecords(reading.skip_bad), [Path(path) for path in reading.data]
    parts = questions.read_parts(paths, bad, reading.valid_share, reading.test_share)
    untrained = _leave_out_untrained(parts)
    train, valid, test = (labelled.some(part, reading.limit) for part in parts.values())
    coder = Coder(config, facts or learn(config, train))
    seed = config.training.seed
    splits = coder.batches(train, bad, seed), coder.batches(valid, bad), coder.batches(test, bad)
    counts = " + ".join(f"{len(part.lengths):,}" for part in splits)
    kinds = len({question.task for question in train})
    summary = f"{counts} questions of {kinds} kinds to train, validate, test; {coder.width:,} words"
    return Data(*splits, coder.facts, summary + untrained + bad.summary())


def _leave_out_untrained(parts: dict[str, list[Question]]) -> str:
    """Kinds of which none are trained on choose no network and count in no score; which those are."""
    trained, left_out = {question.task for question in parts["train"]}, set[str]()
    for name in ("valid", "test"):
        known = [question for question in parts[name] if question.task in trained]
        if known:
            left_out |= {question.task for question in parts[name]} - trained
            parts[name] = known
    return f", without {', '.join(sorted(left_out))}, of which there are none to train on" if left_out else ""


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """The files for test among those given, or all of them."""
    found = questions.find([Path(path) for path in data])
    chosen = [path for path in found if questions.part_of(path) == "test"] or found
    return Coder(config, facts).batches([one for path in chosen for one in questions.read(path, bad)], bad)


def learn(config: Config, train: Sequence[Question]) -> dict[str, Any]:
    """The facts: words of stories and questions, and those of answers."""
    said = {sentence for one in train for sentence in (*one.story, one.question)}
    words = tokenizer.learn("word", "\n".join(map(_spaced, sorted(said))), max(config.vocabulary, 3))
    answers = sorted({word for one in train for word in one.answer}) if config.answers == "words" else []
    return {"words": words.to_json(), "answers": answers}


class Coder:
    """What makes numbers of questions, and answers of numbers."""

    def __init__(self, config: Config, facts: dict[str, Any]) -> None:
        self.config, self.facts = config, facts
        self.tokens = tokenizer.from_json(facts.get("words"))
        self.width = len(self.tokens)
        answers = facts.get("answers")
        if not isinstance(answers, list) or not all(isinstance(word, str) for word in answers):
            raise ConveyorError("[model] answers: expected a list of words; copy the model's file again")
        self.answers: list[str] = answers
        self._numbers = {word: n for n, word in enumerate(answers, 1)}
        self._read: dict[str, np.ndarray] = {}

    def words(self, sentence: str) -> np.ndarray:
        """The words of a sentence."""
        if sentence not in self._read:
            self._read[sentence] = self.tokens.encode(_spaced(sentence))
        return self._read[sentence]

    def story(self, question: Question) -> tuple[str, ...]:
        """The sentences that are read."""
        return question.story[-self.config.sentences :]

    def answer(self, question: Question) -> np.ndarray:
        """Numbers of the answer's words, or the two ends of its span; none of a question without an answer."""
        if not question.answer:
            return np.zeros(2 if self.config.answers == "span" else 0, np.int64)
        if self.config.answers == "span":
            return self._span(question)
        for word in question.answer:
            if word not in self._numbers:
                raise ConveyorError(
                    f"[data] {question.where}: expected an answer of words seen in training, got {word!r}; give more "
                    "to train on"
                )
        return np.array([self._numbers[word] for word in question.answer])

    def _span(self, question: Question) -> np.ndarray:
        """First and last word of the answer where it stands last in the story."""
        wanted = _spaced(" ".join(question.answer)).split()
        told = [word for sentence in self.story(question) for word in _spaced(sentence).split()]
        for first in range(len(told) - len(wanted), -1, -1):
            if told[first : first + len(wanted)] == wanted and wanted:
                return np.array([first, first + len(wanted) - 1])
        raise ConveyorError(
            f"[data] {question.where}: expected an answer that stands in the story, got "
            f"{' '.join(question.answer)!r:.60}; take --answers words"
        )

    def batches(self, given: Sequence[Question], bad: BadRecords, seed: int | None = None) -> Batches:
        """Batches of questions; of stories of like length."""
        rows: list[tuple[Question, np.ndarray]] = []
        for question in given:
            with bad.record():
                rows.append((question, self.answer(question)))
        if not rows:
            raise ConveyorError(f"[data] expected questions, got none{bad.summary()}")
        lengths = [len(self.story(question)) for question, _ in rows]
        return Batches(
            lengths, self.config.training.batch_size, lambda chosen: self.batch([rows[n] for n in chosen]), seed
        )

    def batch(self, rows: Sequence[tuple[Question, np.ndarray]]) -> Batch:
        """Questions and answers as one batch."""
        stories = [self.story(question) for question, _ in rows]
        places: dict[str, int] = {}
        for sentence in [one for story in stories for one in story] + [question.question for question, _ in rows]:
            places.setdefault(sentence, len(places))
        words = [self.words(sentence) for sentence in places]
        story = pad([np.array([places[sentence] for sentence in one]) for one in stories])
        answers = [answer for _, answer in rows]
        if self.config.answers == "span":
            ends = torch.from_numpy(np.stack(answers, 1))
            taught = Teacher(ends, ends)
        else:
            taught = Teacher.of(answers)
        return Batch(
            torch.from_numpy(pad(words)),
            torch.tensor([len(row) for row in words]),
            torch.from_numpy(story),
            torch.tensor([len(one) for one in stories]),
            torch.tensor([places[question.question] for question, _ in rows]),
            taught,
            [question.task for question, _ in rows],
        )


def _spaced(sentence: str) -> str:
    """Its words in lower case, as many as it has: `lower` makes two letters of some."""
    return " ".join(WORD.findall(sentence)).lower()


# Network and loss


class Words(nn.Module):
    """A story reader, and a decoder that writes the words of the answer."""

    def __init__(self, config: Config, width: int, answers: int) -> None:
        super().__init__()
        H = config.hidden_size
        self.reader = StoryReader(width, config.embedding_size, H, config.hops, config.dropout, config.variant)
        sizes = self.reader.value_size, self.reader.answer_size
        self.decoder = Decoder(1 + answers, config.embedding_size, H, *sizes, variant=config.variant)

    def forward(self, *batch: Tensor) -> Found:
        """What the reader found; see `Batch`."""
        found: Found = self.reader(*batch)
        return found

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Nats of each answer [B], and which are right in all their words."""
        found = self(*batch[:5])
        memory = self.decoder.remember(found.values, batch.counts)
        logits = self.decoder(batch.answers.inputs, memory, self.decoder.start(found.answer)).logits
        targets = batch.answers.targets
        nats = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets).sum(0)
        return nats, ((logits.argmax(-1) == targets) | (targets == NOTHING)).all(0)

    def answers(self, batch: Batch, found: Found, n_best: int) -> list[list[Hypothesis]]:
        """The likeliest answers to each question."""
        memory, state = self.decoder.remember(found.values, batch.counts), self.decoder.start(found.answer)
        return beam_search(
            [self.decoder], [memory], [state], start=BOUNDARY, end=BOUNDARY, rows=len(batch.counts),
            width=max(5, n_best), longest=20, n_best=n_best,
        )  # fmt: skip


class Span(nn.Module):
    """A story reader, and pointers to the first and the last word of the answer."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        H = config.hidden_size
        self.reader = StoryReader(width, config.embedding_size, H, config.hops, config.dropout, config.variant)
        self.ends = nn.Linear(self.reader.answer_size, 2 * (2 * H + self.reader.value_size))

    def forward(self, *batch: Tensor) -> Found:
        """What the reader found; see `Batch`."""
        found: Found = self.reader(*batch)
        return found

    def logits(self, batch: Batch, found: Found) -> Tensor:
        """Of the first and the last word, over the words of each story [2, B, P]."""
        W, N = found.words.shape[0], len(batch.story)
        words = torch.cat([found.words[:, batch.story], found.values.expand(W, -1, -1, -1)], -1)  # [W, N, B, …]
        ends = self.ends(found.answer).unflatten(-1, (2, -1))
        e = torch.einsum("wnbd,bkd->kbnw", words, ends)
        there = torch.arange(W)[:, None] < batch.lengths
        mask = there[:, batch.story] & (torch.arange(N)[:, None] < batch.counts)  # [W, N, B]
        rows = [e[:, b][:, mask[:, :, b].T] for b in range(e.shape[1])]
        P = max(row.shape[1] for row in rows)
        low = torch.finfo(e.dtype).min
        return torch.stack([nn.functional.pad(row, (0, P - row.shape[1]), value=low) for row in rows], 1)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Nats of each answer [B], and which are right at both ends."""
        logits = self.logits(batch, self(*batch[:5]))
        ends = batch.answers.targets
        nats = cross_entropy(logits.flatten(0, 1), ends.flatten(), reduction="none").view_as(ends).sum(0)
        return nats, (logits.argmax(-1) == ends).all(0)

    def answers(self, batch: Batch, found: Found, n_best: int) -> list[list[Hypothesis]]:
        """First and last word of the likeliest spans; where it looked says the reader alone."""
        first, last = self.logits(batch, found).log_softmax(-1)
        P = first.shape[1]
        both = (first[:, :, None] + last[:, None, :]).masked_fill(torch.ones(P, P).tril(-1).bool(), -math.inf)
        best, looked = both.flatten(1).topk(min(n_best, P)), found.hops[:, 0]
        return [
            [Hypothesis([place // P, place % P], p, looked[:0]) for place, p in zip(*row, strict=True) if p > -math.inf]
            for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


def network(config: Config, facts: dict[str, Any]) -> Words | Span:
    """The untrained network."""
    coder = Coder(config, facts)
    return Span(config, coder.width) if config.answers == "span" else Words(config, coder.width, len(coder.answers))


def loss(config: Config, network: Any, batch: Batch, carried: None) -> Outcome:
    """Nats of a batch's answers, and how many of each kind are right."""
    nats, right = network.loss(batch)
    B = len(batch.counts)
    sums: Sums = {"nats": nats.detach().double().sum(), "questions": B}
    for task in dict.fromkeys(batch.tasks):
        of_task = torch.tensor([one == task for one in batch.tasks])
        sums |= {f"right {task}": (right.cpu() & of_task).sum().double(), f"all {task}": int(of_task.sum())}
    return Outcome(nats.mean(), B, sums)


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a question, mean accuracy of the kinds, how many kinds pass."""
    each = [*_accuracies(sums).values()]
    passed = sum(share >= 0.95 for share in each)
    return {"loss": sums["nats"] / sums["questions"], "accuracy": sum(each) / len(each), "kinds_passed": passed}


def _accuracies(sums: dict[str, Any]) -> dict[str, float]:
    """Of each kind of question, bAbI's in the order of their numbers."""
    tasks = [name.removeprefix("all ") for name in sums if name.startswith("all ")]
    tasks.sort(key=lambda task: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", task)])
    return {task: float(sums[f"right {task}"]) / sums[f"all {task}"] for task in tasks}


@dataclass(kw_only=True)
class EvaluateOptions:
    """Score each kind of question too."""


def evaluate(model: Model, split: Batches, options: EvaluateOptions) -> dict[str, float]:
    """The scores, and the accuracy of each kind of question."""
    sums = sums_over(model.task, model.config, model.network, split)
    return numbers(model.task, sums) | _accuracies(sums)


# Prediction


@dataclass(kw_only=True)
class PredictOptions:
    """Answer questions: of files, or texts that end in their question."""

    n_best: Count = 1
    """How many answers to give to each."""

    def __post_init__(self) -> None:
        check(self)


@dataclass
class Answer:
    """What was found."""

    question: str
    story: tuple[str, ...]
    answers: list[str]
    """The likeliest first."""
    confidence: list[float]
    """The probability of each."""
    hops: np.ndarray
    """How much each look was at each sentence, and where the answer is written the look that wrote it [K + 1, N]."""

    def __str__(self) -> str:
        seen = self.story[int(self.hops[-1].argmax())]
        best = ", ".join(f"{answer} {p:.1%}" for answer, p in zip(self.answers, self.confidence, strict=True))
        return f"{self.question} {best}  ({seen})"


class Answers(list[Answer]):
    """Those of an input."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[Answers]:
    """Answers to each input: a file, a text that ends in its question, or a dict with context and question."""
    coder = Coder(model.config, model.facts)
    return [_answer(model, coder, _questions(one, bad), options.n_best) for one in inputs]


def _questions(one: Any, bad: BadRecords) -> list[Question]:
    if isinstance(one, Path) or (isinstance(one, str) and one.endswith(questions.SUFFIXES)):
        return questions.read(Path(one), bad, answered=False)
    if not isinstance(one, (str, dict)):
        raise ConveyorError(f"[predict] expected a file, or a text that ends in a question, got {one!r:.40}")
    found = []
    with bad.record():
        found.append(questions.from_text(one) if isinstance(one, str) else questions.from_object(one, "the question"))
    return found


@torch.inference_mode()
def _answer(model: Model, coder: Coder, asked: list[Question], n_best: int) -> Answers:
    network: Any = model.network
    answers, size = Answers(), model.config.training.batch_size
    for first in range(0, len(asked), size):
        some = [question._replace(answer=()) for question in asked[first : first + size]]
        batch = coder.batch([(question, coder.answer(question)) for question in some])
        found = network(*batch[:5])
        for b, (question, best) in enumerate(zip(some, network.answers(batch, found, n_best), strict=True)):
            story = coder.story(question)
            texts = [_said(coder, story, one.tokens) for one in best]
            hops = torch.cat([found.hops[:, b], best[0].weights[:1]])[:, : len(story)].numpy()
            answers.append(Answer(question.question, story, texts, [math.exp(one.score) for one in best], hops))
    return answers


def _said(coder: Coder, story: tuple[str, ...], tokens: list[int]) -> str:
    """An answer in words."""
    if coder.config.answers == "words":
        return ", ".join(coder.answers[token - 1] for token in tokens)
    return " ".join([word for sentence in story for word in WORD.findall(sentence)][tokens[0] : tokens[1] + 1])


def steps(model: Model, input: Any) -> Iterator[Steps]:
    """A story, sentence by sentence, the words of its first, the looks at it, and the first word of the answer."""
    coder, network = Coder(model.config, model.facts), cast(Any, model.network)
    question = _questions(input, BadRecords(False, ""))[0]._replace(answer=())
    batch, story = coder.batch([(question, coder.answer(question))]), coder.story(question)
    found = network(*batch[:5])
    yield Steps([f"{sentence} " for sentence in story])
    yield Steps([f"{word} " for word in WORD.findall(story[0])], of="words")
    yield Steps([f"look {n} " for n in range(1, len(found.hops) + 1)], of="controller")
    if model.config.answers == "words":
        memory, state = network.decoder.remember(found.values, batch.counts), network.decoder.start(found.answer)
        logits = network.decoder(torch.full((1, 1), BOUNDARY), memory, state).logits
        yield Steps([f"{question.question} "], ["⏎", *coder.answers], lambda: logits[:, 0].softmax(-1), of="decoder")


def save(results: list[Answers], path: Path) -> None:
    """A row an answer (.csv), with all looks (.json), or a picture of these (.png)."""
    each = [one for answers in results for one in answers]
    if path.suffix == ".png":
        _draw(path, each)
    elif path.suffix == ".json":
        files.write_json(path, [vars(one) | {"hops": one.hops.round(4).tolist()} for one in each])
    else:
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["question", "rank", "answer", "confidence", "sentence"])
        for one in each:
            seen = one.story[int(one.hops[-1].argmax())]
            for rank, (answer, p) in enumerate(zip(one.answers, one.confidence, strict=True), 1):
                rows.writerow([one.question, rank, answer, f"{p:.4f}", seen])
        files.write(path, table.getvalue().encode())


def _draw(path: Path, answers: Sequence[Answer]) -> None:
    """Sentences down, looks across, and the answer below them."""
    drawn = [
        Alignment([f"look {k + 1}" for k in range(len(one.hops))], [*one.story], one.hops.T)
        for one in answers[:PICTURES]
    ]
    titles = [f"{one.question} {one.answers[0]} ({one.confidence[0]:.0%})" for one in answers[:PICTURES]]
    alignment.draw(path, drawn, titles)


PICTURES = 3
"""Stories in a picture."""


@torch.inference_mode()
def show(model: Model, data: Data, folder: Path) -> str:
    """The accuracy of each kind of question of the test part, and where the reader looked in some stories."""
    each = _accuracies(sums_over(model.task, model.config, model.network, data.test))
    rows = "\n".join(f"| {task} | {share:.1%} |" for task, share in each.items())
    coder, batch = Coder(model.config, model.facts), data.test.batch(0, len(data.test) // 2)
    said = [coder.tokens.decode(batch.sentences[:n, u].tolist()) for u, n in enumerate(batch.lengths.tolist())]
    hops, drawn, asked = model.network(*batch[:5]).hops, [], []
    for b, count in enumerate(batch.counts[:PICTURES].tolist()):
        story = [said[u] for u in batch.story[:count, b].tolist()]
        drawn.append(Alignment([f"look {k + 1}" for k in range(len(hops))], story, hops[:, b, :count].T.numpy()))
        asked.append(said[int(batch.question[b])])
    alignment.draw(folder / "looks.png", drawn, asked)
    return f"The test part:\n\n| questions | right |\n|---|--:|\n{rows}\n\n![Where it looked](looks.png)\n"


def smoke(folder: Path) -> Smoke:
    """Who went where."""
    random = np.random.default_rng(0)
    names, places, lines = ["Ann", "Bob", "Eve"], ["garden", "hall", "attic"], []
    for _ in range(150):
        where: dict[str, str] = {}
        for n in range(1, 4):
            name, place = names[random.integers(3)], places[random.integers(3)]
            where[name] = place
            lines.append(f"{n} {name} went to the {place}.")
        name = [*where][random.integers(len(where))]
        lines.append(f"4 Where is {name}?\t{where[name]}\t1")
    file = folder / "places.txt"
    files.write(file, ("\n".join(lines) + "\n").encode())
    training = TrainingOptions(batch_size=16, epochs=5, learning_rate=0.01)
    config = Config(embedding_size=12, hidden_size=12, reading=ReadingOptions(data=(str(file),)), training=training)
    return Smoke(config, ("Bob went to the hall. Eve went to the attic. Where is Eve?",))
