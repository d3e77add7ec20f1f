"""CTC against the sum over all alignments."""

import itertools

import pytest
import torch

from conveyor.nn.ctc import best_path, ctc_loss

T, W = 5, 3


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [token for token, _ in itertools.groupby(path) if token]


def test_sum_over_alignments() -> None:
    torch.manual_seed(1)
    logits = torch.randn(T, 2, W).double()
    texts, lengths = [[1, 2], [2, 2, 1]], torch.tensor([5, 4])
    nats = ctc_loss(logits, lengths, torch.tensor([[1, 2, 0], [2, 2, 1]]), torch.tensor([2, 3]))
    p = logits.softmax(-1)
    for b, (text, n) in enumerate(zip(texts, lengths.tolist(), strict=True)):
        paths = [path for path in itertools.product(range(W), repeat=n) if collapsed(path) == text]
        total = sum(float(torch.stack([p[t, b, w] for t, w in enumerate(path)]).prod()) for path in paths)
        assert torch.exp(-nats[b]).item() == pytest.approx(total)


def test_a_text_too_long_counts_as_nothing() -> None:
    nats = ctc_loss(torch.randn(2, 1, W), torch.tensor([2]), torch.tensor([[1, 1, 1]]), torch.tensor([3]))
    assert nats.tolist() == [0.0]


def test_best_path() -> None:
    paths = torch.tensor([[1, 1, 0, 1, 2], [0, 2, 2, 0, 1], [0, 0, 0, 0, 0]])
    logits = torch.nn.functional.one_hot(paths.T, W).float()
    assert best_path(logits, torch.tensor([5, 4, 5])) == [[1, 1, 2], [2], []]
