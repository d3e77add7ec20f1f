"""Train a small model on the text every Python carries, and show what it learned."""

from __future__ import annotations

import copy
import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from conveyor.cli._parse import parse
from conveyor.data import tokenizer
from conveyor.inspect import gates, picture
from conveyor.tasks import language_model as task
from conveyor.training.fit import fit, new_run
from conveyor.training.options import Positive, TrainingOptions, check
from conveyor.training.speed import ROUNDS, SECONDS, compare, ratios
from conveyor.training.task import Data, Model

PROMPT = "For his contributions, brave"
SENTENCE = "Bob is a nice person. Dan, on the other hand, is evil."
DISAGREE = 1.1
"""The ratios of speed in two halves of a measurement on an idle machine are closer than this."""


@dataclass(kw_only=True)
class Demo:
    """Train a small model, and show what it learned."""

    minutes: Positive = 2.0
    """How long to train."""
    runs: Path = Path("runs")
    """Where runs are kept."""

    def __post_init__(self) -> None:
        check(self)


def run(args: list[str]) -> None:
    """Measure, train, show."""
    asked = parse(Demo, args, "conveyor demo", Demo())
    config = task.Config(
        embedding_size=64,
        hidden_size=256,
        layers=1,
        sequence_length=64,
        training=TrainingOptions(batch_size=32, learning_rate=0.004, schedule="cosine"),
    )
    data = task.read(config)
    speed = show_speed(config, data)
    steps = math.ceil(asked.minutes * 60 * speed / (config.training.batch_size * config.sequence_length))
    limits = replace(
        config.training,
        max_steps=steps,
        epochs=math.ceil(steps / len(data.train)),
        max_minutes=1.25 * asked.minutes,  # should the machine get busy
    )
    config = replace(config, training=limits)
    folder = new_run(asked.runs, "demo")
    print(f"\nTraining for about {asked.minutes:g} minutes, {steps:,} steps:")
    model, figures = fit(task, config, folder)
    print(f"\nHeld-out text: perplexity {figures['test']['perplexity']:.4g} a character, of {len(vocabulary(model))}")
    print(f"\nA sample:\n\n{indent(model.predict('The ', length=300, temperature=0.8)[0].text)}")
    print(f"\nAfter {PROMPT!r}:\n\n{indent(str(model.predict(PROMPT, length=120)[0]))}")
    draw_gates(model, folder / "gates.png")
    print(f"\nOutputs in {folder}: report.md, curves.png, metrics.csv; gates.png shows the gates over {SENTENCE!r}")
    print(f"Go on with: conveyor predict {folder} 'your text'")


def show_speed(config: task.Config, data: Data) -> float:
    """Measure training with Conveyor's LSTM and with torch's, from the same weights; Conveyor's tokens a second."""
    torch.manual_seed(0)
    ours = task.network(config, data.facts)
    theirs = copy.deepcopy(ours)
    theirs.lstm = nn.LSTM(config.embedding_size, config.hidden_size, config.layers)  # type: ignore[assignment]
    theirs.lstm.load_state_dict(ours.lstm.state_dict())
    how = f"medians of {ROUNDS} rounds of {SECONDS:g} s in turn"
    print(f"Speed in training, {torch.get_num_threads()} threads, the same model, {how}:", flush=True)
    rounds = compare(task, config, [ours, theirs], data.train)
    for name, speeds in zip(("conveyor.LSTM", "torch.nn.LSTM"), rounds, strict=True):
        print(f"  {name}  {statistics.median(speeds):9,.0f} tokens/s")
    ratio, first, second = ratios(*rounds)
    print(f"  ratio          {ratio:9.2f}")
    if max(first, second) > DISAGREE * min(first, second):
        when = f"{first:.2f} in the first {ROUNDS // 2} rounds, {second:.2f} after"
        print(f"  not to be trusted, the machine is busy: {when}")
    return statistics.median(rounds[0])


def draw_gates(model: Model, path: Path) -> None:
    """The gates of the last layer over a sentence."""
    network = model.network
    assert isinstance(network, task.Network)
    ids = torch.from_numpy(vocabulary(model).encode(SENTENCE)).unsqueeze(1)
    with torch.no_grad():
        recorded = gates(network.lstm, network.embedding(ids))
    picture(
        recorded[-1], SENTENCE, path, title=f"An LSTM of {model.config.hidden_size} units reads, character by character"
    )


def vocabulary(model: Model) -> tokenizer.Tokenizer:
    """The model's tokenizer."""
    return tokenizer.from_json(model.facts["tokenizer"])


def indent(text: str) -> str:
    """The text, set off from the rest."""
    return "\n".join(f"    {line}" for line in text.splitlines())
