"""DRAW: an image read and written in glimpses, each where a recurrent network looks (K. Gregor et al. 2015)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from conveyor.nn.cells import LSTMCell

TINY = 1e-8


class Grid(NamedTuple):
    """N x N Gaussians over an image of height A and width B."""

    rows: Tensor
    """F_Y [batch, N, A], each normalised over A."""
    columns: Tensor
    """F_X [batch, N, B]."""
    strength: Tensor
    """gamma [batch, 1]"""
    box: Tensor
    """[batch, 4]: the centre down and across, the distance of the Gaussians, and their deviation, in pixels."""


def grid(parameters: Tensor, count: int, height: int, width: int) -> Grid:
    """The grid that five numbers [batch, 5] place: g_Y, g_X, log sigma^2, log delta, log gamma (equations 19 to 26).

    The centre is (A + 1) / 2 (g_Y + 1), (B + 1) / 2 (g_X + 1), the distance (max(A, B) - 1) / (N - 1) delta.
    """
    g_y, g_x, log_variance, log_delta, log_gamma = parameters.unbind(-1)
    y, x = (height + 1) / 2 * (g_y + 1), (width + 1) / 2 * (g_x + 1)
    delta = (max(height, width) - 1) / max(count - 1, 1) * log_delta.exp()
    offsets = (torch.arange(count, device=parameters.device) - (count - 1) / 2) * delta[:, None]
    deviation = (0.5 * log_variance).exp()
    rows, columns = (_filters(centre[:, None] + offsets, deviation, size) for centre, size in ((y, height), (x, width)))
    return Grid(rows, columns, log_gamma.exp()[:, None], torch.stack([y, x, delta, deviation], -1))


def _filters(centres: Tensor, deviation: Tensor, size: int) -> Tensor:
    """Gaussians [batch, N, size] about centres [batch, N] in pixels counted from 1, normalised over the pixels."""
    places = torch.arange(1, size + 1, device=centres.device)
    far = (places - centres[..., None]) / deviation[:, None, None]
    filters = (-0.5 * far.square()).exp()
    normal: Tensor = filters / filters.sum(-1, keepdim=True).clamp_min(TINY)
    return normal


def read(image: Tensor, at: Grid) -> Tensor:
    """What a grid sees of an image [batch, A, B]: gamma F_Y x F_X^T, [batch, N N] (equation 27)."""
    seen = at.rows @ image @ at.columns.transpose(1, 2)
    return at.strength * seen.flatten(1)


def write(patch: Tensor, at: Grid) -> Tensor:
    """A patch [batch, N N] spread over an image: F_Y^T w F_X / gamma, [batch, A, B] (equation 29)."""
    count = at.rows.shape[1]
    w = (patch / at.strength).view(-1, count, count)
    return at.rows.transpose(1, 2) @ w @ at.columns


class Drawn(NamedTuple):
    """A drawing, step by step."""

    canvas: Tensor
    """Logits of the pixels after the last step [batch, A, B]."""
    kl: Tensor
    """Nats that the latent variables of all steps cost [batch]; zero where nothing was read."""
    canvases: list[Tensor]
    """After every step."""
    boxes: list[Tensor]
    """Where each step wrote [batch, 4], as in `Grid`; empty without attention."""


class Draw(nn.Module):
    """A recurrent variational autoencoder: one LSTM reads, another writes, both at every glimpse.

        x^_t = x - sigmoid(c_{t-1});  r_t = read(x, x^_t, h^dec_{t-1});  h^enc_t = LSTM([r_t, h^dec_{t-1}])
        z_t ~ N(mu(h^enc_t), sigma(h^enc_t));  h^dec_t = LSTM(z_t);  c_t = c_{t-1} + write(h^dec_t)

    Args:
        height, width: of the images, of one channel.
        glimpses: T.
        hidden_size: of both LSTMs.
        latent_size: of each z_t.
        read_size, write_size: N of the grids; 0 reads the whole image, or writes all of it, without attention.
    """

    def __init__(
        self,
        height: int,
        width: int,
        glimpses: int,
        hidden_size: int,
        latent_size: int,
        read_size: int,
        write_size: int,
    ) -> None:
        super().__init__()
        self.height, self.width, self.glimpses = height, width, glimpses
        self.read_size, self.write_size, self.latent_size = read_size, write_size, latent_size
        seen = 2 * (read_size**2 or height * width)
        self.reader = LSTMCell(seen + hidden_size, hidden_size)
        self.writer = LSTMCell(latent_size, hidden_size)
        self.latent = nn.Linear(hidden_size, 2 * latent_size)
        self.look = nn.Linear(hidden_size, 5) if read_size else None
        self.place = nn.Linear(hidden_size, 5) if write_size else None
        self.patch = nn.Linear(hidden_size, write_size**2 or height * width)
        self.first = nn.Parameter(torch.zeros(height, width))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Drawn:
        """Draw images [batch, A, B], 0 to 1, again; noise [T, batch, latent] for the latent variables may be given."""
        count = len(images)
        return self._draw(torch.randn(self._noise(count), device=images.device) if noise is None else noise, images)

    def sample(self, count: int) -> Drawn:
        """Draw so many images of its own."""
        return self._draw(torch.randn(self._noise(count)), None)

    def _noise(self, count: int) -> tuple[int, int, int]:
        return self.glimpses, count, self.latent_size

    def _draw(self, noise: Tensor, images: Tensor | None) -> Drawn:
        count = noise.shape[1]
        canvas = self.first.expand(count, -1, -1)
        h = canvas.new_zeros(count, self.writer.hidden_size)
        read_state, write_state = (h, h), (h, h)
        kl, canvases, boxes = canvas.new_zeros(count), list[Tensor](), list[Tensor]()
        for z in noise:
            if images is not None:
                read_state = self.reader(torch.cat([self._see(images, canvas, h), h], 1), read_state)
                mean, raw = self.latent(read_state[0]).chunk(2, 1)
                deviation = softplus(raw) + TINY
                z = mean + deviation * z
                kl = kl + 0.5 * (mean.square() + deviation.square() - 2 * deviation.log() - 1).sum(1)
            write_state = self.writer(z, write_state)
            h = write_state[0]
            patch = self.patch(h)
            if self.place is None:
                canvas = canvas + patch.view(count, self.height, self.width)
            else:
                at = grid(self.place(h), self.write_size, self.height, self.width)
                canvas = canvas + write(patch, at)
                boxes.append(at.box)
            canvases.append(canvas)
        return Drawn(canvas, kl, canvases, boxes)

    def _see(self, images: Tensor, canvas: Tensor, h: Tensor) -> Tensor:
        error = images - canvas.sigmoid()
        if self.look is None:
            return torch.cat([images.flatten(1), error.flatten(1)], 1)
        at = grid(self.look(h), self.read_size, self.height, self.width)
        return torch.cat([read(images, at), read(error, at)], 1)
