"""Trained networks without torch: numpy and the kernels alone.

    model = Model.load("runtime.safetensors")       # written by `conveyor export RUN`
    y = model.run(sequence)                         # whole sequences, side by side with lengths=
    session = model.session()
    y = session.step(x)                             # a step; session.push(chunk) for several
    pool = Pool(model, 1000)                        # many streams that join and leave at any time

A sequence gives the same results in one piece, in chunks, step by step and among others in a pool, bit for bit.
"""

from __future__ import annotations

import json
import operator
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from conveyor import _kernels
from conveyor.errors import BundleError, ConveyorError

__all__ = ["BundleError", "Model", "Pool", "Session"]

if TYPE_CHECKING:  # the compiled module has no types
    Session: TypeAlias = Any
else:
    Session = _kernels.Session

Numbers: TypeAlias = np.ndarray


class Model:
    """A network read from a bundle. It never changes; threads may share it.

    tokens: how many tokens there are, if it reads tokens, whole numbers below that; else 0, and it reads rows of
    `inputs` numbers. outputs: numbers it gives a step. state: numbers that a stream carries. streams: whether it can be
    read step by step; a bidirectional one cannot. task, facts: what the run's task knew of its data, a vocabulary for
    instance.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self.tokens: int = kernel.tokens
        self.inputs: int = kernel.inputs
        self.outputs: int = kernel.outputs
        self.state: int = kernel.state
        self.streams: bool = kernel.streams
        self.task: str = kernel.task

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Model:
        """The model of a file; BundleError if there is anything wrong with it."""
        if not isinstance(path, (str, bytes, os.PathLike)) or "\0" in os.fsdecode(path):
            raise ConveyorError(f"[runtime] expected the path of a bundle, got {path!r:.40}")
        name = os.fsdecode(path)
        try:
            return cls(_kernels.Model.load(name))
        except BundleError as error:
            raise BundleError(f"{error} ({name})", error.name) from None

    @classmethod
    def of_bytes(cls, content: bytes | bytearray | memoryview) -> Model:
        """The model of a file's content."""
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise ConveyorError(f"[runtime] expected the bytes of a bundle, got {type(content).__name__}")
        return cls(_kernels.Model.of_bytes(bytes(content)))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the task knew of its data."""
        found: dict[str, Any] = json.loads(self._kernel.facts or "{}")
        return found

    def run(
        self, x: Numbers, lengths: Numbers | None = None, states: Numbers | None = None, threads: int = 1
    ) -> Numbers:
        """Whole sequences [T, B, I], or tokens [T, B], to [T, B, O]; of one [T, I], or [T], to [T, O].

        `lengths` [B]: the steps of each; past them outputs are zero, and the reverse direction begins there. `states`
        [B, S] float32, S = `state`: where each begins, zero if not given; it is changed to where each ended.
        """
        ends = None if lengths is None else _whole("lengths", lengths)
        if states is not None and not (
            isinstance(states, np.ndarray)
            and states.dtype == np.float32
            and states.flags.c_contiguous
            and states.flags.writeable
            and states.ndim == 2
        ):
            got = f"{states.dtype} {[*states.shape]}" if isinstance(states, np.ndarray) else type(states).__name__
            raise ConveyorError(
                f"[runtime] states: expected contiguous, writable float32 [B, {self.state}], which is changed where it "
                f"is, got {got}"
            )
        if states is not None and not np.isfinite(states).all():
            raise ConveyorError("[runtime] states: expected numbers, got NaN or infinity")
        found: Numbers = self._kernel.run(x, ends, states, _count("threads", threads))
        return found

    def session(self, threads: int = 1) -> Session:
        """A stream of its own, a step at a time: `step`, `push`, `state` and `reset`."""
        return self._kernel.session(_count("threads", threads))


class Pool:
    """Many streams of a model, `capacity` at most, which join and leave at any time and advance together.

    Each gives the results that it would give alone, bit for bit. One step at a time: threads take turns.
    """

    def __init__(self, model: Model, capacity: int, threads: int = 1) -> None:
        if not isinstance(model, Model):
            raise ConveyorError(f"[runtime] expected a Model, got {type(model).__name__}")
        self._kernel = model._kernel.pool(_count("capacity", capacity), _count("threads", threads))

    def __len__(self) -> int:
        """Streams that have joined."""
        return len(self._kernel)

    def join(self) -> int:
        """A new stream, from its beginning; its number."""
        stream: int = self._kernel.join()
        return stream

    def leave(self, stream: int) -> None:
        """Give a stream's place to others."""
        self._kernel.leave(_count("stream", stream))

    def step(self, streams: Numbers, x: Numbers) -> Numbers:
        """A step of some of the streams [n], each in a row of x [n, I], or tokens [n]; to [n, O]."""
        found: Numbers = self._kernel.step(_whole("streams", streams), x)
        return found

    def state(self, stream: int) -> Numbers:
        """All that a stream remembers [S], as a session's."""
        found: Numbers = self._kernel.state(_count("stream", stream))
        return found

    def set_state(self, stream: int, state: Numbers) -> None:
        """Let a stream go on from there."""
        self._kernel.set_state(_count("stream", stream), state)

    def reset(self, stream: int) -> None:
        """Let a stream begin anew."""
        self._kernel.reset(_count("stream", stream))


def _whole(name: str, given: Any) -> Numbers:
    """Whole numbers, whatever holds them."""
    try:
        values = np.asarray(given)
    except ValueError as error:
        raise ConveyorError(f"[runtime] {name}: expected whole numbers: {error}") from None
    if values.dtype.kind not in "iu" and values.size:
        raise ConveyorError(f"[runtime] {name}: expected whole numbers, got {values.dtype}")
    if values.size and values.dtype.kind == "u" and values.max() >= 1 << 63:
        raise ConveyorError(f"[runtime] {name}: expected whole numbers below 2^63, got {values.max()}")
    return np.ascontiguousarray(values, np.int64)


def _count(name: str, given: Any) -> int:
    """One of them."""
    try:
        value = operator.index(given)
    except TypeError:
        raise ConveyorError(f"[runtime] {name}: expected a whole number, got {given!r:.40}") from None
    if abs(value) >= 2**31:
        raise ConveyorError(f"[runtime] {name}: expected a number below {2**31}, got {value}")
    return value
