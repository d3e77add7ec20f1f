"""Files that are whole or not there at all: written beside their place, then renamed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conveyor.errors import ConveyorError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell in one sentence why `path` could not be written, and what to do."""
    try:
        yield
    except OSError as error:
        kept = "; the earlier file is unharmed" if os.path.exists(path) else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room; a training goes on with --resume" if full else "check the path and its permissions"
        raise ConveyorError(f"[write] {path}: {error.strerror}{kept}; {remedy}") from None


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path`; when the disk is full, what stood there before stays as it was."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Put `value` at `path` as JSON."""
    write(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, what: str) -> Any:
    """The JSON at `path`, called `what` in the error text."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ConveyorError(f"[{what}] {path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise ConveyorError(f"[{what}] {path}: expected JSON, but {error}; copy the file again") from None
