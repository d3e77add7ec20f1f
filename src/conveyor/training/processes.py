"""The processes that train together, started by torchrun or by --devices; one alone needs none of this."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import torch
import torch.distributed as dist


def join() -> None:
    """Meet the other processes, where the environment says that there are some."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def index() -> int:
    """Which of the processes this is."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first() -> bool:
    """Whether this is the one that writes and prints."""
    return index() == 0


def start(devices: int, arguments: list[str]) -> NoReturn:
    """Run this command line in so many processes, watch over them, and leave as they do."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    sys.stdout.flush()
    command = ["--standalone", f"--nproc-per-node={devices}", "-m", "--", "conveyor.cli", *arguments]
    try:
        run(parse_args(command))
    except ChildFailedError as failed:  # each has said itself what was wrong
        sys.exit(max(failure.exitcode for failure in failed.failures.values()))
    except SignalException as stopped:  # they were told too
        sys.exit(128 + stopped.sigval)
    sys.exit(0)


def started() -> bool:
    """Whether this is one of several processes."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def gather(value: Any) -> list[Any]:
    """What each process has."""
    values = [value] * count()
    if count() > 1:
        dist.all_gather_object(values, value)
    return values


def any_of(flag: bool) -> bool:
    """Whether it is so in any process."""
    return flag if count() == 1 else total(float(flag)) > 0


def total(value: float) -> float:
    """The sum over the processes."""
    if count() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    summed = torch.tensor(float(value), dtype=torch.float64, device=device)
    dist.all_reduce(summed)
    return float(summed)


def as_the_first(value: Any) -> Any:
    """The first process's value."""
    return gather(value)[0]
