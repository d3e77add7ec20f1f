"""Serve a model: predictions over HTTP, streams over WebSockets."""

from __future__ import annotations

import ipaddress
import os
import secrets
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path

from conveyor.cli import wants_help
from conveyor.errors import ConveyorError
from conveyor.runtime import Model
from conveyor.serving.limits import Limits


@dataclass(kw_only=True)
class Serve:
    """Serve a bundle of `conveyor export`, or the one in a run's folder."""

    host: str = "127.0.0.1"
    """The address to listen at; any but the loopback asks for a token."""
    port: int = 8000
    """0 takes a free one."""
    token: str = ""
    """What clients must show, as Authorization: Bearer; CONVEYOR_TOKEN if not given, and where neither is, one is drawn
    for any address but the loopback."""
    threads: int = 1
    """Of a step of all streams."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= 1024:
            raise ConveyorError(f"[serve] --threads: expected 1 to 1024, got {self.threads}")


def run(args: list[str]) -> None:
    """Listen until it is stopped."""
    if wants_help(
        args, "usage: conveyor serve BUNDLE|RUN [--port 8000] [--host 0.0.0.0 --token …]; --help behind it lists all"
    ):
        return
    import uvicorn

    from conveyor.cli._parse import parse
    from conveyor.serving.app import Service

    asked = parse(Serve, args[1:], "conveyor serve BUNDLE", Serve())
    token = asked.token or os.environ.get("CONVEYOR_TOKEN", "")
    if not token.isascii() or any(letter.isspace() for letter in token):
        raise ConveyorError(
            "[serve] the token: expected letters of ASCII without spaces, as headers hold; take another"
        )
    local = _is_loopback(asked.host)
    if not local and not token:
        token = secrets.token_urlsafe(24)
        print(f"token: {token}", flush=True)
    service = Service(_model(Path(args[0])), asked.limits, token, asked.threads)
    listening = _listening(asked.host, asked.port)
    name = f"[{asked.host}]" if ":" in asked.host else asked.host
    print(
        f"http://{name}:{listening.getsockname()[1]}  (Ctrl-C ends it, when its streams have been handed back)",
        flush=True,
    )
    config = uvicorn.Config(
        service.app, log_level="warning", ws_max_size=asked.limits.message, ws="websockets-sansio", lifespan="on",
        timeout_keep_alive=30, h11_max_incomplete_event_size=1 << 16,
        timeout_graceful_shutdown=int(asked.limits.slow) + 5,
    )  # fmt: skip
    server = uvicorn.Server(config)
    service.watch(server)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn drains first, and then lets these have their way
        signal.signal(number, lambda *_: None)
    server.run([listening])


def _model(path: Path) -> Model:
    """The model of a bundle, or of a run: that in its folder, else made of it."""
    file, trained = path / "runtime.safetensors" if path.is_dir() else path, path / "model.safetensors"
    if path.is_dir() and file.exists() and trained.exists() and trained.stat().st_mtime > file.stat().st_mtime:
        raise ConveyorError(
            f"[serve] {file}: it is older than the run's model; write it anew with conveyor export {path}, or name it "
            "itself"
        )
    if not path.is_dir() or file.exists():
        return Model.load(file)
    from conveyor import tasks
    from conveyor.cli.export import graph_of
    from conveyor.interchange.bundle import to_bytes

    return Model.of_bytes(to_bytes(graph_of(tasks.load(path))))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    try:
        if not 0 <= port < 1 << 16:
            raise OverflowError("ports go from 0 to 65535")
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(2048)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConveyorError(
            f"[serve] {host}:{port}: cannot listen there ({reason}); give another --port or --host"
        ) from None
    return found
