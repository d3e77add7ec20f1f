"""BLEU by sacrebleu, from counts that may be added up over batches.

BLEU is the geometric mean of the shares of a text's n-grams (n = 1 … 4) that a reference has as well, less a penalty
for texts shorter than their references (K. Papineni et al. 2002, 10.3115/1073083.1073135).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor

ORDER = 4


def counts(written: Sequence[str], references: Sequence[Sequence[str]], **options: Any) -> Tensor:
    """Lengths of the texts and of their references, matching n-grams, and all: [2 + 2 * ORDER].

    `references` is as sacrebleu has it: the first reference of every text, then the second of every text, …; options
    are those of its class BLEU: `lowercase`, `tokenize`.
    """
    scored = BLEU(force=True, **options).corpus_score(written, references)
    return torch.tensor([scored.sys_len, scored.ref_len, *scored.counts, *scored.totals], dtype=torch.float64)


def score(counted: Tensor | np.ndarray, order: int = ORDER) -> float:
    """BLEU in per cent of what was counted; with a smaller order of shorter n-grams alone."""
    written, expected, *rest = np.asarray(counted).round().astype(int).tolist()
    found = BLEU.compute_bleu(
        rest[:order], rest[ORDER : ORDER + order], written, expected, smooth_method="exp", max_ngram_order=order
    )
    return float(found.score)
