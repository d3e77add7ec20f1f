"""`conveyor serve` as its clients meet it."""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_now

from conveyor import LSTM
from conveyor.cli import main
from conveyor.interchange import modules
from conveyor.interchange.bundle import to_bytes
from conveyor.interchange.graph import Graph
from conveyor.runtime import Model

I, O = 5, 3


def small() -> Graph:
    graph = Graph(features=I, task="made-up")
    x = modules.recurrent(graph, 0, LSTM(I, 16, 2).eval())
    graph.linear(x, np.random.default_rng(0).normal(size=(O, 16)))
    return graph


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "runtime.safetensors"
    path.write_bytes(to_bytes(small()))
    return path


@contextmanager
def serving(file: Path, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "conveyor.cli", "serve", str(file), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            if line.startswith("token: "):
                line = process.stdout.readline()
            yield process, line.split()[0].removeprefix("http://")
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def address(file: Path) -> Iterator[str]:
    with serving(file) as (_, address):
        yield address


def ask(address: str, path: str, content: Any = None, **headers: str) -> tuple[int, Any]:
    data = content if isinstance(content, bytes) else None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(f"http://{address}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            body, status = answer.read(), answer.status
    except urllib.error.HTTPError as error:
        body, status = error.read(), error.code
    return status, json.loads(body) if body.startswith((b"{", b"[")) else body.decode()


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, I)).astype("<f4")


def test_predict(address: str, file: Path) -> None:
    sequences = [rows(4), rows(9, 1), rows(1, 2)]
    status, found = ask(address, "/predict", {"sequences": [one.tolist() for one in sequences]})
    assert status == 200
    for one, outputs in zip(sequences, found["outputs"], strict=True):
        np.testing.assert_array_equal(np.array(outputs, np.float32), Model.load(file).run(one))


RUBBISH: list[tuple[Any, int, str]] = [
    (b"{", 400, "expected JSON"),
    (b"\xff\xfe", 400, "expected JSON"),
    (b"[" * 100000, 400, "expected JSON"),
    ({"sequences": []}, 400, "one or more"),
    ({"sequences": [[[1, 2]]]}, 400, "expected rows of 5 numbers"),
    ({"sequences": [[[1, 2, 3, 4, "x"]]]}, 400, "expected rows of 5 numbers"),
    ({"sequences": [[[1, 2, 3, 4, None]]]}, 400, "expected rows of 5 numbers"),
    ({"sequences": "abc"}, 400, "one or more"),
    (b'{"sequences": [[[1, 2, 3, 4, NaN]]]}', 400, "NaN is no number"),
    (b'{"sequences": [[[1, 2, 3, 4, 1e999]]]}', 400, "expected rows of 5 numbers"),
    ({"sequences": [[[1, 2, 3, 4, 1e300]]]}, 400, "each within float32"),
    ({"sequences": [[[1, 2, 3, 4, True]]]}, 400, "expected numbers, got true"),
    ({"sequences": [[[0] * 5] * 5000]}, 413, "expected at most 4,096 steps, got 5,000"),
    (b" " * (1 << 20) + b" ", 413, "expected at most 1,048,576 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "status", "error"), RUBBISH)
def test_rubbish_is_told_so(content: Any, status: int, error: str, address: str) -> None:
    got, said = ask(address, "/predict", content)
    assert got == status
    assert error in said["error"]


def test_what_is_told(address: str) -> None:
    assert ask(address, "/model") == (200, {"task": "made-up", "tokens": 0, "inputs": I, "outputs": O, "streams": True})
    assert ask(address, "/health") == (200, {"healthy": True})
    assert ask(address, "/ready") == (200, {"ready": True})
    assert ask(address, "/nowhere")[0] == 404
    assert ask(address, "/predict")[0] == 405
    status, said = ask(address, "/openapi.json")
    assert status == 200
    assert said["openapi"].startswith("3.1")
    assert {"/predict", "/model", "/health", "/ready", "/metrics", "/openapi.json"} == {*said["paths"]}
    sequence = said["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"][
        "sequences"
    ]
    assert sequence["items"]["items"]["minItems"] == I
    assert 'conveyor_requests_total{path="/health",status="200"}' in ask(address, "/metrics")[1]


def test_a_stream_is_the_sequence(address: str, file: Path) -> None:
    x = rows(12)
    expected = Model.load(file).run(x)
    with connect_now(f"ws://{address}/stream") as socket:
        socket.send(x[:5].tobytes())
        first = np.frombuffer(socket.recv(), "<f4").reshape(-1, O)  # type: ignore[arg-type]
        socket.send(json.dumps({"state": None}))
        state = json.loads(socket.recv())["state"]
        socket.send(json.dumps({"x": x[5:].tolist()}))
        np.testing.assert_array_equal(np.array(json.loads(socket.recv())["y"], np.float32), expected[5:])
        socket.send(json.dumps({"reset": True}))
        assert not np.frombuffer(base64.b64decode(json.loads(socket.recv())["state"]), "<f4").any()
        socket.send(x[:5].tobytes())
        np.testing.assert_array_equal(np.frombuffer(socket.recv(), "<f4").reshape(-1, O), first)  # type: ignore[arg-type]
    np.testing.assert_array_equal(first, expected[:5])
    with connect_now(f"ws://{address}/stream") as socket:  # goes on where the other was
        socket.send(json.dumps({"state": state}))
        socket.recv()
        socket.send(x[5:].tobytes())
        np.testing.assert_array_equal(np.frombuffer(socket.recv(), "<f4").reshape(-1, O), expected[5:])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"abc", "expected rows of 5 numbers"),
        (np.full(I, np.nan, "<f4").tobytes(), "expected rows of 5 numbers"),
        ("{", "expected JSON"),
        ("[1, 2]", 'expected {"x": [...]}'),
        ('{"x": [[1]]}', "expected rows of 5 numbers"),
        ('{"x": [[1, 2, 3, 4, 1e300]]}', "each within float32"),
        ('{"x": [], "y": 1}', 'expected {"x": [...]}'),
        ('{"state": "AAAAAA=="}', "expected [64], got [1]"),
        ('{"state": "?"}', "expected what the service gave"),
        ('{"reset": 1}', 'expected {"x": [...]}, {"reset": true}'),
        ('{"reset": true, "state": 5}', 'expected {"x": [...]}, {"reset": true}'),
        ('{"x": [[1, 2, 3, 4, true]]}', "expected numbers, got true"),
        (rows(5000).tobytes(), "expected at most 4,096 steps a message, got 5,000"),
    ],
)
def test_a_stream_that_sends_rubbish_is_closed_with_its_state(message: Any, error: str, address: str) -> None:
    with connect_now(f"ws://{address}/stream") as socket:
        socket.send(rows(3).tobytes())
        socket.recv()
        socket.send(message)
        farewell = json.loads(socket.recv())
        assert farewell["closing"] == "bad"
        assert error in farewell["error"]
        assert np.frombuffer(base64.b64decode(farewell["state"]), "<f4").any()
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd.code == 1007  # type: ignore[union-attr]


