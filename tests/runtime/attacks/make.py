"""Writes the malformed bundles of this folder: each named by the word that refuses it, and what is wrong.

    python tests/runtime/attacks/make.py

A sound one, from which they differ, is `sound.safetensors`.
"""

import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FLAGS = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1e39, 1e39, 1e39, 0, 0, 0, 0]
"""Of a variant that is the LSTM: gates, what they see, activations, bounds, noise."""


class File:
    """A bundle in parts, to be spoilt."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.tensors: dict[str, Any] = {}
        self.data = b""
        shapes = {"e": [6, 4], "w_ih": [8, 4], "w_hh": [8, 2], "b_ih": [8], "b_hh": [8], "w": [3, 2], "b": [3]}
        for name, shape in shapes.items():
            self.tensor(name, random.normal(size=shape).astype("<f4"), "F32")
        own = {name: name for name in ("w_ih", "w_hh", "b_ih", "b_hh")}
        self.about: dict[str, Any] = {
            "format": "conveyor-runtime-1",
            "task": "attack",
            "tokens": 6,
            "nodes": [
                {"op": "embedding", "of": [0], "weight": "e"},
                {
                    "op": "recurrent",
                    "of": [1],
                    "cell": "lstm",
                    "reverse": False,
                    "options": [],
                    "rates": [],
                    "directions": [own],
                },
                {"op": "linear", "of": [2], "weight": "w", "bias": "b"},
            ],
            "facts": {"letters": "abcdef"},
        }
        self.prefix = 0
        self.metadata: dict[str, str] = {}

    def tensor(self, name: str, values: np.ndarray, dtype: str) -> None:
        at = len(self.data)
        self.data += values.tobytes()
        self.tensors[name] = {"dtype": dtype, "shape": [*values.shape], "data_offsets": [at, len(self.data)]}

    @property
    def lstm(self) -> dict[str, Any]:
        node: dict[str, Any] = self.about["nodes"][1]
        return node

    def bytes(self) -> bytes:
        about = json.dumps(self.about)
        header = json.dumps({"__metadata__": {"conveyor": about} | self.metadata} | self.tensors).encode()
        return self.written(header)

    def written(self, header: bytes) -> bytes:
        header += b" " * (-len(header) % 8)
        return struct.pack("<Q", len(header) + self.prefix) + header + self.data


def spoilt(change: Callable[[File], Any]) -> bytes:
    file = File()
    found = change(file)
    return found if isinstance(found, bytes) else file.bytes()


def put(path: str, value: Any) -> Callable[[File], None]:
    """Set what stands at about/nodes/1/cell and the like."""

    def change(file: File) -> None:
        *way, last = path.split("/")
        place: Any = vars(file)
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value

    return change


def variant(**changes: float) -> Callable[[File], None]:
    def change(file: File) -> None:
        options = copy.copy(FLAGS)
        for place, value in changes.items():
            options[int(place[1:])] = value
        file.lstm.update(cell="lstm variant", options=options)

    return change


def values(name: str, bits: bytes) -> Callable[[File], None]:
    def change(file: File) -> None:
        at = file.tensors[name]["data_offsets"][0] + 4
        file.data = file.data[:at] + bits + file.data[at + len(bits) :]

    return change


def raw(change: Callable[[bytes], bytes]) -> Callable[[File], bytes]:
    return lambda file: change(file.bytes())


def header(text: bytes) -> Callable[[File], bytes]:
    return lambda file: file.written(text)


def many(file: File) -> None:
    file.about["nodes"] = file.about["nodes"][:1] + [{"op": "activation", "of": [1], "kind": "tanh"}] * 5000


def wide(file: File) -> None:
    nodes = file.about["nodes"]
    for n in range(3, 12):
        nodes.append({"op": "concat", "of": [n] * 64})


def larger(file: File) -> None:
    """Thousands of products over one small tensor, each packed again."""
    file.tensor("one", np.ones((1, 6), "<f4"), "F32")
    file.tensor("row", np.ones((6, 1), "<f4"), "F32")
    file.about = {"format": "conveyor-runtime-1", "features": 1, "nodes": [], "facts": {}}
    for n in range(2000):
        file.about["nodes"].append({"op": "linear", "of": [n], "weight": "row" if n % 2 == 0 else "one"})


def scaled(scale: float) -> Callable[[File], None]:
    def change(file: File) -> None:
        file.tensor("q.scale", np.full(3, scale, "<f4"), "F32")
        file.tensor("q", np.ones((3, 2), "i1"), "I8")
        file.data += b"\0\0"
        file.tensor("fill", np.zeros(2, "i1"), "I8")
        file.data = file.data[:-2]
        del file.tensors["fill"]
        file.data = file.data[: file.tensors["q"]["data_offsets"][1]]
        file.about["nodes"][2]["weight"] = "q"

    return change


def half_bias(file: File) -> None:
    file.tensor("half", np.zeros(8, "<u2"), "BF16")
    file.lstm["directions"][0].update(b_ih="half")


def two_rows(file: File) -> None:
    """Each tensor of as many bytes as before, but w_hh of two rows."""
    put("tensors/w_ih/shape", [4, 8])(file)
    put("tensors/e/shape", [3, 8])(file)
    put("about/tokens", 3)(file)
    put("tensors/w_hh/shape", [2, 8])(file)


def same_bytes(file: File) -> None:
    start = file.tensors["b_ih"]["data_offsets"][0]
    put("tensors/b/data_offsets", [start, start + 12])(file)


def moved(file: File) -> None:
    for one in file.tensors.values():
        one["data_offsets"] = [n + 8 for n in one["data_offsets"]]


def without_scale(file: File) -> None:
    put("tensors/w", file.tensors["w"] | {"dtype": "I8", "shape": [6, 4]})(file)
    put("about/nodes/2/of", [1])(file)


ATTACKS: dict[str, Callable[[File], Any]] = {
    "truncated empty": raw(lambda b: b""),
    "truncated seven bytes": raw(lambda b: b[:7]),
    "truncated in the tensors": raw(lambda b: b[:-4]),
    "truncated more behind the tensors": raw(lambda b: b + b"\0\0\0\0"),
    "header_size larger than the file": put("prefix", 1 << 20),
    "header_size nearly 2 to the 64": raw(lambda b: b"\xff" * 8 + b[8:]),
    "header_size in the middle": raw(lambda b: b[: len(b) // 3]),
    "alignment header of odd length": raw(lambda b: struct.pack("<Q", struct.unpack("<Q", b[:8])[0] - 1) + b[8:]),
    "utf8 in the header": raw(lambda b: b[:40] + b"\xff" + b[41:]),
    "utf8 overlong": raw(lambda b: b[:40] + b"\xc0\x80" + b[42:]),
    "json no object": header(b"[1, 2]"),
    "json deep": header(b'{"a":' + b"[" * 100_000),
    "json cut off": header(b'{"__metadata__": {"conveyor": "'),
    "json twice the same tensor": header(
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
        b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    ),
    "json half a character": header(b'{"\\ud800": 1}'),
    "json a number of letters": header(b'{"a": {"dtype": "F32", "shape": [0x10]}}'),
    "json description cut off": lambda f: f.written(
        json.dumps({"__metadata__": {"conveyor": '{"format": "conveyor-runtime-1", "tokens": 6'}} | f.tensors).encode()
    ),
    "json negative size": put("tensors/w/shape", [3, -2]),
    "json fractional size": put("tensors/w/shape", [3, 2.5]),
    "json enormous number": put("tensors/w/shape", [3, 1e300]),
    "format another safetensors file": lambda f: f.written(json.dumps(f.tensors).encode()),
    "format of another program": put("about/format", "onnx"),
    "format not first": lambda f: f.about.update({"format": f.about.pop("format")}),
    "version of the future": put("about/format", "conveyor-runtime-2"),
    "description unknown": put("about/more", 1),
    "description no nodes": put("about/nodes", []),
    "description tokens and features": put("about/features", 3),
    "size no tokens": put("about/tokens", 0),
    "size too many tokens": put("about/tokens", 1 << 40),
    "tensor_type float64": put("tensors/w/dtype", "F64"),
    "tensor_type bias of bfloat16": half_bias,
    "tensor_fields more": put("tensors/w/extra", 1),
    "tensor_fields none": put("tensors/w", {}),
    "tensor_shape five dimensions": put("tensors/w/shape", [3, 2, 1, 1, 1]),
    "tensor_shape zero": put("tensors/w/shape", [0, 2]),
    "tensor_shape overflows": put("tensors/w/shape", [1 << 39, 1 << 39]),
    "tensor_shape not that of the node": put("tensors/w/shape", [2, 3]),
    "tensor_shape embedding of fewer tokens": put("about/tokens", 7),
    "tensor_shape no matrix": put("tensors/w_ih/shape", [32]),
    "tensor_shape not of four gates": two_rows,
    "tensor_offsets too short": put("tensors/w/data_offsets", [160, 180]),
    "tensor_offsets turned round": put("tensors/w/data_offsets", [184, 160]),
    "tensor_offsets three": put("tensors/w/data_offsets", [0, 1, 2]),
    "tensor_overlap the same bytes": same_bytes,
    "tensor_gap before the first": moved,
    "tensor_missing weight": put("about/nodes/2/weight", "v"),
    "tensor_missing direction without w_hh": lambda f: f.lstm["directions"][0].pop("w_hh"),
    "tensor_missing scale of int8": without_scale,
    "tensor_unused": lambda f: f.about["nodes"][2].pop("bias"),
    "not_finite NaN": values("w", struct.pack("<f", float("nan"))),
    "not_finite infinity": values("w_hh", struct.pack("<f", float("-inf"))),
    "scale below zero": scaled(-1.0),
    "node unknown": put("about/nodes/2/op", "eval"),
    "node field unknown": put("about/nodes/2/code", "1"),
    "node too many": many,
    "kind unknown": lambda f: f.about["nodes"].append({"op": "activation", "of": [3], "kind": "gelu"}),
    "kind of cell": put("about/nodes/1/cell", "transformer"),
    "reference to itself": put("about/nodes/1/of", [2]),
    "reference to later": put("about/nodes/1/of", [3]),
    "reference to none": put("about/nodes/1/of", []),
    "reference to several": put("about/nodes/2/of", [1, 2]),
    "reference to tokens": put("about/nodes/1/of", [0]),
    "width of a sum": lambda f: f.about["nodes"].append({"op": "add", "of": [3, 2]}),
    "width of an odd pool": lambda f: f.about["nodes"].append({"op": "pool", "of": [3], "kind": "ends"}),
    "size of all nodes": wide,
    "memory packed again and again": larger,
    "directions none": put("about/nodes/1/directions", []),
    "directions three": lambda f: put("about/nodes/1/directions", f.lstm["directions"] * 3)(f),
    "directions one bias": lambda f: f.lstm["directions"][0].pop("b_hh"),
    "directions reverse and both": lambda f: f.lstm.update(reverse=True, directions=f.lstm["directions"] * 2),
    "options of the plain cell": put("about/nodes/1/options", [1.0]),
    "options too few": lambda f: f.lstm.update(cell="lstm variant", options=FLAGS[:-1]),
    "options too many": put("about/nodes/1/options", [0] * 65),
    "options no flag": variant(_0=0.5),
    "options coupled without a gate": variant(_1=0, _0=0, _3=1),
    "options activation": variant(_7=12),
    "options activation between": variant(_10=0.5),
    "options bound of zero": variant(_16=0),
    "options bound below zero": variant(_17=-1),
    "options rates without noise": lambda f: [variant()(f), f.lstm.update(rates=[0.5])],
    "options a rate above one": lambda f: [variant(_21=1)(f), f.lstm.update(rates=[1.5])],
    "tensor_missing peepholes": variant(_4=1),
}  # fmt: skip


def main() -> None:
    for old in HERE.glob("*.safetensors"):
        old.unlink()
    (HERE / "sound.safetensors").write_bytes(File().bytes())
    for name, change in ATTACKS.items():
        (HERE / f"{name.replace(' ', '-')}.safetensors").write_bytes(spoilt(change))


if __name__ == "__main__":
    main()
