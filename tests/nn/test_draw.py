"""DRAW's reads and writes against plain loops."""

import math

import pytest
import torch
from torch import Tensor

from conveyor.nn.draw import Draw, grid, read, write

A, B, N = 9, 7, 3


def parameters(count: int = 4) -> Tensor:
    torch.manual_seed(0)
    spread, mean = torch.tensor([0.2, 0.2, 0.3, 0.2, 0.3]), torch.tensor([0.0, 0.0, 1.0, -0.7, 0.0])
    return torch.randn(count, 5, dtype=torch.float64) * spread + mean


def filters(centre: float, delta: float, variance: float, size: int) -> list[list[float]]:
    rows = []
    for i in range(1, N + 1):
        mean = centre + (i - N / 2 - 0.5) * delta
        row = [math.exp(-((a - mean) ** 2) / (2 * variance)) for a in range(1, size + 1)]
        rows.append([value / sum(row) for value in row])
    return rows


def test_reads_and_writes_are_those_of_the_paper() -> None:
    """Equations 19 to 29, in loops."""
    given, images, patches = parameters(), torch.randn(4, A, B).double(), torch.randn(4, N * N).double()
    at = grid(given, N, A, B)
    seen, written = read(images, at), write(patches, at)
    for n, (g_y, g_x, log_variance, log_delta, log_gamma) in enumerate(given.tolist()):
        delta, variance, gamma = (
            (max(A, B) - 1) / (N - 1) * math.exp(log_delta),
            math.exp(log_variance),
            math.exp(log_gamma),
        )
        F_y = filters((A + 1) / 2 * (g_y + 1), delta, variance, A)
        F_x = filters((B + 1) / 2 * (g_x + 1), delta, variance, B)
        for i in range(N):
            for j in range(N):
                total = sum(F_y[i][a] * float(images[n, a, b]) * F_x[j][b] for a in range(A) for b in range(B))
                assert float(seen[n, N * i + j]) == pytest.approx(gamma * total)
        for a in range(A):
            for b in range(B):
                total = sum(F_y[i][a] * float(patches[n, N * i + j]) * F_x[j][b] for i in range(N) for j in range(N))
                assert float(written[n, a, b]) == pytest.approx(total / gamma)


def test_a_grid_far_away_sees_nothing_and_breaks_nothing() -> None:
    far = torch.tensor([[50.0, -50.0, -8.0, 0.0, 0.0]], requires_grad=True)
    at = grid(far, N, A, B)
    seen = read(torch.ones(1, A, B), at)
    assert not seen.any()
    seen.sum().backward()
    assert far.grad is not None
    assert far.grad.isfinite().all()


@pytest.mark.parametrize("size", [0, 3])
def test_the_bound_is_the_nats_of_the_latent_variables(size: int) -> None:
    """KL against torch's; the drawing is what the writes of all steps come to."""
    torch.manual_seed(0)
    model, images = Draw(A, B, 4, 16, 5, size, size), torch.rand(6, A, B)
    heard: list[Tensor] = []
    model.latent.register_forward_hook(lambda _, __, output: heard.append(output))
    drawn = model(images)
    expected = torch.zeros(6)
    for output in heard:
        mean, raw = output.chunk(2, 1)
        posterior = torch.distributions.Normal(mean, torch.nn.functional.softplus(raw))
        expected += torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(drawn.kl, expected, rtol=1e-4, atol=1e-4)
    assert len(drawn.canvases) == 4
    assert len(drawn.boxes) == (4 if size else 0)
    assert torch.equal(drawn.canvas, drawn.canvases[-1])
    noise = torch.randn(4, 6, 5)
    assert torch.equal(model(images, noise).canvas, model(images, noise).canvas)
    assert model.sample(3).canvas.shape == (3, A, B)
