"""The language model: loss and scores by hand, learning, prediction."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from conveyor.cli import main
from conveyor.data import tokenizer
from conveyor.data.records import BadRecords
from conveyor.data.streams import Streams
from conveyor.errors import ConveyorError
from conveyor.nn.sampling import draw
from conveyor.tasks import language_model as task
from conveyor.training.fit import fit
from conveyor.training.options import ReadingOptions, TrainingOptions
from conveyor.training.scoring import score
from conveyor.training.task import Model
from conveyor.variant import VARIANTS

FACTS = {"tokenizer": {"kind": "char", "alphabet": "abcd"}}


def small(**options: object) -> task.Config:
    return task.Config(hidden_size=5, embedding_size=4, **options)  # type: ignore[arg-type]


def with_frequencies(p: list[float]) -> torch.nn.Module:
    """A network that gives every token its frequency, whatever came before."""
    network = task.network(small(), FACTS)
    with torch.no_grad():
        network.output.weight.zero_()
        network.output.bias.copy_(torch.tensor(p).log())
    return network


def test_scores_by_hand() -> None:
    """Known probabilities: the mean of -log p, its exponential, and the same over characters in bits."""
    p = [0.1, 0.4, 0.2, 0.2, 0.1]
    tokens = torch.tensor([1, 2, 1, 3, 4, 1, 1])  # the first is given, six are predicted
    split = Streams(tokens, streams=2, length=2, characters=14)
    scores = score(task, small(), with_frequencies(p), split)
    nats = -sum(count * math.log(p[token]) for token, count in Counter([2, 1, 3, 4, 1, 1]).items())
    assert scores["loss"] == pytest.approx(nats / 6, rel=1e-6)
    assert scores["perplexity"] == pytest.approx(math.exp(nats / 6), rel=1e-6)
    assert scores["bits_per_character"] == pytest.approx(nats / math.log(2) / 12, rel=1e-6)


def test_scores_do_not_depend_on_windows() -> None:
    """The state is carried: one window or many, the numbers are the same."""
    torch.manual_seed(3)
    network = task.network(small(), FACTS)
    tokens = torch.randint(1, 5, (200,))
    whole, parts = (score(task, small(), network, Streams(tokens, 3, length, 200)) for length in (1000, 7))
    assert parts == pytest.approx(whole, rel=1e-6)
    fresh = Streams(tokens[:101], 1, 1000, 101), Streams(tokens[100:], 1, 1000, 100)
    assert sum(score(task, small(), network, part)["loss"] for part in fresh) / 2 != pytest.approx(whole["loss"])


def test_loss_scales() -> None:
    """Zaremba et al. sum over the steps and average over the batch."""
    network = with_frequencies([0.2, 0.2, 0.2, 0.2, 0.2])
    batch = Streams(torch.ones(13, dtype=torch.int64), streams=3, length=4, characters=13).batch(0, 0)
    mean = task.loss(small(), network, batch, None).loss
    summed = task.loss(small(loss_scale="sum"), network, batch, None).loss
    assert mean.item() == pytest.approx(math.log(5), rel=1e-6)
    assert summed.item() == pytest.approx(4 * math.log(5), rel=1e-6)


def test_initial_weights() -> None:
    """Zaremba's recipe draws every weight; without it the forget gates begin at their bias."""
    zaremba = task.network(small(init_range=0.1, forget_bias=None), FACTS)
    largest = [weight.abs().max().item() for weight in zaremba.parameters()]
    assert all(0.05 < value <= 0.1 for value in largest)
    usual = task.network(small(forget_bias=1.5), FACTS).lstm
    for layer in range(2):
        bias = getattr(usual, f"bias_ih_l{layer}") + getattr(usual, f"bias_hh_l{layer}")
        assert bias[5:10].tolist() == [1.5] * 5
        assert bias[:5].abs().max() < 1


def test_tied_weights_are_one() -> None:
    config = task.Config(hidden_size=6, embedding_size=6, tied=True)
    network = task.network(config, FACTS)
    assert network.output.weight is network.embedding.weight


