"""The state of every source of random numbers: torch, numpy and Python."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed(number: int) -> None:
    """Start all of them anew."""
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002  the global generator is what others may draw from
    torch.manual_seed(number)


def state() -> dict[str, Any]:
    """Where each of them stands, as tensors, numbers and texts."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    numpy = (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest)
    cuda = torch.cuda.get_rng_state_all()
    return {"torch": torch.get_rng_state(), "cuda": cuda, "numpy": numpy, "python": random.getstate()}


def restore(saved: dict[str, Any]) -> None:
    """Put each of them where `state` found it."""
    torch.set_rng_state(saved["torch"])
    torch.cuda.set_rng_state_all(saved["cuda"])
    name, keys, *rest = saved["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(saved["python"])
