"""Translation: a sentence in another language.

The task: of a sentence x_1 … x_S write the sentence y_1 … y_T that says the same. An LSTM in both directions reads the
source; an LSTM that looks back at it through attention writes the target, a token at a time (D. Bahdanau, K. Cho &
Y. Bengio 2015, arXiv 1409.0473; M.-T. Luong, H. Pham & C. Manning 2015, 10.18653/v1/D15-1166); beam search finds the
likeliest text. Where nothing is fed back from step to step, all of the decoder runs whole-sequence in training.

    conveyor train translation --data corpus/ --source de --target en
    conveyor evaluate runs/translation/TIME
    conveyor predict runs/translation/TIME "Ein Hund rennt." letter.de -o letter.en.txt

Data: two texts line by line, TSV with a column a language, or TMX; each may be packed (`.gz`). Files of a folder whose
names end in train, valid (val, dev) or test say what is what; anything else is split. Both languages share one
byte-pair vocabulary that is learned on the spot, or have a vocabulary of words each.

Multi30k (D. Elliott et al. 2016, 10.18653/v1/W16-3210), captions of 29,000 pictures, German to English: BLEU 42.4 on
the 1,000 sentences of 2016, 42.6 lower-cased, in 40 minutes on one core; an attentive GRU of 20.5 million weights has
28.1, this has 5.1 million:

    conveyor train translation --data multi30k --matmul-precision medium --max-minutes 40 --threads 1

Scores: `loss`, nats a token of the reference; `perplexity`; `bleu`, sacrebleu's with its own tokenisation (13a), case
and all, `bleu_lower` of the lower-cased texts. While training, texts are written greedily; `conveyor evaluate` searches
with a beam.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from conveyor.data import parallel
from conveyor.data.batches import Batches, pad
from conveyor.data.parallel import Languages, Pair
from conveyor.data.records import BadRecords
from conveyor.data.written import BOUNDARY, NOTHING, Teacher, Written
from conveyor.errors import ConveyorError
from conveyor.nn.attention import coverage_loss
from conveyor.nn.beam_search import Hypothesis
from conveyor.nn.decoder import Decoder, scheduled
from conveyor.nn.encoder import Encoder
from conveyor.nn.seq2seq import Ensemble, Seq2Seq, search
from conveyor.training import alignment, bleu, files
from conveyor.training.alignment import Alignment
from conveyor.training.options import (
    Count,
    Depth,
    NotNegative,
    ReadingOptions,
    Share,
    Size,
    TrainingOptions,
    VariantName,
    check,
)
from conveyor.training.scoring import add, numbers
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps, Sums

UNIT = "tokens"
ENDINGS: tuple[str, ...] = (".txt", ".tsv", ".json", ".png")


@dataclass(kw_only=True)
class Config:
    """Train a translator.

    Data: two texts line by line, TSV, TMX, or a folder of these. Names that end in train, valid, test say what is what;
    anything else is split. --limit counts sentences.
    """

    source: str = "de"
    """The language that is read: the ending of its files, its column in TSV, its code in TMX."""
    target: str = "en"
    """The language that is written."""
    lower_case: bool = False
    """Read and write lower-case letters alone."""
    tokens: Literal["bpe", "word"] = "bpe"
    """What a sentence is cut into: byte-pair pieces, one vocabulary for both languages; or words, one for each."""
    vocabulary: Count = 6_000
    """Most pieces or words told apart."""
    longest: Count = 100
    """Most tokens of a sentence."""
    embedding_size: Size = 256
    """Numbers that stand for a token."""
    hidden_size: Size = 256
    """Units in a layer, of the encoder in each direction."""
    encoder_layers: Depth = 1
    """Layers that read."""
    decoder_layers: Depth = 2
    """Layers that write; the first asks the attention, those above see what it found."""
    attention: Literal["additive", "multiplicative"] = "multiplicative"
    """How places are compared with what is looked for."""
    input_feeding: bool = False
    """Feed what a step read out to the next one: step by step, and slower (Luong et al. 2015)."""
    coverage: NotNegative | None = None
    """Let attention know what it has seen, and punish so strongly that it looks there again (See et al. 2017)."""
    copy_source: bool = False
    """Let the decoder copy pieces of the source (See et al. 2017); only with --tokens bpe."""
    scheduled_sampling: Share = 0.0
    """Share of what the decoder reads in training that it wrote itself (Bengio et al. 2015)."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    dropout: Share = 0.3
    """Share dropped of embeddings, between layers, and of outputs."""
    label_smoothing: Share = 0.1
    """Share of the probability that training spreads over all tokens."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            batch_size=64, epochs=20, learning_rate=0.002, schedule="cosine", clip_norm=1.0, average="ema"
        )
    )

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        if self.vocabulary < (257 if self.tokens == "bpe" else 4):
            yield f"--vocabulary: too small for --tokens {self.tokens}, got {self.vocabulary}"
        if self.copy_source and self.tokens == "word":
            yield "--copy-source: expected --tokens bpe, since words of two languages have no number in common"
        if self.source == self.target:
            yield f"--source and --target: expected two languages, got {self.source} twice"


# Reading


class Batch(NamedTuple):
    """Sentences side by side; time goes first."""

    sources: Tensor
    """[S, B]"""
    lengths: Tensor
    """Tokens of each [B]."""
    teacher: Teacher
    references: list[str]
    """The translations as they were given."""
    target: Written
    """What makes texts of what is written."""


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read the pairs of each part; the vocabulary is that of the training part, or of `facts`."""
    reading = config.reading
    if not reading.data:
        raise ConveyorError("[data] nothing to read; name files with --data")
    bad, paths = BadRecords(reading.skip_bad), [Path(path) for path in reading.data]
    languages = Languages(config.source, config.target)
    parts = parallel.read_parts(paths, languages, bad, reading.valid_share, reading.test_share)
    train, valid, test = (part[: reading.limit] for part in parts[:3])
    coder = Coder(config, facts) if facts else Coder.learn(config, train)
    splits = coder.batches(train, bad, config.training.seed), coder.batches(valid, bad), coder.batches(test, bad)
    counts = " + ".join(f"{len(part.lengths):,}" for part in splits)
    summary = (
        f"{counts} sentences to train, validate, test ({parts.test_name or 'split off'}); {len(coder.target):,} tokens"
    )
    return Data(*splits, coder.facts, summary + bad.summary())


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other pairs: the first test corpus of a folder, or all that is given."""
    languages = Languages(config.source, config.target)
    corpora = languages.find([Path(path) for path in data])
    chosen = [one for one in corpora if one.part == "test"][:1] or corpora
    return Coder(config, facts).batches([pair for one in chosen for pair in languages.read(one, bad)], bad)


class Coder:
    """What makes numbers of sentences, and sentences of numbers."""

    def __init__(self, config: Config, facts: dict[str, Any]) -> None:
        self.config, self.facts = config, facts
        self.source = Written.from_json(facts.get("source"))
        self.target = self.source if facts.get("target") is None else Written.from_json(facts["target"])
        unseen = facts.get("unseen")
        if not isinstance(unseen, list) or not all(isinstance(n, int) for n in unseen):
            raise ConveyorError("[model] unseen: expected a list of token numbers; copy the model's file again")
        self.unseen: list[int] = unseen

    @classmethod
    def learn(cls, config: Config, pairs: Sequence[Pair]) -> Coder:
        """With the vocabulary of pairs."""
        sides = [[_cased(config, text) for text in side] for side in list(zip(*pairs, strict=True))[:2]]
        joint = [sides[0] + sides[1]] if config.tokens == "bpe" else sides
        learned = [Written.learn(config.tokens, side, config.vocabulary) for side in joint]
        seen = np.unique(np.concatenate([learned[0].encode(text) for text in sides[0]]))
        unseen = np.setdiff1d(np.arange(1, len(learned[0])), seen).tolist()
        described = [one.to_json() for one in learned]
        target = described[1] if len(described) > 1 else None
        return cls(config, {"source": described[0], "target": target, "unseen": unseen + learned[0].never})

    def read(self, text: str, where: str) -> np.ndarray:
        """A sentence to be translated; one in a language never seen, or too long, is a mistake."""
        if not text.strip():
            raise ConveyorError(f"[data] {where}: expected a sentence, got an empty one")
        numbers = self.source.encode(_cased(self.config, text))
        self._check(numbers, where)
        unseen = np.isin(numbers, self.unseen).mean()
        if unseen > 0.5:
            raise ConveyorError(
                f"[data] {where}: expected {self.config.source}, as trained on, got {text[:40]!r}; {unseen:.0%} of its "
                "tokens never occurred in training"
            )
        return numbers

    def _check(self, numbers: np.ndarray, where: str) -> None:
        if not 0 < len(numbers) <= self.config.longest:
            raise ConveyorError(
                f"[data] {where}: expected 1 to {self.config.longest} tokens (--longest), got {len(numbers):,}; "
                "split it into sentences"
            )

    def batches(self, pairs: Sequence[Pair], bad: BadRecords, seed: int | None = None) -> Batches:
        """Batches of pairs."""
        rows = []
        for pair in pairs:
            with bad.record():
                reference = _cased(self.config, pair.target)
                source, target = self.source.encode(_cased(self.config, pair.source)), self.target.encode(reference)
                self._check(source, pair.where)
                self._check(target, pair.where)
                rows.append((source, target, reference))
        if not rows:
            raise ConveyorError(f"[data] expected pairs of sentences, got none{bad.summary()}")

        def collate(chosen: np.ndarray) -> Batch:
            sources, targets, references = zip(*(rows[n] for n in chosen), strict=True)
            lengths = torch.tensor([len(row) for row in sources])
            return Batch(torch.from_numpy(pad(sources)), lengths, Teacher.of(targets), list(references), self.target)

        return Batches(
            [len(source) + len(target) for source, target, _ in rows], self.config.training.batch_size, collate, seed
        )


def _cased(config: Config, text: str) -> str:
    return text.strip().lower() if config.lower_case else text.strip()


# Network and loss


def network(config: Config, facts: dict[str, Any]) -> Seq2Seq:
    """The untrained network; one vocabulary has one embedding."""
    coder, E, H = Coder(config, facts), config.embedding_size, config.hidden_size
    encoder = Encoder(E, H, config.encoder_layers, config.dropout, len(coder.source), config.variant)
    decoder = Decoder(
        len(coder.target),
        E,
        H,
        encoder.value_size,
        encoder.value_size,
        layers=config.decoder_layers,
        attention=config.attention,
        input_feeding=config.input_feeding,
        coverage=config.coverage is not None,
        copy=config.copy_source,
        dropout=config.dropout,
        variant=config.variant,
    )
    if coder.source is coder.target:
        encoder.embedding = decoder.embedding
    return Seq2Seq(encoder, decoder)


def ensemble(networks: Sequence[nn.Module]) -> nn.Module:
    """Several trained networks as one."""
    return Ensemble(networks)


def loss(config: Config, network: nn.Module, batch: Batch, carried: None) -> Outcome:
    """Cross-entropy of the references; in validation and test also what is written greedily."""
    if not network.training:
        nats, count = _nats(network, batch)
        return Outcome(nats / count, count, _bleu(network, batch) | {"nats": nats, "tokens": count})
    inputs, targets = batch.teacher
    count = int((targets != NOTHING).sum())
    if config.scheduled_sampling:
        with torch.no_grad():
            logits = network(batch.sources, batch.lengths, inputs).logits
        inputs = scheduled(inputs, logits, config.scheduled_sampling)
    decoded = network(batch.sources, batch.lengths, inputs)
    nats = cross_entropy(decoded.logits.flatten(0, 1), targets.flatten(), label_smoothing=config.label_smoothing)
    sums: Sums = {"nats": nats.detach().double() * count, "tokens": count}
    if config.coverage:
        nats = nats + config.coverage * coverage_loss(decoded.weights)[targets != NOTHING].mean()
    return Outcome(nats, count, sums)


def _nats(network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """What the references come to, and their tokens."""
    inputs, targets = batch.teacher
    logits = network(batch.sources, batch.lengths, inputs).logits.double()
    nats = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    return nats, int((targets != NOTHING).sum())


def _bleu(network: nn.Module, batch: Batch, beam: int = 1, length_penalty: float = 0.0) -> Sums:
    """What BLEU counts of the translations that are found."""
    found = _search(network, batch.sources, batch.lengths, batch.target, beam, length_penalty)
    written = [batch.target.decode(best.tokens) for best, *_ in found]
    return {
        "bleu": bleu.counts(written, [batch.references]),
        "bleu_lower": bleu.counts(written, [batch.references], lowercase=True),
    }


def _search(
    network: nn.Module, sources: Tensor, lengths: Tensor, target: Written, beam: int, penalty: float, n_best: int = 1
) -> list[list[Hypothesis]]:
    """Translations of at most twice as many tokens as the longest source has, and ten."""
    return search(
        network,
        sources,
        lengths,
        start=BOUNDARY,
        end=BOUNDARY,
        width=beam,
        longest=2 * len(sources) + 10,
        length_penalty=penalty,
        n_best=n_best,
        never=target.never,
    )


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a token, perplexity, BLEU where something was written."""
    nats = sums["nats"] / sums["tokens"]
    return {"loss": nats, "perplexity": math.exp(min(nats, 700))} | {
        name: bleu.score(sums[name]) for name in ("bleu", "bleu_lower") if name in sums
    }


