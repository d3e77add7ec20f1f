"""A step of an LSTM at a time: the runtime against onnxruntime and torch, one stream and many.

    python benchmarks/streaming.py [--threads 1] [--sizes 16 32 64 128 256 512 1024] [--seconds 1] [--output FILE]

One layer, I = H, called from Python, states carried. Before it is timed each is held against the equations: float32 to
1e-5 of the largest, bfloat16 and int8 to what they promise. The contenders take turns, round by round; printed are the
median, the 99th and the 99.9th percentile in microseconds, and for many streams the median of a step of all of them and
steps a second.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from conveyor import LSTM, _kernels
from conveyor.interchange import modules, onnx
from conveyor.interchange.bundle import to_bytes
from conveyor.interchange.graph import Graph
from conveyor.runtime import Model, Pool

ALLOWED = {
    "float32": 1e-5,
    "bfloat16": 2e-2,
    "int8": 3e-2,
    "onnxruntime": 1e-5,
    "torch.nn.LSTM": 1e-5,
    "torch.nn.LSTMCell": 1e-5,
}
PAUSE = 0.02
"""Seconds before a contender's turn: the threads of the one before still look out for work, on its cores."""
WEIGHTS = ("float32", "bfloat16", "int8")
Step = Callable[[], np.ndarray]


def contenders(H: int, B: int, threads: int) -> tuple[dict[str, Step], np.ndarray]:
    """What makes a step of B streams, by name, and the input [B, H]."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    lstm = LSTM(H, H).eval()
    graph = Graph(features=H)
    modules.recurrent(graph, 0, lstm)
    x = np.random.default_rng(0).normal(size=(B, H)).astype(np.float32)
    found: dict[str, Step] = {}
    for weights in WEIGHTS:
        model = Model.of_bytes(to_bytes(graph, weights))
        found[weights] = ours(model, x, threads)
    found["onnxruntime"] = theirs(onnx.to_bytes(graph), x, threads)
    found |= of_torch(lstm, torch.from_numpy(x))
    return found, x


def ours(model: Model, x: np.ndarray, threads: int) -> Step:
    if len(x) == 1:
        session, row = model.session(threads), x[0]
        return lambda: session.step(row)
    pool = Pool(model, len(x), threads)
    streams = np.array([pool.join() for _ in x])
    return lambda: pool.step(streams, x)


def theirs(content: bytes, x: np.ndarray, threads: int) -> Step:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    zeros = np.zeros((1, *x.shape), np.float32)
    given = {"features": x[None], "lengths": np.ones(len(x), np.int32), "h0_0": zeros, "c0_0": zeros}

    def step() -> np.ndarray:
        y, given["h0_0"], given["c0_0"] = session.run(None, given)
        return y[0]

    return step


def of_torch(lstm: LSTM, x: torch.Tensor) -> dict[str, Step]:
    H = lstm.hidden_size
    layer, cell = torch.nn.LSTM(H, H), torch.nn.LSTMCell(H, H)
    layer.load_state_dict(lstm.state_dict())
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in lstm.state_dict().items()})
    states: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def of_layer() -> np.ndarray:
        with torch.inference_mode():
            y, states["layer"] = layer(x[None], states.get("layer"))
            return y[0].numpy()

    def of_cell() -> np.ndarray:
        with torch.inference_mode():
            states["cell"] = cell(x, states.get("cell"))
            return states["cell"][0].numpy()

    return {"torch.nn.LSTM": of_layer, "torch.nn.LSTMCell": of_cell}


def check(steps: dict[str, Step], x: np.ndarray) -> None:
    """Three steps of each against the equations in float64."""
    torch.manual_seed(0)
    lstm = LSTM(x.shape[1], x.shape[1]).eval()
    with torch.no_grad():
        wanted = lstm.double()(torch.from_numpy(np.stack([x] * 3)).double())[0].numpy()
    for name, step in steps.items():
        for n in range(3):
            error = np.abs(np.asarray(step()).reshape(x.shape) - wanted[n]).max() / np.abs(wanted[n]).max()
            if not error <= ALLOWED[name]:
                sys.exit(
                    f"{name} at H = {x.shape[1]}, {len(x)} streams: differs by {error:.1e}, allowed {ALLOWED[name]:.0e}"
                )


def times(steps: dict[str, Step], seconds: float) -> dict[str, np.ndarray]:
    """Of every call, round by round."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    once = {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        once[name] = max(1e-7, time.perf_counter() - start)
    until = time.perf_counter() + seconds * len(steps)
    while time.perf_counter() < until:
        for name, step in steps.items():
            time.sleep(PAUSE)
            step()
            for _ in range(max(3, int(0.005 / once[name]))):
                start = time.perf_counter()
                step()
                found[name].append(time.perf_counter() - start)
    return {name: np.array(each) for name, each in found.items()}


def row(H: int, B: int, threads: int, seconds: float) -> list[str]:
    steps, x = contenders(H, B, threads)
    check(steps, x)
    taken = times(steps, seconds)
    medians = {name: float(np.median(each)) for name, each in taken.items()}
    lines = []
    for name, each in taken.items():
        p50, p99, p999 = (1e6 * float(np.quantile(each, q)) for q in (0.5, 0.99, 0.999))
        rate = f"{B / medians[name]:,.0f}"
        against = [f"{medians[other] / medians[name]:.2f}" for other in ("onnxruntime", "torch.nn.LSTM")]
        lines.append(
            f"| {H} | {B} | {threads} | {name} | {p50:,.1f} | {p99:,.1f} | {p999:,.1f} | {rate} "
            f"| {against[0]} | {against[1]} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512, 1024])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 1024, 4096])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each contender")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    head = (
        f"{platform.processor() or platform.machine()}, {_kernels.isa()}, {_kernels.processors()} processors; torch "
        f"{torch.__version__}, onnxruntime {onnxruntime.__version__}; I = H, times in µs\n\n"
        "| H | streams | threads | | median | p99 | p99.9 | steps/s | onnxruntime / it | torch / it |\n"
        "|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|"
    )
    print(head, flush=True)
    lines = [head]
    for threads in asked.threads:
        for B in asked.streams:
            for H in asked.sizes if B == 1 else [size for size in asked.sizes if size in (64, 256)]:
                for line in row(H, B, threads, asked.seconds):
                    print(line, flush=True)
                    lines.append(line)
    if asked.output:
        asked.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
