"""Take recurrent layers out of ONNX, Keras and torch files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from conveyor.cli import wants_help
from conveyor.errors import ConveyorError


@dataclass(kw_only=True)
class Import:
    """Take recurrent layers out of ONNX, Keras and torch files."""

    to: Literal["torch", "keras", "bundle"] = "torch"
    """A state dict of torch's (and Conveyor's) layers, weights of Keras 3, or the layers as one network for the
    runtime."""
    weights: Literal["float32", "bfloat16", "int8"] = "float32"
    """What a bundle's matrices are held in."""
    output: Path | None = None
    """The file; if not given, the layers are listed alone."""


ENDINGS = {"torch": ".safetensors", "keras": ".weights.h5", "bundle": ".safetensors"}


def run(args: list[str]) -> None:
    """List the layers, and write them if asked to."""
    if wants_help(
        args, "usage: conveyor import FILE [--to torch|keras|bundle] [-o FILE]; --help behind FILE lists all"
    ):
        return
    from conveyor.cli._parse import parse
    from conveyor.interchange import layers
    from conveyor.training import files

    given = ["--output" if arg == "-o" else arg for arg in args[1:]]
    asked = parse(Import, given, "conveyor import FILE", Import())
    if asked.output and not asked.output.name.endswith(ENDINGS[asked.to]):
        raise ConveyorError(f"[import] --output: expected a name that ends in {ENDINGS[asked.to]}, got {asked.output}")
    found = layers.read(Path(args[0]))
    for name, one in found.items():
        print(layers.described(name, one))
    if not asked.output:
        return
    if asked.to == "bundle":
        from conveyor.interchange import bundle, modules
        from conveyor.interchange.graph import Graph

        chain = layers.chained(found)
        graph, x = Graph(features=chain[0].input_size), 0
        for one in chain:
            x = modules.recurrent(graph, x, one)
        files.write(asked.output, bundle.to_bytes(graph, asked.weights))
    else:
        files.write(asked.output, layers.to_bytes(found, asked.to))
    print(f"{asked.output}: written")