@dataclass(kw_only=True)
class EvaluateOptions:
    """Score translations found by beam search."""

    beam: Count = 5
    """Texts that are followed side by side; 1 is greedy."""
    length_penalty: NotNegative = 1.0
    """How strongly longer texts are favoured: the exponent of Wu et al. 2016, (14)."""

    def __post_init__(self) -> None:
        check(self)


def evaluate(model: Model, split: Batches, options: EvaluateOptions) -> dict[str, float]:
    """Scores with translations found by beam search."""
    model.network.eval()
    sums: Sums = {}
    for index in range(len(split)):
        batch = split.batch(0, index)
        with torch.inference_mode():
            nats, count = _nats(model.network, batch)
        found = _bleu(model.network, batch, options.beam, options.length_penalty)
        sums = add(sums, found | {"nats": nats, "tokens": count})
    return numbers(model.task, sums)


# Prediction


@dataclass(kw_only=True)
class PredictOptions:
    """Translate: sentences, or files with one a line."""

    beam: Count = 5
    """Texts that are followed side by side; 1 is greedy."""
    length_penalty: NotNegative = 1.0
    """How strongly longer texts are favoured: the exponent of Wu et al. 2016, (14)."""
    n_best: Count = 1
    """How many translations of each sentence to give."""

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        if self.n_best > self.beam:
            yield f"--n-best: expected at most --beam, {self.beam}, got {self.n_best}"


