"""Conveyor's LSTM layer against `torch.nn.LSTM` over a grid of sizes.

    python benchmarks/layer.py --output layer.md --picture layer.png
    python benchmarks/layer.py --points 35,20,200,200 --threads 2 --seconds 5
    python benchmarks/layer.py --memory

Both layers hold the same weights and read the same input, in turns within one run, and their results are compared
before a time is printed. "infer" is the forward pass in inference mode. "train" is the forward pass, and the
gradients of all parameters and of the input for a given gradient of the output.
"""

import copy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import geometric_mean
from typing import NamedTuple

import machine
import memory
import torch
import tyro
from matplotlib.figure import Figure
from measuring import Task, alternate, compare
from torch import Tensor, nn

from conveyor import LSTM

GRID = (
    "100,1,64,64", "100,1,256,256", "100,1,1024,1024", "35,20,200,200", "35,20,650,650", "100,32,128,128",
    "100,32,256,256", "100,32,512,512", "100,64,1024,1024", "1000,32,128,128", "365,256,32,64", "24,1024,8,64",
)  # fmt: skip
AGAINST_TORCH = 1e-4  # both are float32, and gradients of weights are sums over up to 100,000 rows
AGAINST_EQUATIONS = 1e-5  # which are float64, and slow: the points below this many operations
SMALL = 1e9


@dataclass(frozen=True)
class Options:
    """Conveyor's LSTM layer against torch.nn.LSTM."""

    points: tuple[str, ...] = GRID
    """Sizes T,B,I,H: steps, batch, features, units."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads."""
    modes: tuple[str, ...] = ("train", "infer")
    """train, infer, or both."""
    seconds: float = 2.0
    """How long to measure each point in each mode with each number of threads."""
    output: Path | None = None
    """File for the Markdown report, which is printed as well."""
    picture: Path | None = None
    """File for a PNG."""
    memory: bool = False
    """Measure memory in place of time."""


class Result(NamedTuple):
    """One point: median seconds a call, floating-point operations a call, largest relative error against torch."""

    point: str
    torchs: float
    ours: float
    operations: float
    error: float

    @property
    def ratio(self) -> float:
        return self.torchs / self.ours


def main(options: Options) -> None:
    """Measures, prints and writes what the options ask for."""
    report = [machine.description()]
    print(report[0], flush=True)
    results = {}
    if options.memory:
        report.append(memory.report(options.points))
        print(report[-1], flush=True)
    else:
        for threads, mode in product(options.threads, options.modes):
            peak = machine.peak_gflops(threads)
            results[mode, threads] = [measure(point, mode, options.seconds) for point in options.points]
            report.append(table(f"{mode}, threads: {threads}", results[mode, threads], peak))
            print(report[-1], flush=True)
    if options.output:
        options.output.write_text("\n".join(report) + "\n")
    if options.picture and results:
        draw(results, options.picture, report[0])


def measure(point: str, mode: str, seconds: float) -> Result:
    """Compares, then times, torch's layer and ours at one point, with the threads in force."""
    T, B, I, H = map(int, point.split(","))
    torch.manual_seed(0)
    torchs = nn.LSTM(I, H)
    ours = LSTM(I, H)
    ours.load_state_dict(torchs.state_dict())
    input, dy = torch.randn(T, B, I), torch.randn(T, B, H)
    operations = 2 * T * B * 4 * H * (I + H) * (3 if mode == "train" else 1)
    tasks = [task(layer, mode, input, dy) for layer in (torchs, ours)]
    error = compare(tasks[1](), tasks[0](), AGAINST_TORCH, point)
    if operations < SMALL:
        wide = task(copy.deepcopy(ours).double(), mode, input.double(), dy.double())
        compare(tasks[1](), wide(), AGAINST_EQUATIONS, point)
    return Result(point, *alternate(tasks, seconds), operations, error)


def task(layer: nn.Module, mode: str, input: Tensor, dy: Tensor) -> Task:
    """One call of the layer, with gradients if `mode` is "train"."""
    input = input.clone().requires_grad_(mode == "train")
    wanted = [input, *layer.parameters()]

    def infer() -> tuple[Tensor, ...]:
        with torch.inference_mode():
            output, (h_n, c_n) = layer(input)
        return output, h_n, c_n

    def train() -> tuple[Tensor, ...]:
        output, (h_n, c_n) = layer(input)
        return output, h_n, c_n, *torch.autograd.grad(output, wanted, dy)

    return train if mode == "train" else infer


def table(title: str, results: list[Result], peak: float) -> str:
    """A Markdown table; GFLOP/s and their share of the peak are ours."""
    lines = [
        f"\n### {title} (peak {peak:.0f} GFLOP/s)\n",
        "| T, B, I, H | torch ms | conveyor ms | torch / conveyor | GFLOP/s | of peak | error |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        gflops = result.operations / result.ours / 1e9
        lines.append(
            f"| {result.point.replace(',', ', ')} | {result.torchs * 1e3:.3f} | {result.ours * 1e3:.3f} "
            f"| {result.ratio:.2f} | {gflops:.0f} | {gflops / peak:.0%} | {result.error:.0e} |"
        )
    ratios = [result.ratio for result in results]
    lines.append(f"\ngeometric mean {geometric_mean(ratios):.2f}, minimum {min(ratios):.2f}")
    return "\n".join(lines)


def draw(results: dict[tuple[str, int], list[Result]], path: Path, caption: str) -> None:
    """A dot for each point and number of threads, a panel for each mode."""
    modes = list(dict.fromkeys(mode for mode, _ in results))
    figure = Figure(figsize=(5.5 * len(modes), 5.8), layout="constrained")
    panels = figure.subplots(1, len(modes), sharey=True, squeeze=False)[0]
    for mode, panel in zip(modes, panels, strict=True):
        for threads, marks in ((threads, marks) for (of, threads), marks in results.items() if of == mode):
            ratios = [result.ratio for result in marks]
            label = f"threads: {threads}, geometric mean {geometric_mean(ratios):.2f}"
            panel.plot(ratios, [result.point.replace(",", ", ") for result in marks], "o", label=label, alpha=0.8)
        panel.axvline(1, color="0.4", linewidth=1)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_title(f"{mode}: torch's time over ours", loc="left")
        panel.grid(axis="both", color="0.9")
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), frameon=False)
    panels[0].invert_yaxis()
    panels[0].set_ylabel("T, B, I, H")
    figure.supxlabel(caption, fontsize=7)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
