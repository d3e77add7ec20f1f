"""What a training asks of the machine, checked before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from conveyor.errors import ConveyorError


def check_device(device: str) -> None:
    """Raise if torch finds no such device here."""
    finds: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if device in finds and not finds[device]():
        raise ConveyorError(f"[train] --device {device}: torch finds no such device here; take cpu, or auto")


def resolve(device: str) -> torch.device:
    """What `auto` comes to."""
    found = torch.accelerator.current_accelerator() if device == "auto" else torch.device(device)
    return found or torch.device("cpu")


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Within this context float32 layers on the processor multiply as exactly as asked for."""
    kinds: list[Any] = [getattr(torch.backends.mkldnn, name) for name in ("matmul", "conv")]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "bf16" if precision == "medium" else "ieee"
        yield
    finally:
        for kind, was in zip(kinds, before, strict=True):
            kind.fp32_precision = was


def check_memory(network: nn.Module) -> None:
    """Raise if memory cannot hold the weights and their gradients; the network may be on torch's device "meta".

    What is more than that depends on optimizer and batch. Trying would be no check: many a machine promises memory
    that it does not have, and ends the process that uses it.
    """
    needed = 2 * sum(weight.nbytes for weight in network.parameters())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise ConveyorError(
            f"[train] the network's weights and gradients: expected at most the {memory / 2**30:,.0f} GiB of memory "
            f"that are here, got {needed / 2**30:,.0f} GiB; make the network smaller"
        )
