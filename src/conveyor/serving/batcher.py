"""Streams advanced together: whatever waits when a step begins takes part in it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from conveyor.runtime import Model, Pool


@dataclass(eq=False)
class Job:
    """A stretch that a stream is to read."""

    rows: np.ndarray
    """[n, I], or tokens [n]"""
    done: asyncio.Future[np.ndarray]
    outputs: list[np.ndarray] = field(default_factory=list)


class Batcher:
    """One pool, and one thread that advances it. All methods are called in the event loop."""

    def __init__(self, model: Model, capacity: int, threads: int) -> None:
        self.model, self.pool = model, Pool(model, capacity, threads)
        self.jobs: dict[int, Job] = {}
        self.stepping: list[int] = []
        self.leaving: set[int] = set()
        self.steps = self.batches = 0
        self._thread = ThreadPoolExecutor(1, "conveyor-steps")
        self._waits = asyncio.Event()
        self._loop = asyncio.ensure_future(self._run())

    def join(self) -> int:
        """A new stream."""
        stream: int = self.pool.join()
        return stream

    def leave(self, stream: int) -> None:
        """Give a stream back, behind the step that it is in."""
        job = self.jobs.pop(stream, None)
        if job:
            job.done.cancel()
        if stream in self.stepping:
            self.leaving.add(stream)
        else:
            self.pool.leave(stream)

    async def read(self, stream: int, rows: np.ndarray) -> np.ndarray:
        """Outputs [n, O] of a stretch; a stream reads one at a time."""
        if not len(rows):
            return np.zeros((0, self.model.outputs), np.float32)
        job = self.jobs[stream] = Job(rows, asyncio.get_running_loop().create_future())
        self._waits.set()
        return await job.done

    async def close(self) -> None:
        """Finish what is being read, then end."""
        while self.jobs:
            await asyncio.wait([job.done for job in self.jobs.values()])
        self._loop.cancel()
        self._thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._waits.wait()
            jobs = [*self.jobs.items()]
            self.stepping = [stream for stream, _ in jobs]
            if not jobs:
                self._waits.clear()
                continue
            x = np.stack([job.rows[len(job.outputs)] for _, job in jobs])
            y = await loop.run_in_executor(self._thread, self.pool.step, np.array(self.stepping), x)
            self.steps, self.batches, self.stepping = self.steps + len(jobs), self.batches + 1, []
            for stream in self.leaving:
                self.pool.leave(stream)
            self.leaving.clear()
            for (stream, job), row in zip(jobs, y, strict=True):
                job.outputs.append(row)
                if self.jobs.get(stream) is job and len(job.outputs) == len(job.rows):
                    del self.jobs[stream]
                    if not job.done.done():
                        job.done.set_result(np.stack(job.outputs))