def test_learns_a_tiny_text_by_heart(tmp_path: Path) -> None:
    line = "Bob is a nice person. Dan, on the other hand, is evil.\n"
    (tmp_path / "text.txt").write_text(line * 40)
    options = TrainingOptions(batch_size=4, epochs=25, learning_rate=0.02, threads=1)
    config = task.Config(
        reading=ReadingOptions(data=(f"{tmp_path}/text.txt",)), hidden_size=48, layers=1, training=options
    )
    model, figures = fit(task, config, tmp_path / "run")
    assert figures["test"]["loss"] < 0.05
    assert figures["test"]["perplexity"] == pytest.approx(math.exp(figures["test"]["loss"]))
    [result] = model.predict("Dan, on the", length=17, temperature=0)
    assert result.text == "Dan, on the other hand, is e"
    assert result.next[0][0] == " "
    assert result.next[0][1] > 0.9
    for name in ("config.json", "metrics.csv", "model.json", "model.safetensors", "report.md", "curves.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns(variant: str) -> None:
    """Windows of a text that repeats, their states carried: the loss falls below that of frequencies."""
    torch.manual_seed(0)
    config = task.Config(hidden_size=16, embedding_size=8, variant=variant, layers=1)
    network, state, nats = task.network(config, FACTS), None, []
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    streams = Streams(torch.tensor([1, 2, 3, 4] * 60), streams=2, length=10, characters=240)
    for index in range(100):
        outcome = task.loss(config, network, streams.batch(0, index % len(streams)), state)
        optimizer.zero_grad()
        outcome.loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        state, nats = outcome.carried, [*nats, outcome.loss.item()]
    assert min(nats[-20:]) < 0.5 * math.log(4)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ConveyorError, match="did you mean peephole"):
        small(variant="peepholes")


@pytest.mark.parametrize("tokens", ["word", "bpe"])
def test_words_and_pieces_train_too(tmp_path: Path, tokens: str) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 60)
    options = TrainingOptions(batch_size=4, epochs=8, learning_rate=0.03, threads=1)
    config = task.Config(
        reading=ReadingOptions(data=(f"{tmp_path}/text.txt",)),
        tokens=tokens,
        vocabulary=300,
        hidden_size=24,
        layers=1,
        training=options,
    )
    model, figures = fit(task, config, tmp_path / "run")
    assert figures["test"]["loss"] < 0.3
    [result] = model.predict("the quick brown", length=2, temperature=0)
    assert result.text.startswith("the quick brown fox")


def test_prediction_matches_the_network() -> None:
    torch.manual_seed(1)
    network = task.network(small(), FACTS).eval()
    model = Model(task, small(), FACTS, network)
    [result] = model.predict("abca", length=0, show=5)
    expected = network(torch.tensor([[1], [2], [3], [1]]))[0][-1, 0].softmax(0)
    assert sum(p for _, p in result.next) == pytest.approx(1, rel=1e-6)
    assert dict(result.next)["b"] == pytest.approx(expected[2].item(), rel=1e-6)
    assert result.text == "abca"


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
@pytest.mark.parametrize("prompt", ["日本語", "the 日本語", "the cat\n"])
def test_a_prompt_comes_back_as_it_was(kind: str, prompt: str) -> None:
    facts = {"tokenizer": tokenizer.learn(kind, "the cat\nthe dog\n", 300).to_json()}
    model = Model(task, small(), facts, task.network(small(), facts).eval())
    nothing, more = (model.predict(prompt, length=length)[0].text for length in (0, 9))
    assert nothing == prompt
    assert more.startswith(prompt)
    assert prompt not in more[len(prompt) :]


def test_same_seed_same_text() -> None:
    model = Model(task, small(), FACTS, task.network(small(), FACTS).eval())
    one, two, other = (model.predict("ab", seed=seed)[0].text for seed in (1, 1, 2))
    assert one == two != other


def draws(count: int = 4000, **options: object) -> dict[int, float]:
    """Shares of 4,000 draws from the probabilities 0.5, 0.3, 0.15, 0.05."""
    logits = torch.tensor([0.3, 0.5, 0.05, 0.15]).log() + 7.0
    generator = torch.Generator().manual_seed(0)
    asked = task.PredictOptions(**options)  # type: ignore[arg-type]
    counts = Counter(draw(logits, generator, asked.temperature, asked.top_k, asked.top_p) for _ in range(count))
    return {token: counts[token] / count for token in counts}


def test_drawing() -> None:
    assert draws(temperature=1) == pytest.approx({1: 0.5, 0: 0.3, 3: 0.15, 2: 0.05}, abs=0.03)
    assert draws(temperature=0) == {1: 1.0}
    assert draws(100, temperature=1e-300) == {1: 1.0}
    assert draws(temperature=0.5) == pytest.approx(
        {1: 0.25 / 0.365, 0: 0.09 / 0.365, 3: 0.0225 / 0.365, 2: 0.0025 / 0.365}, abs=0.03
    )
    assert draws(temperature=1, top_k=2) == pytest.approx({1: 0.625, 0: 0.375}, abs=0.03)
    assert draws(temperature=1, top_p=0.7) == pytest.approx({1: 0.625, 0: 0.375}, abs=0.03)
    assert draws(temperature=1, top_p=0.5) == {1: 1.0}


