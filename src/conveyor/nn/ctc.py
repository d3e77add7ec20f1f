"""Connectionist temporal classification: texts out of a distribution over tokens and a blank at every step."""

from __future__ import annotations

import torch
from torch import Tensor

BLANK = 0


def ctc_loss(logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """-log p of each text [B], the sum over all alignments (A. Graves et al. 2006, 10.1145/1143844.1143891).

    logits [T, B, W] of which number 0 is the blank, lengths [B], targets [B, U] padded, target_lengths [B]. A text that
    needs more steps than there are counts as nothing.
    """
    log_p = logits.log_softmax(-1)
    nats: Tensor = torch.nn.functional.ctc_loss(
        log_p, targets, lengths, target_lengths, blank=BLANK, reduction="none", zero_infinity=True
    )
    return nats


def best_path(logits: Tensor, lengths: Tensor) -> list[list[int]]:
    """The text of the likeliest token at each step: runs are one token, blanks none."""
    rows = logits.argmax(-1).T.tolist()
    paths = [row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)]
    return [
        [token for token, before in zip(path, [BLANK, *path], strict=False) if token not in (before, BLANK)]
        for path in paths
    ]
