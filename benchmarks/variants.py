"""Every variant of the LSTM: its training time against our plain LSTM, a Python loop, and torch.compile of the loop.

    python benchmarks/variants.py --output variants.md
    python benchmarks/variants.py --variants peephole layer-norm --points 35,20,200,200 --no-compiled

All train: the output of one call, then the gradients of the input and all parameters. The loop is
`conveyor.equations.variant` in float32; its results are compared with the kernels' before a time is printed. Where a
variant draws random factors, all three are given the same ones, and the time to draw them counts for ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import machine
import torch
import tyro
from measuring import alternate, compare, training
from torch import Tensor, nn

from conveyor import LSTM, VARIANTS, equations
from conveyor.nn import noise, parameters

ALLOWED = 1e-4
NORMALISED = 1e-2  # norms make much of roundings: after 100 steps both are 1e-3 from the equations in float64


@dataclass(frozen=True)
class Options:
    """Every variant of the LSTM against the plain one and against a loop in Python."""

    points: tuple[str, ...] = ("100,32,256,256", "35,20,200,200")
    """Sizes T,B,I,H: steps, batch, features, units."""
    variants: tuple[str, ...] = tuple(name for name, of in VARIANTS.items() if of.cell != "lstm" or of.weight_dropout)
    """Names in conveyor.VARIANTS."""
    compiled: bool = True
    """Whether torch.compile is measured too; compiling takes minutes a variant."""
    threads: int = 2
    """Number of threads."""
    seconds: float = 3.0
    """How long to measure each variant at each point."""
    output: Path | None = None
    """File for the Markdown report, which is printed as well."""


def main(options: Options) -> None:
    """Measures, prints and writes what the options ask for."""
    torch.set_num_threads(options.threads)
    report = [machine.description()]
    print(report[0], flush=True)
    for point in options.points:
        report.append(table(point, options))
    if options.output:
        options.output.write_text("\n".join(report) + "\n")


def table(point: str, options: Options) -> str:
    """A Markdown table of one point."""
    lines = [
        f"\n### training at T, B, I, H = {point.replace(',', ', ')}, threads: {options.threads}\n",
        "| variant | ms | over plain | Python loop over ours | torch.compile over ours |",
        "|---|--:|--:|--:|--:|",
    ]
    print("\n".join(lines), flush=True)
    rows = []
    for name in options.variants:
        ours, plain, loop, compiled = row = measure(name, point, options)
        rows.append(row)
        last = "" if compiled is None else f"{compiled / ours:.1f}"
        lines.append(f"| {name} | {ours * 1e3:.2f} | {ours / plain:.2f} | {loop / ours:.1f} | {last} |")
        print(lines[-1], flush=True)
    means = [geometric_mean(ours / plain for ours, plain, *_ in rows), geometric_mean(row[2] / row[0] for row in rows)]
    lines.append(f"\ngeometric mean {means[0]:.2f} of the plain time; the loop takes {means[1]:.1f} times ours")
    print(lines[-1], flush=True)
    return "\n".join(lines)


def measure(name: str, point: str, options: Options) -> tuple[float, float, float, float | None]:
    """Seconds of ours, of the plain LSTM, of the loop, and of the compiled loop."""
    T, B, I, H = map(int, point.split(","))
    torch.manual_seed(0)
    variant = VARIANTS[name]
    ours, plain, x = LSTM(I, H, variant=variant), LSTM(I, H), torch.randn(T, B, I)

    # Not of zeros: their norm would make much of every rounding.
    h_0, c_0 = torch.randn(1, B, H + ours._seen) / 2, torch.randn(1, B, H) / 2

    def loop(layer: nn.Module, x: Tensor, run: Callable[..., Any] = equations.variant) -> Tensor:
        weights = parameters.named(layer.all_weights[0], True, variant)
        if variant.weight_dropout:
            weights = noise.dropped(weights, variant.weight_dropout)
        factors = noise.draw(variant, x, 1, H, True)
        first = None if factors is None else factors[0]
        return run(x, h_0[0], c_0[0], weights, variant, first)[0]

    def seeded(task):  # type: ignore[no-untyped-def]
        torch.manual_seed(1)
        return task()

    tasks = [training(ours, x, lambda layer, x: layer(x, (h_0, c_0))[0]), training(plain, x), training(ours, x, loop)]
    allowed = NORMALISED if variant.layer_norm else ALLOWED
    compare(seeded(tasks[0]), seeded(tasks[2]), allowed, name)
    times = alternate(tasks, options.seconds)
    if not options.compiled:
        return times[0], times[1], times[2], None
    compiled = training(ours, x, partial(loop, run=torch.compile(equations.variant)))
    compare(seeded(tasks[0]), seeded(compiled), allowed, f"{name}, compiled")
    return times[0], times[1], times[2], alternate([tasks[0], compiled], options.seconds)[1]


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
