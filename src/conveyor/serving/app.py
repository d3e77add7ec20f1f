"""The service: `predict`, streams, health, metrics, and what they are called."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from conveyor.errors import ConveyorError
from conveyor.runtime import Model
from conveyor.serving.batcher import Batcher
from conveyor.serving.limits import Bucket, Limits
from conveyor.serving.openapi import description

BAD, GOING, FULL, FORBIDDEN, IDLE = 1007, 1012, 1013, 1008, 4008
"""Why a stream was closed: rubbish; the service ends, with the stream's state; no room; no token; nothing came."""


class Service:
    """A model, its streams and its counters."""

    def __init__(self, model: Model, limits: Limits, token: str = "", threads: int = 1) -> None:
        self.model, self.limits, self.token, self.threads = model, limits, token, threads
        self.batcher: Batcher | None = None
        self.open: set[asyncio.Task[Any]] = set()
        self.receiving: set[asyncio.Task[Any]] = set()
        self.going = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.draining: Future[None] | None = None
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "conveyor_requests", "Requests by path and status.", ["path", "status"], registry=registry
        )
        self.errors = Counter("conveyor_stream_errors", "Streams closed for a reason.", ["reason"], registry=registry)
        self.steps = Counter("conveyor_steps", "Steps of streams.", registry=registry)
        self.seconds = Histogram(
            "conveyor_message_seconds", "From a stream's message to its answer.", registry=registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0),
        )  # fmt: skip
        Gauge("conveyor_streams", "Streams that are open.", registry=registry).set_function(lambda: len(self.open))
        routes = [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/model", self.about), Route("/health", self.health), Route("/ready", self.ready),
            Route("/metrics", self.metrics), Route("/openapi.json", self.openapi),
        ]  # fmt: skip
        stream = [WebSocketRoute("/stream", self.stream)] if model.streams else []
        self.app = Starlette(routes=[*routes, *stream], lifespan=self._life)

    def watch(self, server: Any) -> None:
        """Drain when a uvicorn server is told to end, and only then let it: it would close the streams at once."""
        plain = server.handle_exit

        def handle_exit(*arguments: Any) -> None:
            if self.loop and not self.draining:
                self.draining = asyncio.run_coroutine_threadsafe(drained(*arguments), self.loop)
            else:  # told twice
                plain(*arguments)

        async def drained(*arguments: Any) -> None:
            await self.drain()
            if not server.should_exit:
                plain(*arguments)

        server.handle_exit = handle_exit

    async def drain(self) -> None:
        """Take no more, and end the streams behind the message that each is at."""
        self.going.set()
        for task in self.receiving:
            task.cancel()
        if self.open:
            await asyncio.wait(self.open, timeout=self.limits.slow)

    @asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        if self.model.streams:
            self.batcher = Batcher(self.model, self.limits.streams, self.threads)
        self.loop = asyncio.get_running_loop()
        yield
        await self.drain()
        if self.batcher:
            await self.batcher.close()

    # Requests

    def _may(self, given: str | None) -> bool:
        return not self.token or hmac.compare_digest((given or "").encode(), f"Bearer {self.token}".encode())

    def _takes_more(self) -> bool:
        return not self.going.is_set() and len(self.open) < self.limits.streams

    def _answer(self, request: Request, content: Any, status: int = 200) -> Response:
        self.requests.labels(request.url.path, status).inc()
        return JSONResponse(content, status)

    async def predict(self, request: Request) -> Response:
        """Whole sequences, side by side; nothing is remembered."""
        if not self._may(request.headers.get("authorization")):
            return self._answer(request, {"error": "expected the service's token, Authorization: Bearer …"}, 401)
        body = b""
        try:
            async for part in request.stream():
                body += part
                if len(body) > self.limits.message:
                    return self._answer(request, {"error": f"expected at most {self.limits.message:,} bytes"}, 413)
        except ClientDisconnect:
            return self._answer(request, {"error": "the client has gone"}, 499)
        try:
            rows = [self._rows(one) for one in _sequences(body)]
            steps = sum(map(len, rows))
            if steps > self.limits.steps:
                return self._answer(
                    request, {"error": f"expected at most {self.limits.steps:,} steps, got {steps:,}"}, 413
                )
            outputs = await run_in_threadpool(self._predict, rows)
        except (ConveyorError, ValueError) as error:
            return self._answer(request, {"error": _said(error)}, 400)
        return self._answer(request, {"outputs": [one.tolist() for one in outputs]})

    def _predict(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        lengths = np.array([len(one) for one in rows])
        x = np.zeros((max(lengths), len(rows), *rows[0].shape[1:]), rows[0].dtype)
        for b, one in enumerate(rows):
            x[: len(one), b] = one
        y = _finite(self.model.run(x, lengths, threads=self.threads))
        return [y[:length, b] for b, length in enumerate(lengths)]

    async def about(self, request: Request) -> Response:
        """What the model reads and gives."""
        model = self.model
        about = {
            "task": model.task,
            "tokens": model.tokens,
            "inputs": model.inputs,
            "outputs": model.outputs,
            "streams": model.streams,
        }
        return self._answer(request, about)

    async def health(self, request: Request) -> Response:
        """That it is alive."""
        return self._answer(request, {"healthy": True})

    async def ready(self, request: Request) -> Response:
        """That it takes more."""
        ready = self._takes_more()
        return self._answer(request, {"ready": ready}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: Request) -> Response:
        """What this says, for programs."""
        return self._answer(request, description(self.model, self.limits, bool(self.token)))

    # Streams

    async def stream(self, socket: WebSocket) -> None:
        """A stream: each message is a stretch of it, each answer its outputs."""
        if not self._may(socket.headers.get("authorization") or f"Bearer {socket.query_params.get('token', '')}"):
            return await self._refuse(socket, FORBIDDEN, "token")
        if not self._takes_more():
            return await self._refuse(socket, FULL, "full")
        assert self.batcher
        task, batcher = asyncio.current_task(), self.batcher
        assert task
        self.open.add(task)
        stream = batcher.join()
        try:
            await socket.accept()
            await self._serve(socket, stream, task)
        except asyncio.CancelledError:
            if not self.going.is_set():
                raise
            await self._close(socket, GOING, "going", stream)
        except (WebSocketDisconnect, TimeoutError, RuntimeError):  # it died, or does not read what it is sent
            self.errors.labels("gone").inc()
        finally:
            self.open.discard(task)
            batcher.leave(stream)

    async def _serve(self, socket: WebSocket, stream: int, task: asyncio.Task[Any]) -> None:
        assert self.batcher
        bucket = Bucket(self.limits.rate)
        while not self.going.is_set():
            self.receiving.add(task)
            try:
                message = await asyncio.wait_for(socket.receive(), self.limits.idle)
            except TimeoutError:
                return await self._close(socket, IDLE, "idle", stream)
            finally:
                self.receiving.discard(task)
            if message["type"] == "websocket.disconnect":
                return None
            start = time.perf_counter()
            try:
                answer: str | bytes | None = self._command(message.get("text"), stream)
                if answer is None:
                    rows = self._message(message)
                    await self._wait(bucket.wait(len(rows)))
                    y = _finite(await self.batcher.read(stream, rows))
                    self.steps.inc(len(rows))
                    answer = y.tobytes() if message.get("bytes") is not None else json.dumps({"y": y.tolist()})
            except (ConveyorError, ValueError) as error:
                return await self._close(socket, BAD, "bad", stream, _said(error))
            send = socket.send_bytes(answer) if isinstance(answer, bytes) else socket.send_text(answer)
            await asyncio.wait_for(send, self.limits.slow)
            self.seconds.observe(time.perf_counter() - start)
        await self._close(socket, GOING, "going", stream)
        return None

    async def _wait(self, seconds: float) -> None:
        """Let the others go first; not at the end."""
        if seconds:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.going.wait(), seconds)

    def _command(self, text: str | None, stream: int) -> str | None:
        """What a stream may ask besides: {"reset": true}, {"state": null} for its state, {"state": "…"} to set it."""
        if text is None:
            return None
        asked = _json(text)
        if not isinstance(asked, dict) or "x" in asked:
            return None
        assert self.batcher
        if asked.keys() == {"reset"} and asked["reset"] is True:
            self.batcher.pool.reset(stream)
        elif asked.keys() == {"state"} and isinstance(asked["state"], str):
            self.batcher.pool.set_state(stream, _state(asked["state"]))
        elif asked != {"state": None}:
            raise ConveyorError('[stream] expected {"x": [...]}, {"reset": true} or {"state": ...}')
        return json.dumps({"state": self._state_of(stream)})

    def _state_of(self, stream: int) -> str:
        assert self.batcher
        return base64.b64encode(self.batcher.pool.state(stream).astype("<f4").tobytes()).decode()

    def _message(self, message: Any) -> np.ndarray:
        content = message.get("bytes")
        if content is None:
            text = message.get("text") or ""
            asked = _json(text)
            _only_numbers(text)
            if not isinstance(asked, dict) or set(asked) != {"x"}:
                raise ConveyorError('[stream] expected {"x": [...]}')
            rows = self._rows(asked["x"])
        elif self.model.tokens:
            rows = self._rows(np.frombuffer(content, "<i8") if len(content) % 8 == 0 else None)
        else:
            width = 4 * self.model.inputs
            rows = self._rows(
                np.frombuffer(content, "<f4").reshape(-1, self.model.inputs) if len(content) % width == 0 else None
            )
        if len(rows) > self.limits.steps:
            raise ConveyorError(f"[stream] expected at most {self.limits.steps:,} steps a message, got {len(rows):,}")
        return rows

    def _rows(self, given: Any) -> np.ndarray:
        """A sequence as it was sent, checked."""
        tokens, I = self.model.tokens, self.model.inputs
        wanted = f"whole numbers from 0 to {tokens - 1}" if tokens else f"rows of {I} numbers"
        try:
            rows = np.asarray(given)
        except ValueError:
            rows = np.zeros(())
        fits = (
            rows.ndim == 1 and rows.dtype.kind == "i"
            if tokens
            else rows.ndim == 2 and rows.shape[1] == I and rows.dtype.kind in "if"
        )
        fits = fits or (isinstance(given, list) and not given)
        if (
            not fits
            or not np.isfinite(rows).all()
            or (tokens and len(rows) and not (rows.min() >= 0 and rows.max() < tokens))
        ):
            raise ConveyorError(f"[input] expected {wanted}")
        if not len(rows):
            return np.zeros((0,) if tokens else (0, I), np.int64 if tokens else np.float32)
        if not tokens and np.abs(rows).max() > np.finfo(np.float32).max:
            raise ConveyorError(f"[input] expected {wanted}, each within float32")
        return rows.astype(np.int64 if tokens else np.float32)

    async def _refuse(self, socket: WebSocket, code: int, reason: str) -> None:
        self.errors.labels(reason).inc()
        await socket.accept()
        await socket.close(code, reason)

    async def _close(self, socket: WebSocket, code: int, reason: str, stream: int, error: str = "") -> None:
        """With the state, so that the stream can go on elsewhere."""
        self.errors.labels(reason).inc()
        farewell = {"closing": reason, "state": self._state_of(stream)} | ({"error": error} if error else {})
        try:
            await asyncio.wait_for(socket.send_text(json.dumps(farewell)), self.limits.slow)
            await asyncio.wait_for(socket.close(code, reason), self.limits.slow)
        except (WebSocketDisconnect, TimeoutError, RuntimeError):
            self.errors.labels("gone").inc()


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ConveyorError(f"[input] expected JSON, but {error}") from None


def _only_numbers(text: str) -> None:
    """numpy takes true for 1, where there are numbers beside it."""
    for word in ("true", "false"):
        if word in text:
            raise ConveyorError(f"[input] expected numbers, got {word}")


def _finite(y: np.ndarray) -> np.ndarray:
    if not np.isfinite(y).all():
        raise ConveyorError("[input] expected numbers that the model can compute with; its outputs are beyond float32")
    return y


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _sequences(body: bytes) -> list[Any]:
    asked = _json(body)
    _only_numbers(body.decode())
    found = asked.get("sequences") if isinstance(asked, dict) and len(asked) == 1 else None
    if not isinstance(found, list) or not found:
        raise ConveyorError('[input] expected {"sequences": [...]}, one or more')
    return found


def _state(text: str) -> np.ndarray:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4").copy()
    except ValueError:
        raise ConveyorError("[stream] state: expected what the service gave") from None


def _said(error: Exception) -> str:
    """Its text alone; errors of the kernels have a name beside it."""
    return str(error.args[0]) if error.args else str(error)
