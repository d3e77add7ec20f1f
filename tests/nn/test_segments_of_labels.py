"""Smoothing against all labellings."""

import itertools

import numpy as np
import pytest

from conveyor.nn.segments import smoothed


@pytest.mark.parametrize("cost", [0.0, 0.3, 1.0, 5.0])
def test_the_likeliest_labels(cost: float) -> None:
    for seed in range(5):
        log_p = np.random.default_rng(seed).normal(0, 1, (6, 3))

        def worth(labels: tuple[int, ...], log_p: np.ndarray = log_p) -> float:
            changes = sum(a != b for a, b in itertools.pairwise(labels))
            return float(log_p[np.arange(6), list(labels)].sum()) - cost * changes

        best = max(itertools.product(range(3), repeat=6), key=worth)
        assert worth(tuple(smoothed(log_p, cost).tolist())) == pytest.approx(worth(best))
