"""The comparison of speeds counts work, and compares results first."""

from __future__ import annotations

import copy
import time

import pytest
import torch

from conveyor.data.streams import Streams
from conveyor.tasks import language_model as task
from conveyor.training.speed import compare, ratios

FACTS = {"tokenizer": {"kind": "char", "alphabet": "abc"}}


def test_compare() -> None:
    config = task.Config(hidden_size=4, embedding_size=3, layers=1)
    network = task.network(config, FACTS)
    split = Streams(torch.randint(1, 4, (500,)), streams=4, length=10, characters=500)

    slow = copy.deepcopy(network)
    slow.lstm.register_forward_hook(lambda *_: time.sleep(0.02))
    speeds = compare(task, config, [network, slow], split, rounds=2, seconds=0.05)
    assert [len(rounds) for rounds in speeds] == [2, 2]
    assert min(speeds[0]) > 2 * max(speeds[1]) > 0

    other = copy.deepcopy(network)
    torch.nn.init.constant_(other.output.weight, 0.0)
    with pytest.raises(AssertionError, match="not close"):
        compare(task, config, [network, other], split)


def test_ratios_by_hand() -> None:
    assert ratios([4.0, 6.0, 8.0, 9.0], [2.0, 2.0, 4.0, 6.0]) == [7 / 3, 5 / 2, 8.5 / 5]
