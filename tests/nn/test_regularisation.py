"""Dropout with one mask for all steps, and of whole words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from conveyor import LSTM
from conveyor.nn.regularisation import VariationalDropout, VariationalLSTM, variational_dropout, word_dropout


def test_one_mask_for_all_steps() -> None:
    torch.manual_seed(0)
    y = variational_dropout(torch.ones(7, 50, 40), 0.25)
    assert (y == y[0]).all()
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (y[0] == 0).float().mean() == pytest.approx(0.25, abs=0.03)
    assert len({tuple(row.tolist()) for row in y[0]}) == 50  # each row has its own


def test_nothing_is_dropped_in_evaluation() -> None:
    x = torch.randn(3, 2, 4)
    assert variational_dropout(x, 0.5, training=False) is x
    assert VariationalDropout(0.5).eval()(x) is x
    assert not torch.equal(VariationalDropout(0.9)(x), x)


def test_between_layers() -> None:
    """The second layer reads the first one's output times the mask, drawn here once more from the same seed."""
    torch.manual_seed(1)
    lstm = VariationalLSTM(4, 5, 2, dropout=0.5)
    first, second = LSTM(4, 5), LSTM(5, 5)
    for k, layer in enumerate((first, second)):
        layer.load_state_dict({f"{n[:-1]}0": w for n, w in lstm.state_dict().items() if n.endswith(f"l{k}")})
    x = torch.randn(6, 3, 4)
    torch.manual_seed(2)
    got = lstm(x)[0]
    below = first(x)[0]
    torch.manual_seed(2)
    torch.testing.assert_close(got, second(variational_dropout(below, 0.5))[0])
    torch.testing.assert_close(lstm.eval()(x)[0], second(below)[0])


def test_a_word_is_left_out_wherever_it_stands() -> None:
    torch.manual_seed(3)
    embedding = nn.Embedding(200, 4)
    tokens = torch.randint(0, 200, (300, 5))
    embedded = word_dropout(embedding, tokens, 0.2)
    dropped = {word: set() for word in range(200)}
    for word, row in zip(tokens.flatten().tolist(), embedded.flatten(0, 1), strict=True):
        dropped[word].add(bool((row == 0).all()))
        assert (row == 0).all() or torch.allclose(row, embedding.weight[word] / 0.8)
    assert all(len(states) <= 1 for states in dropped.values())
    assert sum(True in states for states in dropped.values()) == pytest.approx(40, abs=15)
    assert torch.equal(word_dropout(embedding, tokens, 0.2, training=False), embedding(tokens))
