"""Language model: the next character, word or piece of a text.

The task, as in T. Mikolov et al. 2010 (Recurrent neural network based language model), W. Zaremba et al. 2014
(arXiv 1409.2329) and A. Karpathy et al. 2015 (arXiv 1506.02078): read a text token by token and give each token that
may come next its probability. Training is truncated back-propagation: the text lies in `batch_size` streams side by
side, windows of `sequence_length` steps follow each other, and the state is carried from one to the next.

    conveyor train language-model --data book.txt
    conveyor evaluate runs/language-model/TIME
    conveyor predict runs/language-model/TIME "For his contributions, brave"

Data: any UTF-8 text, files or folders; without --data, the text that every Python carries.

Penn Treebank, words, the small model of Zaremba et al. (test perplexity about 114.5):

    conveyor train language-model --data ptb --tokens word --embedding-size 200 --hidden-size 200 --layers 2
        --batch-size 20 --sequence-length 20 --loss-scale sum --init-range 0.1 --forget-bias None --optimizer sgd
        --learning-rate 1 --schedule decay --decay-factor 0.5 --decay-after 4 --clip-norm 5 --epochs 13

War and Peace, characters, Karpathy et al. 2x128 (test 1.227 nats a character):

    conveyor train language-model --data warpeace_input.txt --embedding-size 128 --hidden-size 128 --layers 2
        --batch-size 100 --sequence-length 100 --init-range 0.08 --forget-bias None --optimizer rmsprop --smoothing 0.95
        --learning-rate 0.002 --schedule decay --decay-factor 0.95 --decay-after 10 --epochs 50 --patience 5

Penn Treebank, words, 2x200 with tied weights and variational dropout (Inan et al. 2016: test perplexity 85 to 90);
where the processor has no bfloat16, leave out --arithmetic. Then with a neural cache (Grave et al. 2017), whose two
numbers are chosen on the validation part:

    conveyor train language-model --data ptb --tokens word --embedding-size 200 --hidden-size 200 --layers 2 --tied
        --variational --dropout-input 0.2 --dropout-between 0.2 --dropout-output 0.2 --batch-size 20
        --sequence-length 35 --arithmetic bfloat16 --optimizer sgd --learning-rate 20 --schedule cosine --clip-norm 0.25
        --epochs 16
    conveyor evaluate runs/language-model/TIME --cache 500

Other means of the literature: --dropout-weights with --optimizer sgd --average trigger (Merity et al. 2018, AWD-LSTM),
--softmaxes 10 (Yang et al. 2018), --cutoffs 2000 10000 for large vocabularies (Grave et al. 2017).

Scores: `loss`, cross-entropy in nats a token; `perplexity`, its exponential; `bits_per_character`. The first token of
each part is given, every other one is predicted exactly once. The test part is read as one stream, its state beginning
at zero.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from conveyor.data import python_text, text, tokenizer
from conveyor.data.records import BadRecords
from conveyor.data.streams import Batch, Streams
from conveyor.data.tokenizer import Tokenizer
from conveyor.errors import ConveyorError
from conveyor.interchange import modules
from conveyor.interchange.graph import Graph
from conveyor.nn import LSTM, neural_cache
from conveyor.nn.ensemble import Ensemble
from conveyor.nn.regularisation import VariationalDropout, VariationalLSTM, word_dropout
from conveyor.nn.sampling import draw
from conveyor.nn.softmaxes import Softmax, output_layer
from conveyor.training import files
from conveyor.training.options import (
    Count,
    Depth,
    NotNegative,
    Number,
    Positive,
    ReadingOptions,
    Share,
    Size,
    TrainingOptions,
    VariantName,
    Whole,
    check,
)  # fmt: skip
from conveyor.training.scoring import score
from conveyor.training.task import STRETCH, Data, Model, Outcome, Smoke, Split, Steps, Sums
from conveyor.variant import variant_named

UNIT = "tokens"
TYPED = True
ENDINGS: tuple[str, ...] = (".txt", ".json")
TEST_WINDOW = 1000
"""Steps computed at once where one stream is read and no gradient is wanted; the scores do not depend on it."""

State = tuple[Tensor, Tensor]


@dataclass(kw_only=True)
class Config:
    """Train a language model.

    Data: UTF-8 text, files or folders. A folder with *.train.txt, *.valid.txt and *.test.txt is taken as split so; any
    other text is cut in order. Without data, the text that every Python carries. --limit counts lines.
    """

    tokens: Literal["char", "word", "bpe"] = "char"
    """What is predicted: characters, words, or byte-pair pieces."""
    vocabulary: Count = 10_000
    """Most words or pieces told apart; characters are all told apart."""
    embedding_size: Size = 128
    """Numbers that stand for a token."""
    hidden_size: Size = 256
    """Units in a layer."""
    layers: Depth = 2
    """Layers, one upon the other."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    tied: bool = False
    """Let the output layer share the embedding's weights (Inan et al. 2016, Press & Wolf 2017)."""
    softmaxes: Count = 1
    """Mix the probabilities of so many softmaxes (Yang et al. 2018)."""
    cutoffs: tuple[Count, ...] = ()
    """For large vocabularies: ranks at which clusters of rarer words begin, each with a smaller softmax of its own that
    is asked only if need be (Grave et al. 2017)."""
    dropout_words: Share = 0.0
    """Share of the words left out of the input, each in the whole of a window (Gal & Ghahramani 2016)."""
    dropout_input: Share = 0.0
    """Share of the embedding's numbers dropped."""
    dropout_between: Share = 0.0
    """Share dropped between layers."""
    dropout_output: Share = 0.0
    """Share dropped before the output layer."""
    variational: bool = False
    """Let these three drop the same numbers at every step of a window (Gal & Ghahramani 2016)."""
    dropout_state: Share = 0.0
    """Share of h_{t-1} dropped in the recurrent product, the same at every step of a window (the same)."""
    dropout_weights: Share = 0.0
    """Share of the recurrent weights dropped, drawn for each window (Merity et al. 2018)."""
    init_range: Positive | None = None
    """Draw every weight from ± this; if not given, as torch does, and a tied embedding from ±0.1."""
    forget_bias: Number | None = 1.0
    """Bias of the forget gates at the start, where there are some (Jozefowicz et al. 2015); None leaves it as drawn, or
    to the variant."""
    sequence_length: Count = 100
    """Steps of back-propagation through time."""
    loss_scale: Literal["mean", "sum"] = "mean"
    """Loss of a window: the mean over its steps, or their sum, as Zaremba et al. have it; learning rate and clip norm
    are on that scale."""
    arithmetic: Literal["float32", "bfloat16"] = "float32"
    """Of training; bfloat16 is faster on processors that have it. Weights, and all scores, are float32."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(default_factory=lambda: TrainingOptions(batch_size=64))

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        if self.tied and self.softmaxes == 1 and self.embedding_size != self.hidden_size:
            yield "--tied: expected --embedding-size as large as --hidden-size, or --softmaxes 2 or more"
        if self.cutoffs:
            yield from self._conflicts_of_cutoffs(self.cutoffs)
        if self.tokens == "bpe" and self.vocabulary < 256:
            yield f"--vocabulary: expected 256 or more with --tokens bpe, got {self.vocabulary}"
        if self.tokens == "word" and self.vocabulary < 3:
            yield f"--vocabulary: expected 3 or more with --tokens word, got {self.vocabulary}"

    def _conflicts_of_cutoffs(self, cutoffs: tuple[int, ...]) -> Iterator[str]:
        if list(cutoffs) != sorted({*cutoffs}) or cutoffs[-1] >= self.vocabulary:
            yield f"--cutoffs: expected rising numbers below --vocabulary {self.vocabulary}, got {[*cutoffs]}"
        if 4 ** len(cutoffs) > self.hidden_size:
            yield "--cutoffs: expected fewer, or a larger --hidden-size; each cluster has a quarter of the one before"
        if self.tokens != "word":
            yield "--cutoffs: expected --tokens word, which are numbered from the most frequent on"
        if self.tied:
            yield "--cutoffs: expected no --tied; a cluster's weights are smaller than the embedding's"
        if self.softmaxes > 1:
            yield "--cutoffs: expected no --softmaxes beside it; take one of both"


# Reading


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read and split the text; its vocabulary is that of the training part, or of `facts`."""
    parts = read_parts(config)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    if facts is None:
        learned = tokenizer.learn(config.tokens, parts.train, config.vocabulary)
        facts = {"tokenizer": learned.to_json(), "sha256": digest}
    elif facts.get("sha256") != digest:
        raise ConveyorError("[data] the text is not the one this run was trained on; restore it, or start a new run")
    tokens = tokenizer.from_json(facts.get("tokenizer"))
    T, B = config.sequence_length, config.training.batch_size
    more = "raise --limit" if config.reading.limit else "give more text"
    smaller = f"{more}, or lower --batch-size or --sequence-length"
    train = streams(parts.train, tokens, B, T, "the training part", smaller, at_least=B * T + 1)
    valid = streams(parts.valid, tokens, B, T, "the validation part", "raise --valid-share")
    test = streams(parts.test, tokens, 1, TEST_WINDOW, "the test part", "raise --test-share")
    count = " + ".join(f"{sum(part.tokens):,}" for part in (train, valid, test))
    return Data(train, valid, test, facts, f"{count} tokens to train, validate, test; {len(tokens):,} different")


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Streams:
    """Another text, or the test part of a folder that says what is what, as one stream."""
    content = text.read_test([Path(path) for path in data])
    return streams(content, tokenizer.from_json(facts.get("tokenizer")), 1, TEST_WINDOW, "the text", "give more")


