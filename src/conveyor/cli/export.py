"""Write a run's model for the runtime, or as ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from conveyor import tasks
from conveyor.cli import wants_help
from conveyor.errors import ConveyorError

if TYPE_CHECKING:
    from conveyor.interchange.graph import Graph
    from conveyor.training.task import Model

AGREEMENT = 1e-4
"""To which onnxruntime's results must agree: it has exponentials of its own."""
FILES = {"bundle": "runtime.safetensors", "onnx": "model.onnx"}


@dataclass(kw_only=True)
class Export:
    """Write a run's model for the runtime, or as ONNX."""

    to: Literal["bundle", "onnx"] = "bundle"
    """A bundle for conveyor.runtime and conveyor serve, or ONNX."""
    weights: Literal["float32", "bfloat16", "int8"] = "float32"
    """What a bundle's matrices are held in; fewer bits are faster and lose a little, which is measured and told."""
    score: bool = True
    """Score fewer bits on the run's test part beside float32."""
    output: Path | None = None
    """The file; if not given, one in the run's folder."""


def run(args: list[str]) -> None:
    """Write the file, and say what was lost and gained."""
    if wants_help(
        args, "usage: conveyor export RUN [--to onnx] [--weights int8] [-o FILE]; --help behind RUN lists all"
    ):
        return
    from conveyor.cli._parse import parse
    from conveyor.training import files

    given = ["--output" if arg == "-o" else arg for arg in args[1:]]
    asked = parse(Export, given, "conveyor export RUN", Export())
    if asked.to == "onnx" and asked.weights != "float32":
        raise ConveyorError(
            f"[export] --weights {asked.weights}: expected float32 with --to onnx; leave one of them out"
        )
    ending = Path(FILES[asked.to]).suffix
    if asked.output and asked.output.suffix != ending:
        raise ConveyorError(f"[export] --output: expected a name that ends in {ending}, got {asked.output}")
    model = tasks.load(args[0])
    graph = graph_of(model)
    path, trained = asked.output or Path(args[0]) / FILES[asked.to], Path(args[0]) / "model.safetensors"
    if path.exists() and trained.exists() and path.samefile(trained):
        raise ConveyorError(f"[export] --output: expected another file than the run's own model, got {path}")
    if asked.to == "onnx":
        from conveyor.interchange import onnx, sample

        content = onnx.to_bytes(graph)
        _check(onnx.difference(graph, content, *sample.of_run(model, graph)))
    else:
        from conveyor.interchange import bundle

        content = bundle.to_bytes(graph, asked.weights)
        _tell(model, bundle.to_bytes(graph), content, asked)
    files.write(path, content)
    print(f"{path}: {len(content):,} bytes")


def graph_of(model: Model) -> Graph:
    """The network of a run as nodes; ConveyorError if its task has none."""
    from conveyor.training.task import name_of

    of = getattr(model.task, "graph", None)
    if of is None:
        able = [name for name in tasks.summaries() if hasattr(tasks.find(name), "graph")]
        raise ConveyorError(f"[export] {name_of(model.task)}: expected a run of {', '.join(able)}")
    graph: Graph = of(model)
    graph.task, graph.facts = name_of(model.task), model.facts
    return graph


def _check(difference: float) -> None:
    """Refuse a file that does not say what the model does."""
    if not difference < AGREEMENT:
        raise ConveyorError(
            f"[export] onnxruntime's results differ by {difference:.1e} of the largest; nothing was written"
        )
    print(f"onnxruntime's results on the test part differ by {difference:.1e} of the largest")


def _tell(model: Model, plain: bytes, content: bytes, asked: Export) -> None:
    """What a step takes, and what fewer bits lose in the task's own metric."""
    from conveyor.interchange.held import held
    from conveyor.runtime import Model as Runtime
    from conveyor.training.scoring import score

    kinds = {"float32": plain} | ({} if asked.weights == "float32" else {asked.weights: content})
    scores: dict[str, dict[str, float]] = {}
    if len(kinds) > 1 and asked.score:
        task, config, facts, network = model
        split = task.read(config, facts).test
        scores = {kind: score(task, config, held(network, kind), split) for kind in kinds}  # type: ignore[arg-type]
    rows = []
    for kind, held_so in kinds.items():
        runtime = Runtime.of_bytes(held_so)
        step = f"{1e6 * _seconds(runtime):.1f} µs a step" if runtime.streams else ""
        rows.append(
            [
                kind,
                f"{len(held_so):,} bytes",
                step,
                *(f"{name} {value:.5g}" for name, value in scores.get(kind, {}).items()),
            ]
        )
    if len(rows) > 1:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    elif rows[0][2]:
        print(rows[0][2])


def _seconds(runtime: object) -> float:
    """The median time of a step."""
    import statistics
    import time

    import numpy as np

    from conveyor.runtime import Model as Runtime

    assert isinstance(runtime, Runtime)
    session = runtime.session()
    x = 0 if runtime.tokens else np.zeros(runtime.inputs, np.float32)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        session.step(x)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
