"""`conveyor serve` under load: streams over WebSockets, with clients among them that die, stall and send rubbish.

    python benchmarks/serving.py [BUNDLE] [--streams 200] [--seconds 60] [--hidden-size 256]

Every answer is compared with that of `Model.run` on the whole sequence. Printed: steps a second, the median and the
99th percentile of the time from a step's message to its answer, lost and wrong answers, and the server's memory at the
start, after a third, and at the end. Clients and server share the machine.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from conveyor import LSTM
from conveyor.interchange import modules
from conveyor.interchange.bundle import to_bytes
from conveyor.interchange.graph import Graph
from conveyor.runtime import Model

STEPS = 400
"""Of the sequence that good clients read, again and again."""


def made(hidden_size: int, folder: Path) -> Path:
    torch.manual_seed(0)
    graph = Graph(features=40)
    x = modules.recurrent(graph, 0, LSTM(40, hidden_size).eval())
    graph.linear(x, np.random.default_rng(0).normal(size=(10, hidden_size)))
    path = folder / "runtime.safetensors"
    path.write_bytes(to_bytes(graph))
    return path


class Load:
    """All clients, and what they saw."""

    def __init__(self, file: Path, address: str, pause: float) -> None:
        model = Model.load(file)
        self.random = np.random.default_rng(1)
        self.x = self.random.normal(size=(STEPS, model.inputs)).astype("<f4")
        self.expected, self.address, self.pause = model.run(self.x), address, pause
        self.times: list[float] = []
        self.wrong = self.lost = self.bad = 0

    async def good(self, until: float) -> None:
        while time.monotonic() < until:
            try:
                async with connect(f"ws://{self.address}/stream") as socket:
                    for t in range(STEPS):
                        start = time.perf_counter()
                        await socket.send(self.x[t].tobytes())
                        row = np.frombuffer(await socket.recv(), "<f4")
                        self.times.append(time.perf_counter() - start)
                        self.wrong += not np.array_equal(row, self.expected[t])
                        await asyncio.sleep(self.pause * self.random.random() * 2)
                        if time.monotonic() > until:
                            return
            except (ConnectionClosed, OSError, TimeoutError):
                self.lost += 1

    async def bad_one(self, until: float, kind: int) -> None:
        while time.monotonic() < until:
            self.bad += 1
            try:
                async with connect(f"ws://{self.address}/stream") as socket:
                    if kind == 0:  # dies in the middle of a long message
                        await socket.send(self.x.tobytes())
                        socket.transport.abort()
                    elif kind == 1:  # reads nothing of what it asked for
                        socket.transport.pause_reading()
                        await asyncio.wait_for(socket.send(self.x.tobytes()), 5)
                        await asyncio.sleep(5)
                        socket.transport.abort()
                    else:
                        await socket.send(os.urandom(1 + 100 * kind))
                        await socket.recv()
            except (ConnectionClosed, OSError, TimeoutError):
                pass
            await asyncio.sleep(0.5)


def memory(pid: int) -> float:
    """MB that a process holds."""
    return (
        int(
            next(
                line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
            ).split()[1]
        )
        / 1024
    )


async def run(load: Load, pid: int, streams: int, seconds: float) -> list[float]:
    until = time.monotonic() + seconds
    bad = streams // 10
    tasks = [load.good(until) for _ in range(streams - bad)] + [load.bad_one(until, n % 4) for n in range(bad)]
    held = [memory(pid)]

    async def watch() -> None:
        for _ in range(2):
            await asyncio.sleep(seconds / 3)
            held.append(memory(pid))

    await asyncio.gather(watch(), *tasks)
    return [*held, memory(pid)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--pause", type=float, default=0.1, help="mean seconds between a stream's steps")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = asked.bundle or made(asked.hidden_size, Path(folder))
        command = [sys.executable, "-m", "conveyor.cli", "serve", str(file), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            address = process.stdout.readline().split()[0].removeprefix("http://")
            load = Load(file, address, asked.pause)
            held = asyncio.run(run(load, process.pid, asked.streams, asked.seconds))
            process.terminate()
            ended = process.wait(60)
    if load.wrong or load.lost or ended:
        sys.exit(f"{load.wrong} answers were wrong, {load.lost} streams were lost, the server ended with {ended}")
    p50, p99, p999 = (1000 * float(np.quantile(load.times, q)) for q in (0.5, 0.99, 0.999))
    print(
        f"{len(load.times):,} steps of {asked.streams - asked.streams // 10} streams in {asked.seconds:g} s, "
        f"{load.bad} bad clients among them"
    )
    print(
        f"{len(load.times) / asked.seconds:,.0f} steps/s; {p50:.2f} ms median, {p99:.2f} ms p99, {p999:.2f} ms p99.9; "
        "none wrong, none lost"
    )
    print(f"server: {', '.join(f'{one:.0f}' for one in held)} MB at the start, after a third, two thirds, at the end")


if __name__ == "__main__":
    main()
