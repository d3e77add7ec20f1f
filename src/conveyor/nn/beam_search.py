"""Beam search: the likeliest texts that decoders write, of many rows at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conveyor.nn.decoder import Decoded

Step = Callable[[Tensor, Any, Any], Decoded]
"""Of tokens [1, N], memory and state."""


class Hypothesis(NamedTuple):
    """A text that may be the one."""

    tokens: list[int]
    """Without start and end."""
    score: float
    """log p(tokens, end) over the length penalty."""
    weights: Tensor
    """Where the decoder looked as it wrote each token, and the end [T, S]."""


class _Beams(NamedTuple):
    """One step of a search: of each of N rows, the K beams that went on."""

    tokens: Tensor
    """[N, K]"""
    parents: Tensor
    """Which beam of the step before each goes on from [N, K]."""
    weights: Tensor
    """Of the beams of the step before [N, K, S]."""
    rows: list[int]
    """Which rows of the batch these are."""


@torch.inference_mode()
def beam_search(
    decoders: Sequence[Step],
    memories: Sequence[Any],
    states: Sequence[Any],
    *,
    start: int,
    end: int,
    rows: int,
    width: int = 5,
    longest: int = 100,
    length_penalty: float = 0.0,
    n_best: int = 1,
    never: Sequence[int] = (),
) -> list[list[Hypothesis]]:
    """The `n_best` likeliest texts of each row, the best first; with `width` 1 the greedy one.

    A text's score is log p / ((5 + its length) / 6)^length_penalty (Wu et al. 2016, (14)); its length counts the end.
    A row is done when as many texts have ended as its beams are wide, or after `longest` tokens: the rest is cut.
    Several decoders are an ensemble: their probabilities' mean (of each, a memory and a state, in which rows are in
    dimension 1 of every tensor). Tokens in `never` are not written.
    """
    K, S = width, 2 * width
    memories, states = _pick([memories, states], torch.arange(rows).repeat_interleave(K))
    tokens = torch.full((1, rows * K), start)
    scores = torch.tensor([0.0] + [-math.inf] * (K - 1)).repeat(rows, 1)
    alive, steps = list(range(rows)), list[_Beams]()
    found: list[list[tuple[float, int, int, int]]] = [[] for _ in range(rows)]
    for t in range(longest):
        log_p, weights, states = _step(decoders, tokens, memories, states)
        log_p[:, list(never)] = -math.inf
        N, W = len(alive), log_p.shape[-1]
        best, places = (scores.view(N, K, 1) + log_p.view(N, K, W)).flatten(1).topk(min(S, K * W))
        parents, tokens = places // W, places % W
        ended = (tokens == end) & best.isfinite()
        penalty = ((6 + t) / 6) ** length_penalty
        for n, k in ended[:, :K].nonzero().tolist():
            found[alive[n]].append((float(best[n, k]) / penalty, len(steps), alive[n], int(parents[n, k])))
        # the best K that have not ended go on
        going = (best.masked_fill(ended, -math.inf)).topk(K)
        scores, order = going.values, going.indices
        tokens, parents = tokens.gather(1, order), parents.gather(1, order)
        steps.append(_Beams(tokens, parents, weights.view(N, K, -1), alive))
        if t == longest - 1:
            for n, row in enumerate(alive):
                cut = [
                    (float(scores[n, k]) / penalty, len(steps), row, k) for k in range(K) if scores[n, k] > -math.inf
                ]
                found[row] += cut[: max(0, K - len(found[row]))]
            break
        kept = [n for n, row in enumerate(alive) if len(found[row]) < K and scores[n, 0] > -math.inf]
        if not kept:
            break
        chosen = (torch.tensor(kept)[:, None] * K + parents[kept]).flatten()
        states = _pick(states, chosen)
        if len(kept) < N:  # rows that are done cost nothing more
            memories = _pick(memories, (torch.tensor(kept)[:, None] * K + torch.arange(K)).flatten())
            alive = [alive[n] for n in kept]
        tokens, scores = tokens[kept].view(1, -1), scores[kept]
    return [[_trace(steps, *one) for one in sorted(each, reverse=True)[:n_best]] for each in found]


def _step(
    decoders: Sequence[Step], tokens: Tensor, memories: Sequence[Any], states: Sequence[Any]
) -> tuple[Tensor, Tensor, list[Any]]:
    """log p [N, W], weights [N, S] and the states after one token, the mean of all decoders."""
    each = [decoder(tokens, *seen) for decoder, *seen in zip(decoders, memories, states, strict=True)]
    log_p = reduce(torch.logaddexp, (one.logits[0].log_softmax(-1) for one in each)).sub_(math.log(len(each)))
    return log_p, torch.stack([one.weights[0] for one in each]).mean(0), [one.state for one in each]


def _pick(tree: Any, rows: Tensor) -> Any:
    """The same with these rows of every tensor."""
    if isinstance(tree, Tensor):
        return tree.index_select(1, rows)
    if tree is None:
        return None
    parts = (_pick(part, rows) for part in tree)
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


def _trace(steps: list[_Beams], score: float, after: int, row: int, beam: int) -> Hypothesis:
    """The text that ended (or was cut off) after so many steps in a beam of a row."""
    tokens, shares = [], []
    if after < len(steps):  # the step in which the end was written
        shares.append(steps[after].weights[steps[after].rows.index(row), beam])
    for step in reversed(steps[:after]):
        n = step.rows.index(row)
        tokens.append(int(step.tokens[n, beam]))
        beam = int(step.parents[n, beam])
        shares.append(step.weights[n, beam])
    return Hypothesis(tokens[::-1], score, torch.stack(shares[::-1]))
