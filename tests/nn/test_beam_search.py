"""Beam search against all texts there are."""

import itertools
import math

import pytest
import torch

from conveyor.nn.beam_search import beam_search
from conveyor.nn.decoder import Decoder

W, H, V, S, B = 4, 9, 5, 6, 3
START, END = 0, 1
LENGTHS = torch.tensor([6, 2, 4])


def make(seed: int = 1, rows: slice = slice(None), **form):
    torch.manual_seed(seed)
    decoder = Decoder(W, 6, H, V, V, **form).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    values, summary = torch.randn(S, B, V).double(), torch.randn(B, V).double()
    return decoder, decoder.remember(values[:, rows], LENGTHS[rows]), decoder.start(summary[rows])


def search(*made, **options):
    rows = made[0][1].mask.shape[1]
    return beam_search(*zip(*made, strict=True), start=START, end=END, rows=rows, **options)


@torch.no_grad()
def log_p(decoder, memory, state, row: int, tokens: list[int]) -> float:
    """Of tokens after the start, by the decoder itself."""
    memory = memory._replace(values=memory.values[:, [row]], keys=memory.keys[:, [row]], mask=memory.mask[:, [row]])
    lower = tuple(x[:, [row]] for x in state.lower)
    upper = None if state.upper is None else tuple(x[:, [row]] for x in state.upper)
    fed = None if state.fed is None else state.fed[:, [row]]
    state = state._replace(lower=lower, upper=upper, fed=fed)
    logits = decoder(torch.tensor([START, *tokens[:-1]])[:, None], memory, state).logits[:, 0].log_softmax(-1)
    return float(logits.gather(1, torch.tensor(tokens)[:, None]).sum())


@pytest.mark.parametrize("penalty", [0.0, 1.5])
def test_wide_beams_find_the_best_of_all(penalty) -> None:
    longest = 4
    made = make(layers=2, input_feeding=True)
    found = search(made, width=200, longest=longest, length_penalty=penalty, n_best=5)
    words = [w for w in range(W) if w != END]
    for row in range(B):
        every = []
        for n in range(longest):
            for text in itertools.product(words, repeat=n):
                every.append((log_p(*made, row, [*text, END]) / ((6 + n) / 6) ** penalty, list(text)))
        every += [
            (log_p(*made, row, list(text)) / ((5 + longest) / 6) ** penalty, list(text))
            for text in itertools.product(words, repeat=longest)
        ]
        best = sorted(every, reverse=True)[:5]
        assert [one.tokens for one in found[row]] == [text for _, text in best]
        assert [one.score for one in found[row]] == pytest.approx([score for score, _ in best])


def test_greedy_takes_the_likeliest() -> None:
    decoder, memory, state = made = make()
    found = search(made, width=1, longest=12)
    tokens, texts = torch.full((1, B), START), [[] for _ in range(B)]
    for _ in range(12):
        decoded = decoder(tokens, memory, state)
        tokens, state = decoded.logits.argmax(-1), decoded.state
        for text, token in zip(texts, tokens[0].tolist(), strict=True):
            if END not in text:
                text.append(token)
    assert [one[0].tokens for one in found] == [[w for w in text if w != END] for text in texts]


@pytest.mark.parametrize("form", [{}, {"input_feeding": True, "layers": 2}, {"coverage": True}], ids=str)
def test_rows_do_not_meet(form) -> None:
    together = search(make(**form), width=3, longest=9, n_best=3)
    for row in range(B):
        alone = search(make(rows=slice(row, row + 1), **form), width=3, longest=9, n_best=3)[0]
        assert [one.tokens for one in together[row]] == [one.tokens for one in alone]
        assert [one.score for one in together[row]] == pytest.approx([one.score for one in alone])


def test_weights_are_those_of_the_text() -> None:
    decoder, memory, state = made = make(coverage=True)
    for row, (best, *_) in enumerate(search(made, width=4, longest=9)):
        tokens = torch.tensor([START, *best.tokens])[:, None].expand(-1, B)
        forced = decoder(tokens, memory, state).weights[:, row]
        torch.testing.assert_close(best.weights, forced[: len(best.weights)])
        assert len(best.weights) - len(best.tokens) in (0, 1)  # the end is looked for as well


def test_an_ensemble_means_probabilities() -> None:
    first, second = make(1), make(2)
    for row, each in enumerate(search(first, second, width=4, longest=2, n_best=2)):
        for one in each:
            tokens = [*one.tokens, END][:2]
            steps = [
                [
                    log_p(*made, row, tokens[: n + 1]) - (log_p(*made, row, tokens[:n]) if n else 0)
                    for made in (first, second)
                ]
                for n in range(len(tokens))
            ]
            assert one.score == pytest.approx(sum(math.log(sum(map(math.exp, pair)) / 2) for pair in steps))


def test_what_is_never_written() -> None:
    assert not any(3 in one.tokens for each in search(make(), width=3, longest=9, n_best=3, never=[3]) for one in each)
    assert any(3 in one.tokens for each in search(make(), width=3, longest=9, n_best=3) for one in each)
