"""Attention against its equations, written out place by place."""

import pytest
import torch

from conveyor.nn.attention import Attention, coverage_loss, doubly_stochastic

T, S, B, Q, V, A = 3, 5, 4, 6, 7, 8
LENGTHS = torch.tensor([5, 1, 0, 3])


@pytest.fixture
def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(5)
    return torch.randn(T, B, Q).double(), torch.randn(S, B, V).double(), torch.randn(T, B, V).double()


def make(kind: str, coverage: bool) -> Attention:
    torch.manual_seed(6)
    attention = Attention(Q, V, A, kind, coverage).double()  # type: ignore[arg-type]
    if attention.coverage is not None:
        torch.nn.init.normal_(attention.coverage)
    return attention


def plain(attention: Attention, q, values, own, b):
    """Contexts [T, V] and weights [T, S] of row b, from the equations."""
    U = attention.key.weight
    covered = torch.zeros(S).double()
    contexts, shares = [], []
    for t in range(T):

        def score(m, c):
            u = attention.coverage if attention.coverage is not None else torch.zeros(1).double()
            if attention.score is None:
                return q[t, b] @ U @ m + u[0] * c  # noqa: B023
            inner = attention.query.weight @ q[t, b] + attention.query.bias + U @ m + u * c  # noqa: B023
            return attention.score.weight[0] @ inner.tanh()

        places = [score(values[s, b], covered[s]) for s in range(LENGTHS[b])]
        last = [score(own[t, b], 0.0)] if own is not None else []
        if not places + last:
            contexts.append(torch.zeros(V).double())
            shares.append(torch.zeros(S).double())
            continue
        α = torch.stack(places + last).softmax(0)
        weights = torch.zeros(S).double()
        weights[: len(places)] = α[: len(places)]
        context = sum((weights[s] * values[s, b] for s in range(S)), torch.zeros(V).double())
        contexts.append(context + (α[-1] * own[t, b] if own is not None else 0))
        shares.append(weights)
        covered = covered + weights
    return torch.stack(contexts), torch.stack(shares)


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize("coverage", [False, True])
@pytest.mark.parametrize("sentinel", [False, True])
def test_equations(kind, coverage, sentinel, inputs) -> None:
    query, values, own = inputs
    own = own if sentinel else None
    attention = make(kind, coverage)
    seen = attention(query, attention.remember(values, LENGTHS), None, own)
    for b in range(B):
        context, weights = plain(attention, query, values, own, b)
        torch.testing.assert_close(seen.context[:, b], context)
        torch.testing.assert_close(seen.weights[:, b], weights)


def test_coverage_goes_on_over_calls(inputs) -> None:
    query, values, _ = inputs
    attention = make("additive", True)
    memory = attention.remember(values, LENGTHS)
    whole, first = attention(query, memory), attention(query[:2], memory)
    rest = attention(query[2:], memory, first.covered)
    torch.testing.assert_close(rest.context, whole.context[2:])
    torch.testing.assert_close(rest.covered, whole.covered)
    torch.testing.assert_close(whole.covered[0], whole.weights.sum(0))


def test_gradients(inputs) -> None:
    query, values, own = (x.requires_grad_() for x in inputs)
    attention = make("additive", True)

    def run(query, values, own):
        return attention(query, attention.remember(values, LENGTHS), None, own)[:2]

    assert torch.autograd.gradcheck(run, (query, values, own))


def test_regularisers() -> None:
    """By hand: two steps over three places, the last of which is not there."""
    weights = torch.tensor([[[0.75, 0.25, 0.0]], [[0.5, 0.5, 0.0]]])
    mask = torch.tensor([[True], [True], [False]])
    assert doubly_stochastic(weights, mask).item() == pytest.approx((1 - 1.25) ** 2 + (1 - 0.75) ** 2)
    assert coverage_loss(weights).tolist() == [[0.0], [pytest.approx(0.5 + 0.25)]]
