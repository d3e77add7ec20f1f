"""The soft window and the LSTM that moves it, against loops, and that it only moves on."""

import torch
from torch import Tensor

from conveyor import equations
from conveyor.nn.window import SoftWindow, State, Window, WindowLSTM


def test_the_window_against_a_loop() -> None:
    torch.manual_seed(0)
    B, V, U, K = 3, 4, 5, 2
    window = SoftWindow(7, K, speed=0.3).double()
    h, text, lengths = torch.randn(B, 7).double(), torch.randn(B, U, V).double(), torch.tensor([5, 3, 1])
    places = torch.rand(B, K).double()
    seen = window(h, text, torch.arange(U) < lengths[:, None], places)
    for b in range(B):
        a, width, moved = (part.tolist() for part in window.output(h[b]).exp().chunk(3))
        kappa = [float(before) + 0.3 * step for before, step in zip(places[b], moved, strict=True)]
        phi = [
            sum(a[k] * float(torch.tensor(-width[k] * (kappa[k] - u) ** 2).exp()) for k in range(K))
            if u < lengths[b]
            else 0.0
            for u in range(U)
        ]
        torch.testing.assert_close(seen.places[b], torch.tensor(kappa, dtype=torch.float64))
        torch.testing.assert_close(seen.weights[b], torch.tensor(phi, dtype=torch.float64), rtol=1e-5, atol=1e-7)
        values = sum(share * text[b, u] for u, share in enumerate(phi))
        torch.testing.assert_close(seen.values[b], values, rtol=1e-5, atol=1e-7)


def step_by_step(
    lstm: WindowLSTM, x: Tensor, text: Tensor, lengths: Tensor, state: State | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h, w and phi of all steps, and the last c, by the equations and autograd."""
    B, H, V, U, K = x.shape[1], lstm.cell.hidden_size, text.shape[2], len(text), lstm.window.components
    of = equations.Weights(lstm.cell.weight_ih, lstm.cell.weight_hh, lstm.cell.bias_ih, lstm.cell.bias_hh)
    h, c, w, places = (x.new_zeros(B, n) for n in (H, H, V, K))
    if state:
        h, c, (w, _, places) = state
    found = []
    for one in x:
        h, gates = equations.lstm_step(torch.cat([one, w], 1), h, c, of)
        seen = lstm.window(h, text.transpose(0, 1), torch.arange(U) < lengths[:, None], places)
        assert (seen.places > places).all()
        c, w, places = gates.c, seen.values, seen.places
        found.append((h, w, seen.weights))
    hidden, values, weights = (torch.stack(part) for part in zip(*found, strict=True))
    return hidden, values, weights, c


def test_the_lstm_sees_the_window_of_the_step_before() -> None:
    """Results and gradients, of all weights and of the state before."""
    torch.manual_seed(1)
    T, B, I, V, U, H, K = 6, 2, 3, 4, 8, 5, 2
    lstm = WindowLSTM(I, V, H, K).double()
    with torch.no_grad():
        lstm.window.output.bias[0] = 8.5  # beyond what is let through
    x, text, lengths = torch.randn(T, B, I).double(), torch.randn(U, B, V).double(), torch.tensor([8, 5])
    shapes = (B, H), (B, H), (B, V), (B, U), (B, K)
    h, c, w, phi, kappa = (torch.rand(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    state = (h, c, Window(w, phi, kappa))
    x.requires_grad_()
    hidden, values, weights, last = lstm(x, text, lengths, state)
    expected = step_by_step(lstm, x, text, lengths, state)
    for ours, theirs in zip((hidden, values, weights, last[1]), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    asked = [x, h, c, w, kappa, *lstm.parameters()]
    of = [torch.randn_like(part) for part in (hidden, values, last[1])]
    ours, theirs = (
        torch.autograd.grad([hidden, values, c_n], asked, of)
        for hidden, values, c_n in ((hidden, values, last[1]), (expected[0], expected[1], expected[3]))
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_it_goes_on_where_it_was() -> None:
    torch.manual_seed(2)
    lstm, x = WindowLSTM(3, 4, 5, 3), torch.randn(9, 2, 3)
    text, lengths = torch.randn(20, 2, 4), torch.tensor([20, 11])
    whole, *_ = lstm(x, text, lengths)
    state, parts = None, []
    for part in x.split([1, 5, 3]):
        hidden, _, _, state = lstm(part, text, lengths, state)
        parts.append(hidden)
    torch.testing.assert_close(torch.cat(parts), whole)
