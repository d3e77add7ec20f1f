"""CTC against the sum over all alignments."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from conveyor.nn.ctc import LanguageModel, align, best_path, ctc_loss, prefix_beam_search

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
    logits = 9.0 * torch.nn.functional.one_hot(paths.T, W)
    found = best_path(logits, torch.tensor([5, 4, 5]))
    assert [one.tokens for one in found] == [[1, 1, 2], [2], []]
    assert [one.spans for one in found] == [[(0, 2), (3, 4), (4, 5)], [(1, 3)], []]
    sure = torch.softmax(torch.tensor([9.0, 0.0, 0.0]), 0)[0].item()
    assert found[0].confidence == pytest.approx([sure] * 3)


def paths_of(text: list[int] | None, n: int) -> list[tuple[int, ...]]:
    return [path for path in itertools.product(range(W), repeat=n) if text is None or collapsed(path) == text]


def log_p_of(path: tuple[int, ...], log_p: Tensor) -> float:
    return sum(float(log_p[t, w]) for t, w in enumerate(path))


@pytest.mark.parametrize("text", [[], [1], [1, 2], [2, 2], [1, 2, 1]], ids=str)
def test_alignment_is_the_likeliest(text: list[int]) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        logits = torch.randn(T + 1, W).double()
        best = max(paths_of(text, T), key=lambda path: log_p_of(path, logits[:T].log_softmax(-1)))
        found = align(logits, T, text)
        assert found.tokens == text
        steps = {t for t, token in enumerate(best) if token}
        assert {t for first, last in found.spans for t in range(first, last)} == steps


def test_no_room_to_align() -> None:
    with pytest.raises(ValueError, match="expected at least 5 steps for 3 tokens, got 4"):
        align(torch.zeros(4, W), 4, [1, 1, 1])


def test_a_wide_beam_sums_over_all_alignments() -> None:
    torch.manual_seed(2)
    logits = torch.randn(T, W).double()
    log_p = logits.log_softmax(-1)
    totals: dict[tuple[int, ...], float] = {}
    for path in paths_of(None, T):
        text = tuple(collapsed(path))
        totals[text] = float(np.logaddexp(totals.get(text, -np.inf), log_p_of(path, log_p)))
    found = prefix_beam_search(logits, T, width=1000)
    assert {tuple(text): score for text, score in found} == pytest.approx(totals)
    assert found[0][0] == [*max(totals, key=lambda text: totals[text])]
    narrow = prefix_beam_search(logits, T, width=3)
    assert len(narrow) == 3
    assert narrow[0][1] <= found[0][1]


def test_a_language_model_has_its_say() -> None:
    """Added to each text's log p: its weight times its own, and the bonus for each token."""
    torch.manual_seed(2)
    logits, behind = torch.randn(T, W).double(), np.log(np.array([1.0, 0.9, 0.1]))
    plain = {tuple(text): score for text, score in prefix_beam_search(logits, T, width=1000)}
    model = LanguageModel(lambda prefixes: np.tile(behind, (len(prefixes), 1)), 0.7, 0.2)
    for text, score in prefix_beam_search(logits, T, 1000, model):
        assert score == pytest.approx(plain[tuple(text)] + sum(0.7 * behind[token] + 0.2 for token in text))