@dataclass
class Translation:
    """A sentence in the other language."""

    source: str
    texts: list[str]
    """The likeliest first."""
    scores: list[float]
    """log p of each over its length penalty."""
    alignments: list[Alignment]
    """Where the decoder looked as it wrote each."""

    def __str__(self) -> str:
        if len(self.texts) == 1:
            return self.texts[0]
        return "\n".join(f"{score:8.3f}  {text}" for text, score in zip(self.texts, self.scores, strict=True))


class Translations(list[Translation]):
    """Those of an input."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[Translations]:
    """Translations of each input: a sentence, or a file with one a line."""
    coder = Coder(model.config, model.facts)
    return [_translate(model, coder, _sentences(coder, one, bad), options) for one in inputs]


def _sentences(coder: Coder, one: Any, bad: BadRecords) -> list[tuple[str, np.ndarray]]:
    """The sentences of an input, and their tokens."""
    if not isinstance(one, (str, Path)):
        raise ConveyorError(f"[predict] expected a sentence, or a file with one a line, got {one!r:.40}")
    is_file = isinstance(one, Path) or (len(one) < 256 and Path(one).is_file())
    texts = parallel.lines(Path(one)) if is_file else [str(one)]
    found = []
    for n, text in enumerate(texts, 1):
        with bad.record():
            found.append((text, coder.read(text, f"{one}:{n}" if is_file else "the sentence")))
    return found


@torch.inference_mode()
def _translate(
    model: Model, coder: Coder, sentences: list[tuple[str, np.ndarray]], options: PredictOptions
) -> Translations:
    """In batches of like lengths; the translations in the order of the sentences."""
    size, order = model.config.training.batch_size, sorted(range(len(sentences)), key=lambda n: -len(sentences[n][1]))
    found: dict[int, list[Hypothesis]] = {}
    for first in range(0, len(order), size):
        some = order[first : first + size]
        rows = [sentences[n][1] for n in some]
        lengths = torch.tensor([len(row) for row in rows])
        sources = torch.from_numpy(pad(rows))
        each = _search(
            model.network, sources, lengths, coder.target, options.beam, options.length_penalty, options.n_best
        )
        found |= dict(zip(some, each, strict=True))
    return Translations(_translation(coder, *sentences[n], found[n]) for n in range(len(sentences)))


def _translation(coder: Coder, source: str, numbers: np.ndarray, found: list[Hypothesis]) -> Translation:
    read = coder.source.pieces(numbers.tolist())
    aligned = []
    for one in found:
        written = coder.target.pieces([*one.tokens, BOUNDARY])[: len(one.weights)]
        aligned.append(Alignment(read, written, one.weights[:, : len(read)].numpy()))
    return Translation(
        source, [coder.target.decode(one.tokens) for one in found], [one.score for one in found], aligned
    )


def steps(model: Model, input: Any) -> Iterator[Steps]:
    """A sentence, token by token, and its translation as it is written greedily."""
    coder = Coder(model.config, model.facts)
    (_, numbers), *_ = _sentences(coder, input, BadRecords(False, ""))
    sources, lengths = torch.from_numpy(numbers)[:, None], torch.tensor([len(numbers)])
    [[best]] = _search(model.network, sources, lengths, coder.target, 1, 0.0)
    read = torch.tensor([[BOUNDARY, *best.tokens]]).T[: len(best.weights)]
    yield Steps(coder.source.said(numbers.tolist()), of="encoder")
    yield Steps(
        coder.target.said(read[:, 0].tolist()),
        coder.target.pieces(range(len(coder.target))),
        lambda: model.network(sources, lengths, read).logits[:, 0].softmax(-1),
    )


def save(results: list[Translations], path: Path) -> None:
    """The best of each, a line each (.txt); all with their scores (.tsv); with alignments (.json); a picture (.png)."""
    each = [one for translations in results for one in translations]
    if path.suffix == ".png":
        alignment.draw(path, [one.alignments[0] for one in each[:PICTURES]])
        return
    if path.suffix == ".json":
        files.write_json(path, [_described(one) for one in each])
        return
    lines = [one.texts[0] for one in each]
    if path.suffix == ".tsv":
        lines = ["source\trank\tscore\ttranslation"] + [
            f"{one.source}\t{rank}\t{score:.4f}\t{text}"
            for one in each
            for rank, (text, score) in enumerate(zip(one.texts, one.scores, strict=True), 1)
        ]
    files.write(path, ("\n".join(lines) + "\n").encode())


def _described(one: Translation) -> dict[str, Any]:
    """As JSON."""
    translations = [
        {"text": text, "score": score, "tokens": list(seen.written), "weights": seen.weights.round(4).tolist()}
        for text, score, seen in zip(one.texts, one.scores, one.alignments, strict=True)
    ]
    return {"source": one.source, "tokens": list(one.alignments[0].read), "translations": translations}


PICTURES = 4
"""Alignments in a picture."""


def show(model: Model, data: Data, folder: Path) -> str:
    """Sentences of the test part, their translations and references, and where the decoder looked."""
    coder, batch = Coder(model.config, model.facts), data.test.batch(0, len(data.test) // 2)
    rows = [batch.sources[:length, n].numpy() for n, length in enumerate(batch.lengths.tolist())]
    chosen = [(coder.source.decode(row.tolist()), row) for row in rows[:8]]
    found = _translate(model, coder, chosen, PredictOptions())
    alignment.draw(folder / "alignment.png", [one.alignments[0] for one in found[:PICTURES]])
    lines = [
        f"| {one.source} | {one.texts[0]} | {reference} |".replace("\n", " ")
        for one, reference in zip(found, batch.references, strict=False)
    ]
    table = "\n".join(["| source | translation | reference |", "|---|---|---|", *lines])
    return f"Sentences of the test part:\n\n{table}\n\n![Where the decoder looked](alignment.png)\n"


def smoke(folder: Path) -> Smoke:
    """Numbers in words of two made-up languages, of which one turns the order round."""
    random = np.random.default_rng(0)
    words = [("ba", "one"), ("do", "two"), ("ki", "three"), ("lu", "four"), ("me", "five")]
    lines = []
    for _ in range(300):
        said = [words[n] for n in random.integers(len(words), size=random.integers(1, 5))]
        lines.append(" ".join(left for left, _ in said) + "\t" + " ".join(right for _, right in said[::-1]))
    file = folder / "numbers.tsv"
    files.write(file, ("\n".join(lines) + "\n").encode())
    training = TrainingOptions(batch_size=32, epochs=6, learning_rate=0.01)
    config = Config(
        source="ba", target="en", tokens="word", embedding_size=16, hidden_size=16, dropout=0.0,
        reading=ReadingOptions(data=(str(file),)), training=training,
    )  # fmt: skip
    return Smoke(config, ("ba do ki", "lu me"))