def test_text_shorter_than_one_batch(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("too short " * 10)
    config = task.Config(reading=ReadingOptions(data=(f"{tmp_path}/text.txt",)))
    expected = r"the training part is shorter than one batch: expected 6,401 tokens or more, got 80; give more text"
    with pytest.raises(ConveyorError, match=expected):
        task.read(config)


def test_text_that_changed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("abcdefghij" * 100)
    config = task.Config(
        reading=ReadingOptions(data=(str(file),)), sequence_length=5, training=TrainingOptions(batch_size=2)
    )
    facts = task.read(config).facts
    file.write_text("abcdefghij" * 101)
    with pytest.raises(ConveyorError, match="not the one this run was trained on"):
        task.read(config, facts)


def test_characters_unknown_to_training_cost_but_do_not_fail(tmp_path: Path) -> None:
    network = with_frequencies([0.2, 0.2, 0.2, 0.2, 0.2])
    (tmp_path / "new.txt").write_text("abXYcd")
    split = task.read_test(small(), FACTS, [f"{tmp_path}/new.txt"], BadRecords(False))
    assert score(task, small(), network, split)["perplexity"] == pytest.approx(5, rel=1e-6)


def random_model(tmp_path: Path, **options: object) -> Model:
    """A network that has learned nothing, and the text of its run."""
    file = tmp_path / "text.txt"
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    file.write_text("".join(f"{word} " * 20 + "\n" for word in words * 8))
    config = task.Config(
        reading=ReadingOptions(data=(str(file),)),
        training=TrainingOptions(batch_size=4),
        sequence_length=10,
        tokens="word",
        **options,  # type: ignore[arg-type]
    )
    facts = task.read(config).facts
    torch.manual_seed(0)
    return Model(task, config, facts, task.network(config, facts).eval())


@pytest.mark.parametrize("options", [{}, {"variational": True}, {"softmaxes": 3}, {"cutoffs": (3, 7)}])
def test_dropout_is_of_training_alone(tmp_path: Path, options: dict[str, object]) -> None:
    """All dropout there is: what it learns from differs each time, what it is scored by does not."""
    rates = {f"dropout_{of}": 0.3 for of in ("words", "input", "between", "output", "state", "weights")}
    model = random_model(tmp_path, vocabulary=50, **options, **rates)
    batch = task.read(model.config, model.facts).train.batch(0, 0)
    for training in (True, False):
        model.network.train(training)
        first, second = (task.loss(model.config, model.network, batch, None).loss.item() for _ in range(2))
        assert (first == second) is not training


@pytest.mark.parametrize(("name", "field"), [("state", "variational_dropout"), ("weights", "weight_dropout")])
def test_dropout_in_the_recurrence(name: str, field: str) -> None:
    lstm = task.network(small(variant="peephole", **{f"dropout_{name}": 0.4}), FACTS).lstm
    assert lstm.variant == dataclasses.replace(VARIANTS["peephole"], **{field: 0.4})  # type: ignore[arg-type]
    assert task.network(small(variant="weight-dropout"), FACTS).lstm.variant == "weight-dropout"


def test_bfloat16_trains_but_does_not_score() -> None:
    torch.manual_seed(2)
    split = Streams(torch.randint(1, 5, (200,)), 3, 9, 200)
    exact, short = small(), small(arithmetic="bfloat16")
    network = task.network(exact, FACTS)
    losses = [task.loss(config, network, split.batch(0, 0), None).loss for config in (exact, short)]
    assert losses[0] != losses[1]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.01)
    losses[1].backward()
    assert all(weight.grad is not None and weight.grad.dtype is torch.float32 for weight in network.parameters())
    assert score(task, short, network, split) == score(task, exact, network, split)


@pytest.mark.parametrize(
    "options", [{"softmaxes": 2, "tied": True}, {"cutoffs": (4, 7)}, {"variational": True, "tied": True}]
)
def test_every_output_layer_learns(tmp_path: Path, options: dict[str, object]) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 60)
    config = task.Config(
        reading=ReadingOptions(data=(f"{tmp_path}/text.txt",)),
        training=TrainingOptions(batch_size=4, epochs=12, learning_rate=0.03, threads=1),
        tokens="word",
        sequence_length=30,
        embedding_size=32,
        hidden_size=32,
        layers=1,
        dropout_input=0.1,
        **options,  # type: ignore[arg-type]
    )
    model, figures = fit(task, config, tmp_path / "run")
    assert figures["test"]["loss"] < 0.3
    [result] = model.predict("the quick brown", length=2, temperature=0)
    assert result.text.startswith("the quick brown fox jumps")
    assert sum(p for _, p in result.next) == pytest.approx(1, abs=1e-4)