def test_many_streams_among_clients_that_die_stall_and_send_rubbish(address: str, file: Path) -> None:
    x = rows(40)
    expected = Model.load(file).run(x)

    async def good(n: int) -> None:
        async with connect(f"ws://{address}/stream") as socket:
            for t in range(len(x)):
                await socket.send(x[t].tobytes())
                row = np.frombuffer(await socket.recv(), "<f4")  # type: ignore[arg-type]
                np.testing.assert_array_equal(row, expected[t])

    async def dies(n: int) -> None:
        socket = await connect(f"ws://{address}/stream")
        await socket.send(rows(2000).tobytes())
        socket.transport.abort()

    async def stalls(n: int) -> None:
        async with connect(f"ws://{address}/stream") as socket:
            await socket.send(x.tobytes())
            await asyncio.sleep(1)

    async def rubbish(n: int) -> None:
        async with connect(f"ws://{address}/stream") as socket:
            await socket.send(os.urandom(77))
            await socket.recv()

    async def all_of_them() -> None:
        kinds = [good, good, good, dies, stalls, rubbish]
        await asyncio.gather(*(kinds[n % len(kinds)](n) for n in range(90)))

    asyncio.run(all_of_them())
    status, said = ask(address, "/metrics")
    assert status == 200
    assert "conveyor_steps_total" in said


def test_limits(file: Path) -> None:
    limits = ["--streams", "2", "--idle", "1", "--message", "1000", "--rate", "50"]
    with serving(file, *limits) as (_, address):
        with connect_now(f"ws://{address}/stream") as one, connect_now(f"ws://{address}/stream") as two:
            assert ask(address, "/ready") == (503, {"ready": False})
            with connect_now(f"ws://{address}/stream") as third, pytest.raises(ConnectionClosed) as full:
                third.recv()
            assert full.value.rcvd.code == 1013  # type: ignore[union-attr]
            two.send(rows(100).tobytes())  # 2,000 bytes
            with pytest.raises(ConnectionClosed) as large:
                two.recv()
            assert large.value.rcvd.code == 1009  # type: ignore[union-attr]
            farewell = json.loads(one.recv(10))  # which has sent nothing for a second
            assert farewell["closing"] == "idle"
        with connect_now(f"ws://{address}/stream") as socket:
            start = time.monotonic()
            for _ in range(5):
                socket.send(rows(40).tobytes())
                socket.recv(20)
            assert time.monotonic() - start > 1.5  # 200 steps, 100 of them saved up


