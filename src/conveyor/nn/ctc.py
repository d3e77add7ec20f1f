"""Connectionist temporal classification: texts out of a distribution over tokens and a blank at every step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BLANK = 0
UNLIKELY = math.log(1e-4)
"""A beam search passes over tokens less likely than this at a step."""

Prefix = tuple[int, ...]


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


class Spelled(NamedTuple):
    """A text read from a distribution, token by token."""

    tokens: list[int]
    confidence: list[float]
    """The probability of each token at its likeliest step."""
    spans: list[tuple[int, int]]
    """The steps of each token, of which the last is not counted."""


def best_path(logits: Tensor, lengths: Tensor) -> list[Spelled]:
    """The text of the likeliest token at each step: runs are one token, blanks none."""
    p, best = logits.softmax(-1).max(-1)
    return [
        _spell(best[:length, b].tolist(), p[:length, b].tolist(), [BLANK]) for b, length in enumerate(lengths.tolist())
    ]


def align(logits: Tensor, length: int, tokens: Sequence[int]) -> Spelled:
    """Where a text stands in a distribution [T, W] of `length` steps: its likeliest alignment (Viterbi).

    Raises a ValueError where the text needs more steps than there are: one a token, and a blank between two alike.
    """
    needed = len(tokens) + sum(a == b for a, b in pairwise(tokens))
    if needed > length:
        raise ValueError(f"expected at least {needed} steps for {len(tokens)} tokens, got {length}")
    labels = np.full(2 * len(tokens) + 1, BLANK)  # blanks around each token
    labels[1::2] = tokens
    log_p = logits[:length].log_softmax(-1).numpy()[:, labels]
    may_skip = np.arange(len(labels)) % 2 == 1
    may_skip[2:] &= labels[2:] != labels[:-2]
    score, came = np.full(len(labels), -np.inf), np.zeros(log_p.shape, np.int64)
    score[:2] = log_p[0, :2]
    for t in range(1, length):
        step = np.concatenate([[-np.inf], score[:-1]])
        skip = np.where(may_skip, np.concatenate([[-np.inf, -np.inf], score])[: len(score)], -np.inf)
        ways = np.stack([score, step, skip])
        came[t] = ways.argmax(0)
        score = ways.max(0) + log_p[t]
    places = [len(labels) - 1 if len(labels) == 1 or score[-1] >= score[-2] else len(labels) - 2]
    for t in range(length - 1, 0, -1):
        places.append(places[-1] - int(came[t, places[-1]]))
    path = places[::-1]
    p = [math.exp(log_p[t, s]) for t, s in enumerate(path)]
    spelled = _spell(path, p, range(0, len(labels), 2))
    return spelled._replace(tokens=[int(labels[s]) for s in spelled.tokens])


def _spell(path: Sequence[int], p: Sequence[float], blanks: Sequence[int]) -> Spelled:
    """Runs of a path, but those of blanks."""
    tokens, confidence, spans = list[int](), list[float](), list[tuple[int, int]]()
    before = -1
    for t, (token, share) in enumerate(zip(path, p, strict=True)):
        if token in blanks:
            before = -1
            continue
        if token == before:
            confidence[-1], spans[-1] = max(confidence[-1], share), (spans[-1][0], t + 1)
        else:
            tokens.append(token)
            confidence.append(share)
            spans.append((t, t + 1))
        before = token
    return Spelled(tokens, confidence, spans)


class LanguageModel(NamedTuple):
    """What a beam search believes of texts, besides what it sees."""

    log_p: Callable[[Sequence[Prefix]], np.ndarray]
    """Of each token [N, W] behind each of N prefixes."""
    weight: float
    """What its log p counts by."""
    bonus: float = 0.0
    """For each token, since longer texts are less likely."""


def prefix_beam_search(
    logits: Tensor, length: int, width: int = 10, language: LanguageModel | None = None
) -> list[tuple[list[int], float]]:
    """The likeliest texts of a distribution [T, W] of `length` steps, the best first, each with log p over all of its
    alignments that the beam kept, and the language model's share (A. Hannun et al. 2014, arXiv 1408.2873).

    Of each prefix, log p of the alignments that end in a blank and of those that end in its last token are kept apart;
    after each step the `width` best prefixes stay.
    """
    steps = logits[:length].log_softmax(-1).double().numpy()
    beams: dict[Prefix, tuple[float, float]] = {(): (0.0, -math.inf)}
    bonus: dict[Prefix, float] = {(): 0.0}
    for now in steps:
        likely = np.flatnonzero(now > UNLIKELY).tolist()
        found: defaultdict[Prefix, list[float]] = defaultdict(lambda: [-math.inf, -math.inf])
        for prefix, (blank, token) in beams.items():
            both, last = np.logaddexp(blank, token), prefix[-1] if prefix else BLANK
            same = found[prefix]
            same[0] = np.logaddexp(same[0], both + now[BLANK])
            if prefix:
                same[1] = np.logaddexp(same[1], token + now[last])
            for new in likely:
                if new != BLANK:
                    before = blank if new == last else both
                    if before > -math.inf:
                        longer = found[(*prefix, new)]
                        longer[1] = np.logaddexp(longer[1], before + now[new])
        _believe(bonus, [prefix for prefix in found if prefix not in bonus], language)
        best = sorted(
            found, key=lambda prefix: bonus[prefix] + np.logaddexp(found[prefix][0], found[prefix][1]), reverse=True
        )[:width]
        beams = {prefix: (found[prefix][0], found[prefix][1]) for prefix in best}
    ranked = [([*prefix], float(np.logaddexp(ends[0], ends[1]) + bonus[prefix])) for prefix, ends in beams.items()]
    return sorted(ranked, key=lambda one: one[1], reverse=True)


def _believe(bonus: dict[Prefix, float], new: list[Prefix], language: LanguageModel | None) -> None:
    """What a language model adds to the scores of prefixes."""
    if language is None:
        bonus.update(dict.fromkeys(new, 0.0))
        return
    parents = sorted({prefix[:-1] for prefix in new})
    behind = dict(zip(parents, language.log_p(parents), strict=True)) if parents else {}
    for prefix in new:
        more = language.weight * float(behind[prefix[:-1]][prefix[-1]]) + language.bonus
        bonus[prefix] = bonus[prefix[:-1]] + more
