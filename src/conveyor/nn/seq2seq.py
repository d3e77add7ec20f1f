"""Sequence to sequence: an encoder that reads, and a decoder that writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from conveyor.nn.attention import Memory
from conveyor.nn.beam_search import Hypothesis, beam_search
from conveyor.nn.decoder import Decoded, Decoder, DecoderState


class Seq2Seq(nn.Module):
    """An encoder and the decoder that attends to its values (Bahdanau, Cho & Bengio 2015).

    The encoder takes inputs and lengths, and gives values [S, B, V] with the lengths they keep, and a summary [B, …]
    (`Encoder` is one). A decoder that copies takes the inputs themselves for what may be copied.
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def read(self, inputs: Tensor, lengths: Tensor) -> tuple[Memory, DecoderState]:
        """What the decoder looks at, and the state it begins in."""
        values, summary = self.encoder(inputs, lengths)
        tokens = inputs if self.decoder.copy else None
        return self.decoder.remember(values, lengths, tokens), self.decoder.start(summary)

    def forward(self, inputs: Tensor, lengths: Tensor, tokens: Tensor) -> Decoded:
        """What comes after each of tokens [T, B]."""
        decoded: Decoded = self.decoder(tokens, *self.read(inputs, lengths))
        return decoded


class Ensemble(nn.Module):
    """Several networks as one: the mean of their probabilities."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, *inputs: Any) -> Decoded:
        """As one network."""
        each = [network(*inputs) for network in self.networks]
        log_p = torch.stack([one.logits.log_softmax(-1) for one in each]).logsumexp(0) - math.log(len(each))
        return Decoded(log_p, torch.stack([one.weights for one in each]).mean(0), each[0].state)


@torch.inference_mode()
def search(network: nn.Module, inputs: Tensor, lengths: Tensor, **options: Any) -> list[list[Hypothesis]]:
    """The likeliest texts for each row of inputs, by one network or an ensemble; options are `beam_search`'s."""
    networks: list[Any] = [*network.networks] if isinstance(network, Ensemble) else [network]
    memories, states = zip(*(each.read(inputs, lengths) for each in networks), strict=True)
    decoders = [each.decoder for each in networks]
    return beam_search(decoders, memories, states, rows=len(lengths), **options)
