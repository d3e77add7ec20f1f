"""Take recurrent layers out of ONNX, Keras and torch files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from conveyor.cli import wants_help
from conveyor.errors import BundleError, ConveyorError

if TYPE_CHECKING:
    from conveyor.interchange.bundle import Weights
    from conveyor.interchange.layers import Layer, Layers


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
    note = ""
    if asked.to == "bundle":
        content = _bundle(Path(args[0]), layers.chained(layers.ordered(Path(args[0]), found)), asked.weights)
    else:
        content = layers.to_bytes(found, asked.to)
        note = _note(found) if asked.to == "torch" else ""
    files.write(asked.output, content)
    print(f"{asked.output}: written{note}")


def _bundle(path: Path, chain: list[Layer], weights: Weights) -> bytes:
    """One that the runtime takes."""
    from conveyor.interchange import bundle, modules
    from conveyor.interchange.graph import Graph
    from conveyor.runtime import Model

    graph, x = Graph(features=chain[0].input_size), 0
    for one in chain:
        x = modules.recurrent(graph, x, one)
    content = bundle.to_bytes(graph, weights)
    try:
        Model.of_bytes(content)
    except BundleError as error:
        said, remedy = str(error).removeprefix("[bundle] "), "; leave --weights out" * (weights != "float32")
        raise ConveyorError(f"[import] {path}: {weights}: the runtime refuses such a bundle: {said}{remedy}") from None
    return content


def _note(found: Layers) -> str:
    from conveyor.interchange.torch_state import unsaid

    names = ", ".join(unsaid(found))
    return names and (
        f"; its metadata tell conveyor what is unusual in {names}; torch.nn has of that RNN(nonlinearity='relu') alone"
    )
