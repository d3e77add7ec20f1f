"""How many threads the kernels use."""

import torch

from conveyor import _kernels

_kernels.share_openmp()  # torch's own threads: a second set would have to share the cores with them

MOST = 1024
"""Threads; OpenMP ends the process where the system has not so many."""

_threads: int | None = None


def set_num_threads(threads: int | None) -> None:
    """Sets how many threads the kernels may use; None, the default, means as many as torch does."""
    global _threads
    if threads is not None and not isinstance(threads, int):
        raise TypeError(f"[set_num_threads] threads: expected an int or None, got {threads!r}")
    if threads is not None and threads < 1:
        raise ValueError(f"[set_num_threads] threads: expected at least 1, or None for torch's number, got {threads}")
    if threads is not None and threads > MOST:
        raise ValueError(f"[set_num_threads] threads: expected at most {MOST}, got {threads}")
    _threads = threads


def get_num_threads() -> int:
    """How many threads the kernels may use; they take fewer where more would not pay."""
    return _threads or torch.get_num_threads()
