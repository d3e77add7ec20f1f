"""What the comparisons share: results are compared, then times are taken in turns within one run."""

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor, nn

Task = Callable[[], tuple[Tensor, ...]]


def compare(got: tuple[Tensor, ...], want: tuple[Tensor, ...], allowed: float, what: str) -> float:
    """The largest error of any tensor over its largest magnitude; ends the benchmark where that is too large."""
    pairs = zip(got, want, strict=True)
    error = max(((mine - theirs).abs().max() / theirs.abs().max()).item() for mine, theirs in pairs)
    if not error <= allowed:
        raise SystemExit(f"{what}: results differ by {error:.1e}, allowed {allowed:.0e}; no times are shown")
    return error


def alternate(tasks: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Median seconds of each task, run in turns for as long as given, at least five times."""
    for task in [*tasks] * 3:
        task()
    times: list[list[float]] = [[] for _ in tasks]
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < end:
        for task, taken in zip(tasks, times, strict=True):
            start = time.perf_counter()
            task()
            taken.append(time.perf_counter() - start)
    return [median(taken) for taken in times]


def in_bursts(tasks: Sequence[Callable[[], object]], seconds: float, rounds: int = 6) -> list[float]:
    """The same for libraries with threads of their own, which spin for a while after each call and would take the
    others' cores: each task in turn has the machine for a burst, after a rest and a call that does not count."""
    times: list[list[float]] = [[] for _ in tasks]
    for _ in range(rounds):
        for task, taken in zip(tasks, times, strict=True):
            time.sleep(0.1)
            task()
            end = time.perf_counter() + seconds / rounds / len(tasks)
            while (start := time.perf_counter()) < end or len(taken) < 3:
                task()
                taken.append(time.perf_counter() - start)
    return [median(taken) for taken in times]


def training(layer: nn.Module, input: Tensor, run: Callable[..., Tensor] | None = None) -> Task:
    """The output of one call, and the gradients of the input and all parameters for one gradient of the output."""
    input = input.clone().requires_grad_()
    wanted = [input, *layer.parameters()]
    forward = run or (lambda layer, input: layer(input)[0])
    torch.manual_seed(0)
    dy = torch.randn_like(forward(layer, input).float())

    def train() -> tuple[Tensor, ...]:
        output = forward(layer, input)
        return output.detach().float(), *torch.autograd.grad(output, wanted, dy.to(output.dtype))

    return train
