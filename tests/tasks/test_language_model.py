"""The language model: loss and scores by hand, learning, prediction."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from conveyor.data import tokenizer
from conveyor.data.streams import Streams
from conveyor.errors import ConveyorError
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
    counts = Counter(task.draw(logits, asked, generator) for _ in range(count))
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
    split = task.read_test(small(), FACTS, [f"{tmp_path}/new.txt"])
    assert score(task, small(), network, split)["perplexity"] == pytest.approx(5, rel=1e-6)