def test_ensemble_is_the_mean_of_probabilities() -> None:
    """Over windows with carried states, and in prediction."""
    torch.manual_seed(4)
    networks = [task.network(small(), FACTS).eval() for _ in range(3)]
    together = task.ensemble(networks).eval()
    tokens = torch.randint(1, 5, (40,))
    p = torch.stack([network(tokens.unsqueeze(1))[0].softmax(-1) for network in networks]).mean(0)
    torch.testing.assert_close(together(tokens.unsqueeze(1))[0].exp(), p)
    nats = -p[:-1, 0].gather(1, tokens[1:, None]).log().mean()
    found = score(task, small(), together, Streams(tokens, 1, 7, 40))
    assert found["loss"] == pytest.approx(nats.item(), rel=1e-5)
    [result] = Model(task, small(), FACTS, together).predict("abca", length=3)
    assert len(result.text) == 7


def test_cache_of_share_zero_changes_nothing(tmp_path: Path) -> None:
    model = random_model(tmp_path)
    split = task.read(model.config, model.facts).test
    plain = task.evaluate(model, split, task.EvaluateOptions())
    assert plain == score(task, model.config, model.network, split)
    options = task.EvaluateOptions(cache=30, cache_flatness=0.5, cache_share=0.0)
    cached = task.evaluate(model, split, options)
    assert cached == pytest.approx(plain | {"cache_flatness": 0.5, "cache_share": 0.0}, rel=1e-6)


def test_cache_is_chosen_on_validation(tmp_path: Path) -> None:
    """Where words come again, a memory is better than a network that knows nothing; the test part chooses nothing."""
    model = random_model(tmp_path)
    data = task.read(model.config, model.facts)
    plain = task.evaluate(model, data.test, task.EvaluateOptions())
    found = task.evaluate(model, data.test, task.EvaluateOptions(cache=50))
    assert found["loss"] < plain["loss"] - 0.1
    other = Streams(torch.arange(8).repeat_interleave(5), 1, 1000, 40)
    again = task.evaluate(model, other, task.EvaluateOptions(cache=50))
    assert [again[name] for name in ("cache_flatness", "cache_share")] == [
        found["cache_flatness"],
        found["cache_share"],
    ]
    given = task.EvaluateOptions(cache=50, cache_flatness=found["cache_flatness"])
    assert task.evaluate(model, data.test, given) == pytest.approx(found)


def test_evaluate_with_a_cache_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", "language-model", "--smoke", "--run", str(run), "--threads", "1"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--cache", "100", "--cache-share", "0.1"]) == 0
    said = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert [*said] == ["loss", "perplexity", "bits_per_character", "cache_flatness", "cache_share"]
    assert said["cache_share"] == "0.1"
    assert main(["evaluate", str(run), "--cache", "-3"]) == 2
    assert "--cache: expected a whole number, 0 or more, got -3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tied": True}, "--tied: expected --embedding-size as large as --hidden-size, or --softmaxes 2"),
        ({"cutoffs": (9, 5)}, r"--cutoffs: expected rising numbers below --vocabulary 10000, got \[9, 5\]"),
        ({"cutoffs": (5, 5)}, r"rising numbers below --vocabulary 10000, got \[5, 5\]"),
        ({"cutoffs": (5, 10_000)}, r"rising numbers below --vocabulary 10000, got \[5, 10000\]"),
        ({"cutoffs": (0,)}, "--cutoffs: expected a list, each a whole number, 1 or more"),
        ({"cutoffs": (5,), "tokens": "char"}, "--cutoffs: expected --tokens word"),
        ({"cutoffs": (5,), "tied": True}, "--cutoffs: expected no --tied"),
        ({"cutoffs": (5,), "softmaxes": 2}, "--cutoffs: expected no --softmaxes"),
        ({"cutoffs": (5, 6, 7), "hidden_size": 63}, "expected fewer, or a larger --hidden-size"),
        ({"softmaxes": 0}, "--softmaxes: expected a whole number, 1 or more, got 0"),
        ({"dropout_words": 1.0}, "--dropout-words: expected a number from 0 to below 1"),
        ({"dropout_state": -0.1}, "--dropout-state: expected a number from 0 to below 1"),
        ({"dropout_weights": float("nan")}, "--dropout-weights: expected a number from 0 to below 1"),
        ({"arithmetic": "float16"}, "--arithmetic: expected one of float32, bfloat16"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConveyorError, match=message):
        task.Config(**({"tokens": "word"} | options))  # type: ignore[arg-type]


def test_cutoffs_beyond_the_words_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match=r"--cutoffs: expected numbers below 9, the words there are, got 2,000"):
        random_model(tmp_path, cutoffs=(5, 2000))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": -1}, "--cache: expected a whole number, 0 or more"),
        ({"cache": 10, "cache_share": 1.0}, "--cache-share: expected a number from 0 to below 1 or None"),
        ({"cache": 10, "cache_flatness": -0.1}, "--cache-flatness: expected a number, 0 or more or None"),
        ({"cache_share": 0.1}, "expected --cache, the tokens to remember, beside them"),
    ],
)
def test_cache_options_that_do_not_fit(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConveyorError, match=message):
        task.EvaluateOptions(**options)  # type: ignore[arg-type]
