"""A soft window over a text, which only moves on, and the LSTM that moves it (A. Graves 2013, section 5.1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from conveyor.nn.cells import LSTMCell

MOST = 8.0
"""Logarithms of the window's numbers, at most."""


class Window(NamedTuple):
    """Where a window is, and what it shows."""

    values: Tensor
    """[B, V]: the text, where the window is."""
    weights: Tensor
    """phi [B, U]"""
    places: Tensor
    """kappa [B, K]"""


class SoftWindow(nn.Module):
    """K Gaussians over the places u of a text, each of which only moves on.

        (a, b, k)_t = exp(W h_t + bias);  kappa_t = kappa_{t-1} + speed k_t
        phi(t, u) = sum_k a_t exp(-b_t (kappa_t - u)^2);  w_t = sum_u phi(t, u) c_u

    Args:
        input_size: of h.
        components: K.
        speed: places that a step moves on at the start.

    Shapes: h [B, I], text [B, U, V], there [B, U], true where there is text, places [B, K].
    """

    def __init__(self, input_size: int, components: int, speed: float = 0.05) -> None:
        super().__init__()
        self.components, self.speed = components, speed
        self.output = nn.Linear(input_size, 3 * components)

    def forward(self, h: Tensor, text: Tensor, there: Tensor, places: Tensor) -> Window:
        """The window after a step."""
        a, b, moved = self.output(h).clamp_max(MOST).exp().chunk(3, -1)
        kappa = places + self.speed * moved
        far = kappa[..., None] - torch.arange(text.shape[1], device=h.device)  # [B, K, U]
        phi = (a[..., None] * (-b[..., None] * far.square()).exp()).sum(-2) * there
        return Window(torch.bmm(phi[:, None], text)[:, 0], phi, kappa)


State = tuple[Tensor, Tensor, Window]


class WindowLSTM(nn.Module):
    """An LSTM that moves a window over a text, and at each step sees what the window showed at the one before.

        h_t, c_t = LSTM([x_t, w_{t-1}], h_{t-1}, c_{t-1});  w_t of h_t as in `SoftWindow`

    Args:
        input_size: I of x.
        text_size: V of a place of the text.
        hidden_size: H.
        components: K of the window.

    Shapes: x [T, B, I], text [U, B, V], lengths [B] of the texts. Gives h [T, B, H], w [T, B, V], phi [T, B, U] and the
    state to go on with. text and phi have no gradients, and there are no second ones.
    """

    def __init__(self, input_size: int, text_size: int, hidden_size: int, components: int) -> None:
        super().__init__()
        self.cell = LSTMCell(input_size + text_size, hidden_size)
        self.window = SoftWindow(hidden_size, components)

    def forward(
        self, x: Tensor, text: Tensor, lengths: Tensor, state: State | None = None
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Step by step, but for the product of x, which is one for all."""
        I, B, given = x.shape[-1], x.shape[1], text.transpose(0, 1)
        there = torch.arange(len(text), device=x.device) < lengths[:, None]
        w_ih, w_hh, b_ih, b_hh = self.cell.parameters()
        of_x, rest = linear(x, w_ih[:, :I], b_ih + b_hh), torch.cat([w_ih[:, I:], w_hh], 1)
        if state is None:
            sizes = (given.shape[2], given.shape[1], self.window.components)
            nothing = x.new_zeros(B, self.cell.hidden_size)
            state = nothing, nothing, Window(*(x.new_zeros(B, n) for n in sizes))
        h, c, (seen, _, places) = state
        hidden, values, weights, c, places = _Loop.apply(
            of_x, rest, *self.window.output.parameters(), h, c, seen, places, given, there,
            self.window.speed,
        )  # fmt: skip
        return hidden, values, weights, (hidden[-1], c, Window(values[-1], weights[-1], places))


class _Loop(torch.autograd.Function):
    """All steps, and their gradients by hand: autograd would keep a dozen small tensors a step.

    The weights' gradients are one product over all steps.
    """

    @staticmethod
    def forward(
        ctx: Any, of_x: Tensor, rest: Tensor, W: Tensor, bias: Tensor, h: Tensor, c: Tensor, w: Tensor, kappa: Tensor,
        text: Tensor, there: Tensor, speed: float,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        u, kept = torch.arange(text.shape[1], device=h.device), []
        for sums in of_x:
            seen = torch.cat([w, h], 1)
            i, f, g, o = torch.addmm(sums, seen, rest.t()).chunk(4, 1)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            before = c
            c = torch.addcmul(f * before, i, g)
            shown = c.tanh()
            h = o * shown
            logs = torch.addmm(bias, h, W.t())
            a, b, moved = logs.clamp_max(MOST).exp().chunk(3, 1)
            kappa = kappa + speed * moved
            far = kappa[..., None] - u
            each = a[..., None] * (-b[..., None] * far.square()).exp() * there[:, None]
            phi = each.sum(1)
            w = torch.bmm(phi[:, None], text)[:, 0]
            kept.append((seen, i, f, g, o, before, shown, h, logs, far, each, phi, w))
        ctx.kept, ctx.speed = kept, speed
        ctx.save_for_backward(rest, W, text)
        hidden, phis, values = (torch.stack([step[n] for step in kept]) for n in (7, 11, 12))
        ctx.mark_non_differentiable(phis)
        return hidden, values, phis, c, kappa

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dhs: Tensor, dws: Tensor, _: Tensor, dc: Tensor, dkappa: Tensor) -> tuple[Any, ...]:
        rest, W, text = ctx.saved_tensors
        V, T = text.shape[2], len(ctx.kept)
        dgates, dlogs = dhs.new_empty(T, dhs.shape[1], len(rest)), dhs.new_empty(T, dhs.shape[1], len(W))
        dh, dw = torch.zeros_like(dhs[0]), torch.zeros_like(dws[0])
        for t in range(T - 1, -1, -1):
            _, i, f, g, o, before, shown, _, logs, far, each, *_ = ctx.kept[t]
            part = torch.bmm(text, (dw + dws[t])[..., None])[:, None, :, 0] * each  # dphi a exp(-b far^2), [B, K, U]
            a, b, moved = dlogs[t].chunk(3, 1)
            raw = logs.clamp_max(MOST).exp()
            _, width, step = raw.chunk(3, 1)
            scaled = part * far
            a.copy_(part.sum(2))
            torch.mul((scaled * far).sum(2), -width, out=b)
            dkappa = dkappa - 2 * width * scaled.sum(2)
            torch.mul(dkappa, ctx.speed * step, out=moved)
            dlogs[t] *= logs <= MOST
            dh = torch.addmm(dh + dhs[t], dlogs[t], W)
            dc = torch.addcmul(dc, dh * o, 1 - shown.square())
            di, df, dg, do = dgates[t].chunk(4, 1)
            torch.mul(dc * g, i * (1 - i), out=di)
            torch.mul(dc * before, f * (1 - f), out=df)
            torch.mul(dc * i, 1 - g.square(), out=dg)
            torch.mul(dh * shown, o * (1 - o), out=do)
            dw, dh = (dgates[t] @ rest).split([V, dh.shape[1]], 1)
            dc = dc * f
        seen, hidden = (torch.stack([step[n] for step in ctx.kept]).flatten(0, 1) for n in (0, 7))
        of_rest, of_W = dgates.flatten(0, 1).t() @ seen, dlogs.flatten(0, 1).t() @ hidden
        return dgates, of_rest, of_W, dlogs.sum((0, 1)), dh, dc, dw, dkappa, None, None, None