def read_parts(config: Config) -> text.Parts:
    """The three texts."""
    reading = config.reading
    if reading.data:
        parts = text.read_parts([Path(path) for path in reading.data], reading.valid_share, reading.test_share)
    else:
        parts = text.cut(python_text.read(), reading.valid_share, reading.test_share)
    return text.Parts(*(text.first_lines(part, reading.limit) for part in parts))


def streams(
    content: str, tokens: Tokenizer, count: int, length: int, name: str, remedy: str, at_least: int = 2
) -> Streams:
    """A text as `count` streams, or as many as it has tokens for."""
    ids = torch.from_numpy(tokens.encode(content))
    if len(ids) < at_least:
        raise ConveyorError(
            f"[data] {name} is shorter than one batch: expected {at_least:,} tokens or more, got {len(ids):,}; {remedy}"
        )
    return Streams(ids, min(count, len(ids) - 1), length, len(content))


# Network and loss


class Network(nn.Module):
    """Embedding, stacked LSTM and a softmax over the vocabulary; time goes first."""

    def __init__(self, config: Config, vocabulary: int) -> None:
        super().__init__()
        E, H = config.embedding_size, config.hidden_size
        self.embedding = nn.Embedding(vocabulary, E)
        self.lstm = lstm(config)
        self.output = output_layer(H, E, vocabulary, config.softmaxes, config.cutoffs)
        dropout = VariationalDropout if config.variational else nn.Dropout
        self.dropout_words = config.dropout_words
        self.dropout_input = dropout(config.dropout_input)
        self.dropout_output = dropout(config.dropout_output)
        if config.tied:
            self.output.weight = self.embedding.weight
        self._draw(config)

    def _draw(self, config: Config) -> None:
        if config.tied:
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        if config.init_range:
            for name, weight in self.named_parameters():
                if "norm_" not in name and "bias_c" not in name:
                    nn.init.uniform_(weight, -config.init_range, config.init_range)
        self.lstm.reset_forget_bias()

    def read(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Tokens [T, B] and a state to what the output layer sees [T, B, H], and the next state."""
        embedded = word_dropout(self.embedding, tokens, self.dropout_words, self.training)
        hidden, state = self.lstm(self.dropout_input(embedded), state)
        return self.dropout_output(hidden), state

    def forward(
        self, tokens: Tensor, state: State | None = None, targets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits [T, B, V], or with targets [T, B] the -log of their probabilities [T, B], and the next state."""
        hidden, state = self.read(tokens, state)
        return self.output(hidden) if targets is None else self.output.nats(hidden, targets), state


def lstm(config: Config) -> LSTM:
    """The recurrent layers."""
    named = variant_named(config.variant)
    variant = dataclasses.replace(
        named,
        variational_dropout=config.dropout_state or named.variational_dropout,
        weight_dropout=config.dropout_weights or named.weight_dropout,
    )
    kind = VariationalLSTM if config.variational else LSTM
    return kind(
        config.embedding_size,
        config.hidden_size,
        config.layers,
        dropout=config.dropout_between if config.layers > 1 else 0.0,
        variant=config.variant if variant == named else variant,
        forget_bias=config.forget_bias if "f" in named.gates else None,
    )


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network for a vocabulary."""
    return Network(config, len(tokenizer.from_json(facts.get("tokenizer"))))


def graph(model: Model) -> Graph:
    """Tokens to logits of the next, by the plain softmax."""
    network = modules.expect(model.network, Network)
    output = modules.expect(network.output, Softmax, "--softmaxes and --cutoffs make")
    graph = Graph(tokens=network.embedding.num_embeddings)
    modules.linear(graph, modules.recurrent(graph, modules.embedding(graph, network.embedding), network.lstm), output)
    return graph


def ensemble(networks: Sequence[nn.Module]) -> Ensemble:
    """Several trained networks as one."""
    return Ensemble(networks)


def loss(config: Config, network: nn.Module, batch: Batch, carried: State | None) -> Outcome:
    """Cross-entropy of a window, and the state to begin the next one with."""
    short = config.arithmetic == "bfloat16" and network.training
    with torch.autocast(batch.inputs.device.type, torch.bfloat16, enabled=short):
        each, state = network(batch.inputs, carried, batch.targets)
    nats = each.sum()
    divisor = batch.tokens if config.loss_scale == "mean" else batch.inputs.shape[1]
    sums: Sums = {"nats": nats.detach().double(), "tokens": batch.tokens, "characters": batch.characters}
    return Outcome(nats / divisor, divisor, sums, tuple(part.detach() for part in state))


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a token, perplexity, bits a character."""
    nats = sums["nats"] / sums["tokens"]
    return {
        "loss": nats,
        "perplexity": math.exp(min(nats, 700.0)),
        "bits_per_character": sums["nats"] / sums["characters"] / math.log(2),
    }


# Evaluation


@dataclass(kw_only=True)
class EvaluateOptions:
    """Score a language model as it is, or with a memory of what it just read."""

    cache: Whole = 0
    """Tokens a neural cache remembers (Grave et al. 2017); 0 for none."""
    cache_flatness: NotNegative | None = None
    """How much the likeness of states counts in it, θ; chosen on the run's validation part if not given."""
    cache_share: Share | None = None
    """The cache's share of the probabilities, λ; chosen on the run's validation part if not given."""

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        if not self.cache and (self.cache_flatness is not None or self.cache_share is not None):
            yield "--cache-flatness, --cache-share: expected --cache, the tokens to remember, beside them"


def evaluate(model: Model, split: Streams, options: EvaluateOptions) -> dict[str, float]:
    """Scores of a text that is read once; all choices are made before, on the run's validation part."""
    if not options.cache:
        return score(model.task, model.config, model.network, split)
    theta = neural_cache.FLATNESS if options.cache_flatness is None else (options.cache_flatness,)
    share = neural_cache.SHARE if options.cache_share is None else (options.cache_share,)
    if len(theta) * len(share) > 1:
        one_stream = dataclasses.replace(model.config.training, batch_size=1)
        valid = read(dataclasses.replace(model.config, training=one_stream), model.facts).valid
        theta, share = neural_cache.best(model.network, windows(valid), options.cache, theta, share)
    nats = neural_cache.total(model.network, windows(split), options.cache, theta, share).item()
    tokens = sum(split.tokens)
    sums = {"nats": nats, "tokens": tokens, "characters": tokens * split.characters_per_token}
    return scores(sums) | {"cache_flatness": theta[0], "cache_share": share[0]}


def windows(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets, in order."""
    return ((batch.inputs, batch.targets) for batch in (split.batch(0, index) for index in range(len(split))))


# Prediction


@dataclass(kw_only=True)
class PredictOptions:
    """Continue a text."""

    length: Whole = 200
    """Tokens to go on with."""
    temperature: NotNegative = 0.8
    """Below 1 the likely becomes likelier; 0 always takes the likeliest."""
    top_k: Whole = 0
    """Choose among this many likeliest tokens; 0 for all."""
    top_p: Positive = 1.0
    """Choose among the likeliest tokens that together have this probability (Holtzman et al. 2020)."""
    seed: Whole = 1
    """Start of the random numbers."""
    show: Whole = 8
    """How many next tokens to list."""

    def __post_init__(self) -> None:
        check(self)


@dataclass
class Continuation:
    """What comes after a text."""

    prompt: str
    next: list[tuple[str, float]]
    """The most probable next tokens and their probabilities."""
    text: str
    """The prompt and one continuation."""

    def __str__(self) -> str:
        rows = [f"  {probability:7.2%}  {token!r}" for token, probability in self.next]
        return "\n".join([f"after {self.prompt!r} comes", *rows, "", self.text])


def predict(model: Model, inputs: Sequence[str], options: PredictOptions, bad: BadRecords) -> list[Continuation]:
    """Continue each text."""
    tokens = tokenizer.from_json(model.facts.get("tokenizer"))
    return [_continue(model.network, tokens, prompt, options) for prompt in inputs]


@torch.inference_mode()
def _continue(network: nn.Module, tokens: Tokenizer, prompt: str, options: PredictOptions) -> Continuation:
    ids = tokens.encode(prompt).tolist()
    if not ids:
        raise ConveyorError("[predict] the text to continue is empty; give at least one token")
    generator = torch.Generator().manual_seed(options.seed)
    logits, state = network(torch.tensor(ids).unsqueeze(1))
    best, places = logits[-1, 0].softmax(0).topk(min(options.show, len(tokens)))
    following = [(tokens.decode([i]), p) for i, p in zip(places.tolist(), best.tolist(), strict=True)]
    read = tokens.decode(ids)  # the prompt, but for what the vocabulary does not know
    for _ in range(options.length):
        ids.append(draw(logits[-1, 0], generator, options.temperature, options.top_k, options.top_p))
        logits, state = network(torch.tensor([[ids[-1]]]), state)
    return Continuation(prompt, following, prompt + tokens.decode(ids).removeprefix(read))


@torch.inference_mode()
def steps(model: Model, input: str) -> Iterator[Steps]:
    """A text, token by token; at each the next one is expected."""
    tokens = tokenizer.from_json(model.facts.get("tokenizer"))
    ids, state = torch.from_numpy(tokens.encode(input)), None
    if not len(ids):
        raise ConveyorError("[inspect] the text is empty; give at least one token")
    names = [tokens.decode([i]) for i in range(len(tokens))]
    # A character is what it is, even if the model never saw it; words and pieces are what the model makes of them.
    read = [*input] if isinstance(tokens, tokenizer.Characters) else [names[i] for i in ids.tolist()]
    for first in range(0, len(ids), STRETCH):
        last, before = first + STRETCH, state
        logits, state = model.network(ids[first:last].unsqueeze(1), before)
        after = ids[first + 1 : last + 1]
        came = torch.full((len(logits),), torch.nan)
        came[: len(after)] = logits[: len(after), 0].softmax(-1).gather(1, after[:, None])[:, 0]
        yield Steps(read[first:last], names, partial(_next, model.network, ids[first:last], before), came.numpy())


@torch.inference_mode()
def _next(network: nn.Module, ids: Tensor, state: State | None) -> Tensor:
    """The probabilities [n, V] of what comes next behind each token."""
    logits, _ = network(ids.unsqueeze(1), state)
    p: Tensor = logits[:, 0].softmax(-1)
    return p


def save(results: list[Continuation], path: Path) -> None:
    """The texts, a blank line between two; as `.json` all that is known of them."""
    if path.suffix == ".json":
        files.write_json(path, [dataclasses.asdict(result) for result in results])
    else:
        files.write(path, "\n\n".join(result.text for result in results).encode() + b"\n")


def show(model: Model, data: Data, folder: Path) -> str:
    """Three samples, from careful to free."""
    samples = []
    for temperature in (0.5, 0.8, 1.0):
        [sample] = model.predict("\n", length=300, temperature=temperature)
        samples.append(f"Temperature {temperature}:\n\n```text\n{sample.text.strip()}\n```\n")
    return "\n".join(samples)


def smoke(folder: Path) -> Smoke:
    """One sentence over and over."""
    file = folder / "text.txt"
    files.write(file, b"Bob is a nice person. Dan, on the other hand, is evil.\n" * 100)
    training = TrainingOptions(batch_size=8, epochs=3, learning_rate=0.01)
    reading = ReadingOptions(data=(str(file),))
    config = Config(hidden_size=32, layers=1, sequence_length=50, reading=reading, training=training)
    return Smoke(config, ("Bob is", "Dan,"))
