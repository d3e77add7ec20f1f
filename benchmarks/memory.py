"""Peak memory of a layer's call, each in a fresh process: what it takes above what stood there before.

Before: the layer, its input and the gradient of its output; and what is loaded once, by calling a tiny layer. What a
library keeps for later calls of these sizes counts.
`benchmarks/layer.py --memory` runs it over the grid; as a program it measures one layer at one point, in MiB:

    python benchmarks/memory.py conveyor train 100,32,256,256
"""

import ctypes
import subprocess
import sys
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from conveyor import LSTM

LAYERS = {"torch": nn.LSTM, "conveyor": LSTM}
LONG = "200000,1,256,256"


def report(points: tuple[str, ...]) -> str:
    """A Markdown table: training at every point, then inference over a long sequence."""
    lines = [
        "\n### peak memory in MiB: training above weights and input, inference above input and output\n",
        "| T, B, I, H | mode | torch | conveyor | conveyor / torch |",
        "|---|---|--:|--:|--:|",
    ]
    for mode, point in [*(("train", point) for point in points), ("infer", LONG)]:
        torchs, ours = (median(measure(layer, mode, point) for _ in range(3)) for layer in LAYERS)
        name = point.replace(",", ", ")
        lines.append(f"| {name} | {mode} | {torchs:.1f} | {ours:.1f} | {ours / torchs:.2f} |")
    return "\n".join(lines)


def measure(layer: str, mode: str, point: str) -> float:
    """MiB, found in a process of its own."""
    command = [sys.executable, __file__, layer, mode, point]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def peak(layer: str, mode: str, point: str) -> float:
    """MiB, in this process, which should be fresh."""
    T, B, I, H = map(int, point.split(","))
    training = mode == "train"
    call(*problem(layer, 2, 2, 8, 8, training=training))
    lstm, input, dy = problem(layer, T, B, I, H, training=training)
    ctypes.CDLL(None).malloc_trim(0)  # hand back what the allocator keeps of the first
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = status("VmRSS")
    for _ in range(2):
        call(lstm, input, dy)
    output = 0 if training else 4 * T * B * H / 2**20
    return status("VmHWM") - before - output


def problem(layer: str, T: int, B: int, I: int, H: int, *, training: bool) -> tuple[nn.Module, Tensor, Tensor | None]:
    """A layer, its input and, for training, the gradient of its output."""
    input = torch.randn(T, B, I, requires_grad=training)
    return LAYERS[layer](I, H), input, torch.randn(T, B, H) if training else None


def call(lstm: nn.Module, input: Tensor, dy: Tensor | None) -> None:
    """Forward, and backward if there is a gradient of the output; gradients are dropped."""
    with torch.inference_mode(dy is None):
        output, _ = lstm(input)
    if dy is not None:
        output.backward(dy)
        lstm.zero_grad()
        input.grad = None


def status(name: str) -> float:
    """A number of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


if __name__ == "__main__":
    print(peak(*sys.argv[1:]))
