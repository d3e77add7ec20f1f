"""Several language models as one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from conveyor.nn.softmaxes import IGNORE

State = tuple[Tensor, Tensor]


class MeanOfSoftmaxes(nn.Module):
    """The mean of the probabilities of several output layers, each of which takes its share of the hidden features."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, hidden: Tensor) -> Tensor:
        """Log-probabilities."""
        shares = zip(self.layers, hidden.chunk(len(self.layers), -1), strict=True)
        return self._mean([log_softmax(layer(share), -1) for layer, share in shares])

    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-log p of each target."""
        shares = zip(self.layers, hidden.chunk(len(self.layers), -1), strict=True)
        nats: list[Tensor] = [layer.nats(share, targets) for layer, share in shares]  # type: ignore[operator]
        return (-self._mean([-each for each in nats])).masked_fill(targets == IGNORE, 0)

    def _mean(self, logs: list[Tensor]) -> Tensor:
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))


class Ensemble(nn.Module):
    """The mean of the probabilities of several networks, which have `read` and `output` as those of the task.

    The states of all, and what their output layers see, lie side by side.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.output = MeanOfSoftmaxes([network.output for network in networks])  # type: ignore[misc]

    def read(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Tokens [T, B] to what the output layers see, [T, B, M*H], and the next state."""
        count = len(self.networks)
        states = [*zip(*(part.chunk(count) for part in state), strict=True)] if state else [None] * count
        pairs = [network.read(tokens, own) for network, own in zip(self.networks, states, strict=True)]  # type: ignore[operator]
        h, c = (torch.cat(parts) for parts in zip(*(own for _, own in pairs), strict=True))
        return torch.cat([hidden for hidden, _ in pairs], -1), (h, c)

    def forward(
        self, tokens: Tensor, state: State | None = None, targets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Log-probabilities [T, B, V], or with targets [T, B] -log of theirs [T, B], and the next state."""
        hidden, state = self.read(tokens, state)
        return self.output(hidden) if targets is None else self.output.nats(hidden, targets), state
