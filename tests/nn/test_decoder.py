"""The decoder: all steps at once against one after the other, and its parts by hand."""

import itertools

import pytest
import torch

from conveyor.nn.decoder import Decoder, scheduled
from conveyor.nn.encoder import Encoder

W, E, H, V, S, B, T = 11, 6, 9, 10, 5, 4, 7
LENGTHS = torch.tensor([5, 2, 3, 1])
FORMS = [
    {"layers": n, "input_feeding": feeding, "coverage": coverage, "copy": copy, "sentinel": own, "attention": kind}
    for n, feeding, coverage, copy, own, kind in itertools.product(
        [1, 2, 3], *[[False, True]] * 4, ["additive", "multiplicative"]
    )
]


def make(**form) -> tuple[Decoder, object, object, torch.Tensor]:
    torch.manual_seed(3)
    decoder = Decoder(W, E, H, V, V, **form).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    sources = torch.randint(W, (S, B))
    memory = decoder.remember(torch.randn(S, B, V).double(), LENGTHS, sources)
    return decoder, memory, decoder.start(torch.randn(B, V).double()), torch.randint(W, (T, B))


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_sequence_is_its_steps(form) -> None:
    decoder, memory, state, tokens = make(**form)
    whole = decoder(tokens, memory, state)
    for t in range(T):
        one = decoder(tokens[t : t + 1], memory, state)
        state = one.state
        torch.testing.assert_close(one.logits[0], whole.logits[t])
        torch.testing.assert_close(one.weights[0], whole.weights[t])
    torch.testing.assert_close(state.lower, whole.state.lower)


@pytest.mark.parametrize("feeding", [False, True])
def test_feeding(feeding) -> None:
    """What was looked at reaches the first layer of the next step with input feeding alone."""
    decoder, memory, state, tokens = make(layers=2, input_feeding=feeding)
    other = memory._replace(values=memory.values + 1)
    first, second = (decoder(tokens, seen, state).state.lower[0] for seen in (memory, other))
    assert torch.equal(first, second) is not feeding


@torch.no_grad()
def test_copying() -> None:
    """Probabilities come to 1, and a token's is that of being written plus that of being copied."""
    decoder, memory, state, tokens = make(copy=True)
    decoded = decoder(tokens, memory, state)
    p = decoded.logits.exp()
    torch.testing.assert_close(p.sum(-1), torch.ones(T, B).double())
    decoder.copy.bias.data.fill_(-100.0)  # copy always
    p, weights = (x := decoder(tokens, memory, state)).logits.exp(), x.weights
    for t, b, w in itertools.product(range(T), range(B), range(W)):
        share = sum(weights[t, b, s] for s in range(S) if memory.tokens[s, b] == w)
        assert p[t, b, w] == pytest.approx(float(share))


def test_the_sentinel_takes_the_rest() -> None:
    """Weights over the memory lack of 1 what a step looked at its own state."""
    decoder, memory, state, tokens = make(sentinel=True)
    rest = 1 - decoder(tokens, memory, state).weights.sum(-1)
    assert (rest > 0).all()
    assert rest.std() > 0.01


def test_scheduled_sampling() -> None:
    torch.manual_seed(1)
    tokens = torch.randint(W, (50, 40))
    logits = torch.full((50, 40, W + 3), -100.0)
    logits[..., W + 1] = 0.0
    mixed = scheduled(tokens, logits, 0.25)
    assert torch.equal(mixed[0], tokens[0])
    replaced = mixed[1:] == W + 1
    assert torch.equal(mixed[1:][~replaced], tokens[1:][~replaced])
    assert replaced.double().mean().item() == pytest.approx(0.25, abs=0.04)
    assert torch.equal(scheduled(tokens, logits, 0.0), tokens)


def test_encoder_ends_at_each_rows_end() -> None:
    """What is behind a row's end changes nothing of it."""
    torch.manual_seed(2)
    encoder = Encoder(E, H, 2, vocabulary=W).eval()
    tokens = torch.randint(W, (S, B))
    values, summary = encoder(tokens, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        alone = encoder(tokens[:n, b : b + 1], torch.tensor([n]))
        torch.testing.assert_close(values[:n, b], alone[0][:, 0])
        torch.testing.assert_close(summary[b], alone[1][0])
        assert not values[n:, b].any()
        torch.testing.assert_close(summary[b, :H], values[n - 1, b, :H])
        torch.testing.assert_close(summary[b, H:], values[0, b, H:])
