"""Labels of steps, smoothed so that segments do not flicker."""

from __future__ import annotations

import numpy as np


def smoothed(log_p: np.ndarray, cost: float) -> np.ndarray:
    """The labels [T] that maximise the sum of log p [T, K] less `cost` for each change (A. Viterbi 1967)."""
    score, came = log_p[0].copy(), np.zeros(log_p.shape, np.int64)
    own = np.arange(log_p.shape[1])
    for t in range(1, len(log_p)):
        best = int(score.argmax())
        came[t] = np.where(score >= score[best] - cost, own, best)
        score = np.maximum(score, score[best] - cost) + log_p[t]
    labels = np.empty(len(log_p), np.int64)
    labels[-1] = score.argmax()
    for t in range(len(log_p) - 1, 0, -1):
        labels[t - 1] = came[t, labels[t]]
    return labels
