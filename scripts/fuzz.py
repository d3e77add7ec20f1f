"""Fuzz the reader of bundles: `python scripts/fuzz.py [--minutes 10]`; needs `pip install atheris`.

Inputs are mutated from tests/runtime/attacks: bytes by libFuzzer, and as its eyes end at the compiled reader, the
description and the table of tensors value by value. What is refused must be refused by name, what is read must compute;
neither may take more memory than twice the file and a megabyte. A crash, another exception or more memory ends it.
"""

import argparse
import json
import random
import resource
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports():
    from conveyor.errors import BundleError
    from conveyor.runtime import Model

ALLOWANCE = 1 << 20
SEEDS = Path(__file__).parent.parent / "tests" / "runtime" / "attacks"
SOUND = (SEEDS / "sound.safetensors").read_bytes()


refused: dict[str, int] = {}
"""How often by each name, and how many computed."""


def peak() -> int:
    """Bytes that the process has held at most since the last call."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def try_one(content: bytes) -> None:
    try:
        model = Model.of_bytes(content)
    except BundleError as error:
        refused[error.name] = refused.get(error.name, 0) + 1
        return
    refused["computed"] = refused.get("computed", 0) + 1
    x = np.zeros(3, np.int64) if model.tokens else np.zeros((3, model.inputs), np.float32)
    assert model.run(x).shape == (3, model.outputs)


VALUES: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 63, 64, 65, 255, 1 << 24, 1 << 31, 1 << 40, 1 << 53, 1 << 62, 1e308, -1e308, 0.5, True, False, None,
    "", "w", "lstm", "lstm variant", "gru", "rnn_tanh", "rnn_relu", "embedding", "linear", "recurrent", "norm", "scale",
    "activation", "add", "concat", "pool", "tanh", "softmax", "mean", "ends", "w_ih", "w_hh", "b_ih", "e", "F32",
    "BF16", "I8", "\0", "ä",
    [], {}, [0], [1], [2], [3], [0, 4], [4, 4], [8, 2], [6, 4], [3, 2], [0] * 23,
)  # fmt: skip
"""That fields may have."""


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each container in a JSON value with each of its keys."""
    keys = [*value] if isinstance(value, dict) else [*range(len(value))] if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def by_value(content: bytes, seed: int) -> bytes:
    """With some values of its description and of its table exchanged, doubled or left out; as it is if that has no
    sense."""
    chance = random.Random(seed)
    try:
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        about = json.loads(header["__metadata__"]["conveyor"])
        for _ in range(chance.randint(1, 4)):
            container, key = chance.choice(places(about if chance.random() < 0.7 else header))
            kind = chance.random()
            if kind < 0.6:
                container[key] = chance.choice(VALUES)
            elif kind < 0.75:
                container[key] = chance.choice(places(about))[0]
                json.dumps(about)  # nothing may hold itself
            elif kind < 0.9 and isinstance(container, list):
                container.insert(key, json.loads(json.dumps(container[key])))
            else:
                del container[key]
        header["__metadata__"]["conveyor"] = json.dumps(about)
        text = json.dumps(header).encode()
    except (ValueError, KeyError, TypeError, IndexError, struct.error, RecursionError):
        return content
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def mutated(content: bytes, most: int, seed: int) -> bytes:
    """By libFuzzer, or value by value from the sound one or what has come of it."""
    if seed % 3 == 0:
        return bytes(atheris.Mutate(content, most))
    return by_value(SOUND if seed % 3 == 1 else content, seed)[:most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    count = 0

    def one(content: bytes) -> None:
        nonlocal count
        count += 1
        if count % 50_000 == 0:
            print(f"{count:,}", dict(sorted(refused.items())), flush=True)
        if count % 100:
            return try_one(content)
        before = peak() and peak()
        try_one(content)
        taken = peak() - before
        assert taken <= 2 * len(content) + ALLOWANCE, f"{taken:,} bytes for a file of {len(content):,}"
        return None

    with tempfile.TemporaryDirectory() as folder:
        for file in SEEDS.glob("*.safetensors"):
            if file.stat().st_size < 1 << 16:
                (Path(folder) / file.name).write_bytes(file.read_bytes())
        seconds = int(60 * asked.minutes)
        atheris.Setup(
            [sys.argv[0], f"-max_total_time={seconds}", "-max_len=8192", "-rss_limit_mb=2048", folder],
            one,
            custom_mutator=mutated,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