def test_a_token(file: Path) -> None:
    with serving(file, CONVEYOR_TOKEN="secret") as (_, address):
        content = {"sequences": [rows(2).tolist()]}
        assert ask(address, "/predict", content)[0] == 401
        assert ask(address, "/predict", content, Authorization="Bearer wrong")[0] == 401
        assert ask(address, "/predict", content, Authorization="Bearer secret")[0] == 200
        assert ask(address, "/openapi.json")[1]["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
        with connect_now(f"ws://{address}/stream") as socket, pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd.code == 1008  # type: ignore[union-attr]
        with connect_now(f"ws://{address}/stream", additional_headers={"Authorization": "Bearer secret"}) as socket:
            socket.send(rows(1).tobytes())
            assert len(socket.recv()) == 4 * O


def test_any_other_address_has_a_token(file: Path) -> None:
    command = [sys.executable, "-m", "conveyor.cli", "serve", str(file), "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        token, listening = (process.stdout.readline().split() for _ in range(2))
        address = listening[0].removeprefix("http://").replace("0.0.0.0", "127.0.0.1")
        assert len(token[1]) > 20
        assert ask(address, "/predict", {"sequences": [rows(2).tolist()]})[0] == 401
        process.terminate()


def test_the_end_hands_streams_back(file: Path) -> None:
    x = rows(30)
    with serving(file) as (process, address), connect_now(f"ws://{address}/stream") as socket:
        socket.send(x[:10].tobytes())
        socket.recv()
        process.send_signal(signal.SIGTERM)
        farewell = json.loads(socket.recv(20))
        assert farewell["closing"] == "going"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(20)
        assert closed.value.rcvd.code == 1012  # type: ignore[union-attr]
        assert process.wait(30) == 0
    session = Model.load(file).session()
    session.state = np.frombuffer(base64.b64decode(farewell["state"]), "<f4")
    np.testing.assert_array_equal(session.push(x[10:]), Model.load(file).run(x)[10:])


@pytest.mark.parametrize(("count", "options"), [(4000, ()), (100, ("--rate", "10"))], ids=["computes", "waits"])
def test_the_end_waits_for_the_message_that_a_stream_is_at(count: int, options: tuple[str, ...], file: Path) -> None:
    """Whether it is being computed, or waits for its turn."""
    x = rows(count)
    with serving(file, *options) as (process, address), connect_now(f"ws://{address}/stream", max_size=None) as socket:
        socket.send(rows(1).tobytes())
        socket.recv()
        socket.send(x.tobytes())
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        y = np.frombuffer(socket.recv(20), "<f4").reshape(-1, O)  # type: ignore[arg-type]
        farewell = json.loads(socket.recv(20))
        assert farewell["closing"] == "going"
        assert process.wait(30) == 0
    session = Model.load(file).session()
    session.push(rows(1))
    np.testing.assert_array_equal(y, session.push(x))
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(farewell["state"]), "<f4"), session.state)


def test_outputs_beyond_float32(tmp_path: Path) -> None:
    graph = Graph(features=1)
    graph.linear(0, np.full((1, 1), 1e30, np.float32))
    (tmp_path / "large.safetensors").write_bytes(to_bytes(graph))
    with serving(tmp_path / "large.safetensors") as (_, address):
        assert ask(address, "/predict", {"sequences": [[[2]]]})[0] == 200
        status, said = ask(address, "/predict", {"sequences": [[[3e30]]]})
        assert (status, "its outputs are beyond float32" in said["error"]) == (400, True)
        with connect_now(f"ws://{address}/stream") as socket:
            socket.send('{"x": [[3e30]]}')
            assert "its outputs are beyond float32" in json.loads(socket.recv())["error"]


def test_a_client_that_leaves_is_no_error(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(file) as (_, address):
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        for _ in range(100):
            if 'path="/predict",status="499"' in ask(address, "/metrics")[1]:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the request is counted nowhere")
    assert "Traceback" not in capfd.readouterr().err


def test_a_bundle_older_than_its_run_is_not_served(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = file.parent / "model.safetensors"
    trained.write_bytes(b"")
    os.utime(file, (0, 0))
    try:
        assert main(["serve", str(file.parent)]) == 2
        assert "older than the run's model; write it anew with conveyor export" in capsys.readouterr().err
    finally:
        trained.unlink()


def test_mistakes(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path / "none.safetensors")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert main(["serve", str(file), "--streams", "0"]) == 2
    assert "--streams: expected a number above zero" in capsys.readouterr().err
    for options, error in (
        (["--slow", "inf"], "--slow: expected a number above zero"),
        (["--streams", "2000000"], "--streams: expected at most 1,048,576, got 2,000,000"),
        (["--threads", "0"], "--threads: expected 1 to 1024, got 0"),
        (["--token", "séc"], "expected letters of ASCII without spaces"),
    ):
        assert main(["serve", str(file), *options]) == 2
        assert error in capsys.readouterr().err
    assert main(["serve", str(file), "--host", "no..host"]) == 2
    assert "cannot listen there" in capsys.readouterr().err
    assert main(["serve", str(file), "--port", "99999"]) == 2
    assert "cannot listen there" in capsys.readouterr().err
