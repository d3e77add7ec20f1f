"""Inference of Conveyor's LSTM layer against `torch.nn.LSTM`, ONNX Runtime and JAX, over the grid of layer.py.

    pip install '.[benchmarks]'
    python benchmarks/frameworks.py --output frameworks.md

All hold the same weights and read the same input on all cores, in bursts by turns within one run; their results are
compared before a time is printed. ONNX Runtime runs the standard's LSTM operator, JAX a compiled `lax.scan`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean

import jax
import machine
import numpy as np
import onnx
import onnxruntime
import torch
import tyro
from jax import lax
from jax import numpy as jnp
from layer import GRID
from measuring import compare, in_bursts
from onnx import TensorProto, helper
from torch import Tensor, nn

from conveyor import LSTM

ALLOWED = 1e-4  # all are float32
NAMES = ("conveyor", "torch", "onnxruntime", "jax")


@dataclass(frozen=True)
class Options:
    """Inference of an LSTM layer in four libraries."""

    points: tuple[str, ...] = GRID
    """Sizes T,B,I,H: steps, batch, features, units."""
    threads: int = 2
    """Number of threads of Conveyor, torch and ONNX Runtime; JAX takes all cores."""
    seconds: float = 6.0
    """How long to measure each point."""
    output: Path | None = None
    """File for the Markdown report, which is printed as well."""


def main(options: Options) -> None:
    """Measures, prints and writes what the options ask for."""
    machine.use_threads(options.threads)
    versions = f"onnxruntime {onnxruntime.__version__}, jax {jax.__version__}"
    lines = [f"{machine.description()}, {versions}; threads: {options.threads}\n"]
    lines += ["| T, B, I, H | " + " | ".join(f"{name} ms" for name in NAMES) + " | best other / conveyor |"]
    lines += ["|---|" + "--:|" * (len(NAMES) + 1)]
    print("\n".join(lines), flush=True)
    ratios = []
    for point in options.points:
        times = measure(point, options)
        ratios.append(min(times[1:]) / times[0])
        cells = " | ".join(f"{seconds * 1e3:.3f}" for seconds in times)
        lines.append(f"| {point.replace(',', ', ')} | {cells} | {ratios[-1]:.2f} |")
        print(lines[-1], flush=True)
    lines.append(f"\ngeometric mean {geometric_mean(ratios):.2f}, minimum {min(ratios):.2f}")
    print(lines[-1])
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")


def measure(point: str, options: Options) -> list[float]:
    """Compares, then times, the four at one point."""
    T, B, I, H = map(int, point.split(","))
    torch.manual_seed(0)
    torchs, ours, input = nn.LSTM(I, H), LSTM(I, H), torch.randn(T, B, I)
    ours.load_state_dict(torchs.state_dict())
    tasks = [of_torch(ours, input), of_torch(torchs, input), of_onnx(torchs, input, options.threads)]
    tasks.append(of_jax(torchs, input))
    for name, task in zip(NAMES[1:], tasks[1:], strict=True):
        compare((tasks[0](),), (task(),), ALLOWED, f"{point}, {name}")
    return in_bursts(tasks, options.seconds)


def of_torch(layer: nn.Module, input: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.inference_mode():
            output: Tensor = layer(input)[0]
        return output

    return run


def of_onnx(layer: nn.LSTM, input: Tensor, threads: int) -> Callable[[], Tensor]:
    """A graph of one LSTM operator, whose gates are in the order i, o, f, c."""

    def gates(w: Tensor) -> np.ndarray:
        i, f, g, o = w.detach().chunk(4)
        return torch.cat([i, o, f, g]).numpy()

    (T, B, I), H = input.shape, layer.hidden_size
    w_ih, w_hh, b_ih, b_hh = map(gates, layer.all_weights[0])
    weights = {"W": w_ih[None], "R": w_hh[None], "B": np.concatenate([b_ih, b_hh])[None]}
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=H)],
        "lstm",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [T, B, I])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [T, 1, B, H])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=10)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    feed = {"X": input.numpy()}
    return lambda: torch.from_numpy(session.run(None, feed)[0]).squeeze(1)


def of_jax(layer: nn.LSTM, input: Tensor) -> Callable[[], Tensor]:
    """All steps' input products at once, then a scan."""
    w_ih, w_hh, b_ih, b_hh = (jnp.asarray(w.detach().numpy()) for w in layer.all_weights[0])

    @jax.jit
    def run(x: jax.Array) -> jax.Array:
        def step(state: tuple[jax.Array, jax.Array], ready: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            h, c = state
            i, f, g, o = jnp.split(ready + h @ w_hh.T, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[1], w_hh.shape[1]))
        return lax.scan(step, (zeros, zeros), x @ w_ih.T + b_ih + b_hh)[1]

    x = jnp.asarray(input.numpy())
    return lambda: torch.from_numpy(np.array(run(x).block_until_ready()))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
