"""Runs requests on a bounded number of threads, those that fit together in one batch."""

import asyncio
import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from serving.server.errors import Fault, exhausted
from serving.server.metrics import Metrics
from serving.server.options import BatchingOptions
from serving.server.servable import Servable

_Arrays = Mapping[str, np.ndarray]

_COMPANY_SEC = 0.002
_COMPANY_SHARE = 0.1
"""How long a thread waits for the next request of those that it expects: several times what it takes to receive one, or
this share of the time that the last batch took, whichever is longer.
"""

_PATIENCE = 2.0
"""And for all of them together, in multiples of that time."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """A request in the queue; requests of one kind may share a batch, and those without a kind run alone."""

    servable: Servable
    signature: str
    inputs: _Arrays
    items: int
    kind: Hashable | None
    answer: asyncio.Future[_Arrays]
    queued_at: float


class _Batch(NamedTuple):
    """One that ended; ``items_then``: its own, and those of its kind in the queue when it did."""

    kind: Hashable | None
    items_then: int
    began_at: float
    ended_at: float

    @property
    def duration_sec(self) -> float:
        return self.ended_at - self.began_at


class BatchScheduler:
    """A queue per kind of request, served in turn.

    TF Serving starts a batch when a thread is free and the oldest request has waited ``timeout_sec``. Here, receiving
    a request can take longer than a small network takes to answer it: callers would fall into groups that take turns,
    each a small batch, received while the model has the core and its caches. So a free thread also waits while requests
    keep coming, until there are as many items as in the last batch and in the queue behind it, whose senders may ask
    again. Who is alone never waits, and those who ask at the same time run together.

    It lives on one event loop, which alone touches the queues; only the runs of the graph are on threads.

    Attributes:
        queued_items: Items that wait for a thread.
        free_threads: Threads without a batch.
    """

    def __init__(self, options: BatchingOptions, metrics: Metrics) -> None:
        self._options = options
        self._metrics = metrics
        self._queues: dict[Hashable | None, deque[_Task]] = {}
        self.queued_items = 0
        self.free_threads = options.threads
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="batch")
        self._last = _Batch(kind=None, items_then=0, began_at=0.0, ended_at=0.0)
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, servable: Servable, signature: str, inputs: _Arrays) -> _Arrays:
        """The outputs for ``inputs``, which may have run together with those of others.

        Cancelling it takes the request out of the queue: nothing is computed for who has hung up, or whose deadline
        has passed.

        Raises:
            Fault: The queue is full, or the run failed; a request does not fail for what another one contains.
        """
        items = max((len(array) for array in inputs.values() if array.ndim), default=1)
        if self.queued_items and self.queued_items + items > self._options.max_queued_items:
            raise exhausted(f"the queue is full ({self.queued_items} items wait); try again later")
        answer = asyncio.get_running_loop().create_future()
        kind = self._kind(servable, signature, inputs)
        task = _Task(servable, signature, inputs, items, kind, answer, time.monotonic())
        self._queues.setdefault(kind, deque()).append(task)
        self.queued_items += items
        self._dispatch()
        try:
            return await answer
        except asyncio.CancelledError:
            self._forget(task)
            raise

    def close(self) -> None:
        """Lets the threads end; nothing may be in the queues."""
        self._pool.shutdown(wait=False)

    def _kind(self, servable: Servable, signature: str, inputs: _Arrays) -> Hashable | None:
        if self._options.max_batch_size == 1:
            return None
        return id(servable), signature, tuple((name, array.shape[1:]) for name, array in sorted(inputs.items()))

    def _forget(self, task: _Task) -> None:
        queue = self._queues.get(task.kind)
        if queue and task in queue:
            queue.remove(task)
            self.queued_items -= task.items

    def _dispatch(self) -> None:
        for kind in list(self._queues):
            if not self.free_threads:
                return
            self._dispatch_kind(kind)

    def _dispatch_kind(self, kind: Hashable | None) -> None:
        queue = self._queues[kind]
        wait_sec = self._wait_sec(queue)
        if wait_sec > 0:
            self._dispatch_later(wait_sec)
            return
        del self._queues[kind]
        if not queue:
            return
        self._start(self._take(queue))
        if queue:
            self._queues[kind] = queue  # at the end: the other kinds come first

    def _dispatch_later(self, wait_sec: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer and self._timer.when() > loop.time() + wait_sec:
            self._timer.cancel()
            self._timer = None
        if not self._timer:
            self._timer = loop.call_later(wait_sec, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._dispatch()

    def _wait_sec(self, queue: deque[_Task]) -> float:
        """How much longer the oldest request waits for company."""
        items = sum(task.items for task in queue)
        if not queue or queue[0].kind is None or items >= self._options.max_batch_size:
            return 0.0
        starts_at = queue[0].queued_at + self._options.timeout_sec
        if queue[0].kind == self._last.kind and items < self._last.items_then:
            ended_at, took_sec = self._last.ended_at, self._last.duration_sec
            next_due = max(queue[-1].queued_at, ended_at) + max(_COMPANY_SEC, _COMPANY_SHARE * took_sec)
            all_due = max(queue[0].queued_at, ended_at) + _PATIENCE * took_sec
            starts_at = max(starts_at, min(next_due, all_due))
        return starts_at - time.monotonic()

    def _take(self, queue: deque[_Task]) -> list[_Task]:
        batch = [queue.popleft()]
        size = batch[0].items
        while queue and batch[0].kind is not None and size + queue[0].items <= self._options.max_batch_size:
            size += queue[0].items
            batch.append(queue.popleft())
        self.queued_items -= size
        return batch

    def _start(self, batch: list[_Task]) -> None:
        self.free_threads -= 1
        run = asyncio.create_task(self._run_batch(batch))
        self._running.add(run)
        run.add_done_callback(self._running.discard)

    async def _run_batch(self, batch: list[_Task]) -> None:
        began_at = time.monotonic()
        try:
            await self._answer(batch)
        finally:
            self.free_threads += 1
            self._last = self._ended(batch, began_at)
            self._dispatch()

    def _ended(self, batch: list[_Task], began_at: float) -> _Batch:
        kind, size = batch[0].kind, sum(task.items for task in batch)
        behind = sum(task.items for task in self._queues.get(kind, ()))
        return _Batch(kind, size + behind, began_at, ended_at=time.monotonic())

    async def _answer(self, batch: list[_Task]) -> None:
        model_name = batch[0].servable.model_name
        queuing_latency, now = self._metrics.queuing_latency.labels(model_name), time.monotonic()
        for task in batch:
            queuing_latency.observe((now - task.queued_at) * 1e6)
        self._metrics.batch_size.labels(model_name).observe(sum(task.items for task in batch))
        answers: Sequence[_Arrays | Exception]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._pool, self._execute, batch)
        except Exception as error:  # whatever it was, the callers wait for it
            if isinstance(error, Fault) and len(batch) > 1:
                for task in batch:  # one of them is at fault, not all
                    await self._answer([task])
                return
            answers = [error] * len(batch)
        for task, answer in zip(batch, answers, strict=True):
            _settle(task.answer, answer)

    def _execute(self, batch: list[_Task]) -> list[_Arrays]:
        """On a thread: joins the inputs, runs the graph once, parts the outputs."""
        first = batch[0]
        started = time.perf_counter()
        if first.kind is None:
            answers: list[_Arrays] = [first.servable.run(first.signature, first.inputs)]
        else:
            joined = {name: self._pad(np.concatenate([task.inputs[name] for task in batch])) for name in first.inputs}
            answers = _split(first.servable.run(first.signature, joined), [task.items for task in batch])
        elapsed_us = (time.perf_counter() - started) * 1e6
        self._metrics.runtime_latency.labels(first.servable.model_name, "Predict", "TF2").observe(elapsed_us)
        return answers

    def _pad(self, array: np.ndarray) -> np.ndarray:
        """Repeats the first item up to the next allowed size, as TF Serving does."""
        size = next((allowed for allowed in self._options.allowed_sizes if allowed >= len(array)), len(array))
        missing = size - len(array)
        return np.concatenate([array, np.repeat(array[:1], missing, axis=0)]) if missing else array


def _split(outputs: _Arrays, counts: list[int]) -> list[_Arrays]:
    """Parts every output along the batch; what is left over is padding."""
    ends = list(itertools.accumulate(counts))
    parts = {name: np.split(array, ends)[: len(counts)] for name, array in outputs.items()}
    return [{name: parts[name][index] for name in parts} for index in range(len(counts))]


def _settle(future: asyncio.Future[_Arrays], answer: _Arrays | Exception) -> None:
    if future.done():  # the caller gave up meanwhile
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
