"""Options: every mistake is found, and a config goes to JSON and back."""

from __future__ import annotations

import dataclasses
import json

import pytest

from conveyor.errors import ConveyorError
from conveyor.tasks.language_model import Config
from conveyor.training.options import ReadingOptions, TrainingOptions, from_json


def test_all_mistakes_at_once() -> None:
    with pytest.raises(ConveyorError) as raised:
        Config(
            hidden_size=0,
            dropout_input=1.0,
            tokens="letter",  # type: ignore[arg-type]
            training=TrainingOptions(epochs=True, learning_rate=float("nan"), max_minutes=-1),
        )
    assert str(raised.value) == (
        "[options] --tokens: expected one of char, word, bpe, got 'letter'; "
        "--hidden-size: expected a whole number from 1 to 1,000,000, got 0; "
        "--dropout-input: expected a number from 0 to below 1, got 1.0; "
        "--epochs: expected a whole number, 1 or more, got True; "
        "--max-minutes: expected a number above 0 or None, got -1; "
        "--learning-rate: expected a number above 0, got nan"
    )


def test_all_conflicts_at_once() -> None:
    with pytest.raises(ConveyorError) as raised:
        Config(tied=True, tokens="bpe", vocabulary=255, reading=ReadingOptions(valid_share=0.5, test_share=0.5))
    assert str(raised.value) == (
        "[options] --valid-share and --test-share: expected less than 1 together; "
        "--tied: expected --embedding-size as large as --hidden-size, or --softmaxes 2 or more; "
        "--vocabulary: expected 256 or more with --tokens bpe, got 255"
    )


def test_json_round_trip() -> None:
    config = Config(
        reading=ReadingOptions(data=("a", "b")), init_range=0.1, forget_bias=None, training=TrainingOptions(max_steps=7)
    )
    again = from_json(Config, json.loads(json.dumps(dataclasses.asdict(config))), "config.json")
    assert again == config


def test_defaults_fill_what_a_file_leaves_out() -> None:
    assert from_json(Config, {"training": {"epochs": 3}}, "x").training == TrainingOptions(epochs=3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"hiden_size": 3}, "x: unknown option 'hiden_size'; did you mean hidden_size?"),
        ({"training": {"epoch": 3}}, "x, training: unknown option 'epoch'; did you mean epochs?"),
        ([], "x: expected an object with options, got list"),
        ({"hidden_size": "many"}, "--hidden-size: expected a whole number from 1 to 1,000,000, got 'many'"),
        ({"hidden_size": 10**9}, "--hidden-size: expected a whole number from 1 to 1,000,000, got 1000000000"),
        ({"layers": 10**7}, "--layers: expected a whole number from 1 to 1,000, got 10000000"),
        ({"training": {"epochs": 10**400}}, "--epochs: expected a whole number, 1 or more, got 1000000"),
        ({"forget_bias": float("nan")}, "--forget-bias: expected a number or None, got nan"),
        ({"training": 3}, "x, training: expected an object with options, got int"),
    ],
)
def test_mistakes_in_a_file(values: object, expected: str) -> None:
    with pytest.raises(ConveyorError, match=expected.replace("?", r"\?")):
        from_json(Config, values, "x")
