"""Segment overlap: how well predicted segments of structure lie on the true ones."""

from __future__ import annotations

from torch import Tensor

from conveyor.training.structure_picture import segments


def sov99(true: str, predicted: str, states: str) -> float:
    """SOV'99 of one chain, from 0 to 1 (A. Zemla et al. 1999, Proteins 34, 220, equations 1 to 4).

        SOV = 1/N Σ_pairs (minov + δ) / maxov · len(s1)
        δ   = min(maxov - minov, minov, ⌊len(s1) / 2⌋, ⌊len(s2) / 2⌋)

    The pairs are all true segments s1 and predicted ones s2 of the same state that overlap: in minov residues, and
    maxov from the beginning of the first to the end of the last. N adds len(s1) for each pair, and for each s1 that is
    in none. Segments of states other than `states` are not known, and are left out.
    """
    total, N = 0.0, 0
    found = [*segments(predicted)]
    for state, begin, end in segments(true):
        if state not in states:
            continue
        alone = True
        for other, first, last in found:
            minov, maxov = min(end, last) - max(begin, first), max(end, last) - min(begin, first)
            if other == state and minov > 0:
                delta = min(maxov - minov, minov, (end - begin) // 2, (last - first) // 2)
                total += (minov + delta) / maxov * (end - begin)
                N += end - begin
                alone = False
        N += (end - begin) * alone
    return total / N if N else 0.0


def sum_over_chains(predicted: Tensor, true: Tensor, lengths: Tensor, states: str) -> float:
    """The sum of SOV'99 over chains, of numbers of states [T, B]; those below 0 are not known."""
    total = 0.0
    for guesses, labels, T in zip(predicted.t().tolist(), true.t().tolist(), lengths.tolist(), strict=True):
        pairs = [(a, b) if a >= 0 else (-1, -1) for a, b in zip(labels[:T], guesses[:T], strict=True)]
        letters = ["".join(states[n] if n >= 0 else "?" for n in column) for column in zip(*pairs, strict=True)]
        total += sov99(letters[0], letters[1], states)
    return total
