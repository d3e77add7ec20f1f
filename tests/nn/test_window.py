"""The soft window against a loop, step by step, and that it only moves on."""

import torch

from conveyor.nn.window import SoftWindow


def test_against_a_loop() -> None:
    torch.manual_seed(0)
    T, B, V, U, K = 6, 3, 4, 5, 2
    window = SoftWindow(7, K, speed=0.3).double()
    h, text, lengths = torch.randn(T, B, 7).double(), torch.randn(U, B, V).double(), torch.tensor([5, 3, 1])
    seen = window(h, text, lengths)
    for b in range(B):
        kappa = [0.0] * K
        for t in range(T):
            logs = window.output(h[t, b])
            a, width, moved = (part.tolist() for part in logs.exp().chunk(3))
            kappa = [before + 0.3 * step for before, step in zip(kappa, moved, strict=True)]
            phi = [
                sum(a[k] * float(torch.tensor(-width[k] * (kappa[k] - u) ** 2).exp()) for k in range(K))
                if u < lengths[b]
                else 0.0
                for u in range(U)
            ]
            torch.testing.assert_close(seen.weights[t, b], torch.tensor(phi, dtype=torch.float64), rtol=1e-5, atol=1e-7)
            values = sum(share * text[u, b] for u, share in enumerate(phi))
            torch.testing.assert_close(seen.values[t, b], values, rtol=1e-5, atol=1e-7)


def test_it_moves_forward_and_goes_on() -> None:
    torch.manual_seed(1)
    window, h, text, lengths = SoftWindow(7, 3), torch.randn(9, 2, 7), torch.randn(20, 2, 4), torch.tensor([20, 11])
    whole = window(h, text, lengths)
    places = None
    for t in range(9):
        step = window(h[t : t + 1], text, lengths, places)
        assert places is None or (step.places > places).all()
        torch.testing.assert_close(step.values[0], whole.values[t])
        places = step.places
    torch.testing.assert_close(places, whole.places)
