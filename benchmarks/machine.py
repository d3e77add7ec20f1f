"""What a benchmark ran on: the first line of every report."""

import os
import platform
import time
from pathlib import Path

import torch

import conveyor
from conveyor import _kernels


def description() -> str:
    """Processor, cores and versions."""
    return (
        f"{processor()}, {os.cpu_count()} cores, {platform.system()}, instruction set {_kernels.isa()}; "
        f"conveyor {conveyor.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    )


def processor() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def use_threads(threads: int) -> None:
    """Gives torch and the kernels that many."""
    torch.set_num_threads(threads)
    conveyor.set_num_threads(threads)


def peak_gflops(threads: int) -> float:
    """Float32 multiply-adds, 10^9 operations a second: the better of registers alone and a large product."""
    use_threads(threads)
    a, b = torch.randn(2, 2048, 2048)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return max(_kernels.peak_gflops(threads), 2 * 2048**3 / min(times) / 1e9)
