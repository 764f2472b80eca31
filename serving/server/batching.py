"""Batching across requests by the rules of TF Serving's BatchingSession and BasicBatchScheduler."""

import asyncio
import dataclasses
import itertools
import os
import time
from collections import deque
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from serving.server.errors import StatusError, invalid
from serving.server.metrics import Metrics
from serving.server.options import BatchingOptions
from serving.server.servable import Servable

_Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """Request in a queue."""

    inputs: _Arrays
    items: int
    answer: asyncio.Future[_Arrays]
    queued_at: float


class _Queue:
    """Batches of requests for one signature of one version; the last one is open for further requests."""

    def __init__(self, servable: Servable, signature: str, options: BatchingOptions) -> None:
        self.servable = servable
        self.signature = signature
        self._options = options
        self._batches: deque[list[_Task]] = deque()

    @property
    def items(self) -> int:
        return sum(map(_items_of, self._batches))

    def add(self, task: _Task) -> None:
        """Put a request into the open batch, or into a new one where it does not fit.

        Raises:
            StatusError: INVALID_ARGUMENT when it is larger than a batch, UNAVAILABLE when the queue is full.
        """
        options = self._options
        if task.items > options.max_batch_size:
            raise invalid(f"the request has {task.items} items; a batch has at most {options.max_batch_size}")
        if not self._batches or _items_of(self._batches[-1]) + task.items > options.max_batch_size:
            if len(self._batches) >= options.max_enqueued_batches:
                raise StatusError(
                    grpc.StatusCode.UNAVAILABLE, f"the queue is full ({len(self._batches)} batches); try again later"
                )
            self._batches.append([])
        self._batches[-1].append(task)

    def discard(self, task: _Task) -> None:
        """Take a request out, if it still waits."""
        for batch in self._batches:
            if task in batch:
                batch.remove(task)
        self._batches = deque(filter(None, self._batches))

    def wait_sec(self) -> float:
        """Return how long the first batch still waits for further requests."""
        if len(self._batches) > 1 or _items_of(self._batches[0]) >= self._options.max_batch_size:
            return 0.0
        return self._batches[0][0].queued_at + self._options.timeout_sec - time.monotonic()

    def take(self) -> list[_Task]:
        return self._batches.popleft()


class BatchScheduler:
    """Scheduler that runs requests on a bounded number of threads, in batches where batching is on.

    As in TF Serving, a batch holds requests for one signature of one version. It starts when a thread is free and it
    is full or its first request has waited ``timeout_sec``; the queues take turns. All requests of a batch get one
    status: the content of one can fail the others, and so can inputs of different shapes.

    Only one event loop accesses the queues; the threads only run the graph.

    Args:
        options: Batching parameters; ``None`` runs every request alone.
        metrics: Metrics of the server.

    Attributes:
        free_threads: Threads without a batch.
    """

    def __init__(self, options: BatchingOptions | None, metrics: Metrics) -> None:
        self._options = options
        self._metrics = metrics
        self._queues: dict[Hashable, _Queue] = {}
        self.free_threads = options.threads if options else len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self.free_threads, thread_name_prefix="batch")
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def queued_items(self) -> int:
        """Items that wait for a thread."""
        return sum(queue.items for queue in self._queues.values())

    async def run(self, servable: Servable, signature: str, inputs: _Arrays) -> _Arrays:
        """Return the outputs for ``inputs``.

        A cancelled request leaves the queue, so a disconnected caller or a passed deadline costs no computation.

        Args:
            servable: The version to run.
            signature: Name of the signature.
            inputs: Input arrays that have passed :meth:`Servable.check`.

        Raises:
            StatusError: The queue is full, or the run failed.
        """
        if self._options is None:
            return await self._on_thread(servable, signature, inputs)
        answer = asyncio.get_running_loop().create_future()
        task = _Task(inputs, _items(inputs), answer, time.monotonic())
        queue = self._queues.setdefault((id(servable), signature), _Queue(servable, signature, self._options))
        queue.add(task)
        self._dispatch()
        try:
            return await answer
        except asyncio.CancelledError:
            queue.discard(task)
            raise

    def close(self) -> None:
        """Stop the threads; the queues must be empty."""
        self._pool.shutdown(wait=False)

    def _dispatch(self) -> None:
        """Start the batches that are due, and schedule the next call."""
        if self._timer:
            self._timer.cancel()
        while self.free_threads and self._queues:
            self._queues = {key: queue for key, queue in self._queues.items() if queue.items}
            waits_sec = {key: queue.wait_sec() for key, queue in self._queues.items()}
            key = next((key for key, wait_sec in waits_sec.items() if wait_sec <= 0), None)
            if key is None:
                if waits_sec:
                    self._timer = asyncio.get_running_loop().call_later(min(waits_sec.values()), self._dispatch)
                return
            queue = self._queues.pop(key)
            self._start(queue)
            self._queues[key] = queue  # at the end: the other queues come first

    def _start(self, queue: _Queue) -> None:
        self.free_threads -= 1
        run = asyncio.create_task(self._run_batch(queue.servable, queue.signature, queue.take()))
        self._running.add(run)
        run.add_done_callback(self._running.discard)

    async def _run_batch(self, servable: Servable, signature: str, batch: list[_Task]) -> None:
        self._observe(servable, batch)
        answers: list[_Arrays | Exception]
        try:
            merged = self._merge(batch)
            outputs = await self._on_thread(servable, signature, merged)
            answers = [*_split(outputs, merged, batch)]
        except Exception as error:  # TensorFlow and NumPy raise any kind; each caller gets it as the answer
            answers = [error] * len(batch)
        for task, answer in zip(batch, answers, strict=True):
            _settle(task.answer, answer)
        self.free_threads += 1
        self._dispatch()

    def _observe(self, servable: Servable, batch: list[_Task]) -> None:
        queuing_latency, now = self._metrics.queuing_latency.labels(servable.model_name), time.monotonic()
        for task in batch:
            queuing_latency.observe((now - task.queued_at) * 1e6)
        self._metrics.batch_size.labels(servable.model_name).observe(_items_of(batch))

    async def _on_thread(self, servable: Servable, signature: str, inputs: _Arrays) -> _Arrays:
        started = time.perf_counter()
        outputs = await asyncio.get_running_loop().run_in_executor(self._pool, servable.run, signature, inputs)
        elapsed_us = (time.perf_counter() - started) * 1e6
        self._metrics.runtime_latency.labels(servable.model_name, "Predict", "TF2").observe(elapsed_us)
        return outputs

    def _merge(self, batch: list[_Task]) -> _Arrays:
        """Join the inputs and repeat the last request's first item up to the next allowed size."""
        merged = {}
        for name in batch[0].inputs:
            arrays = [task.inputs[name] for task in batch]
            if len({array.shape[1:] for array in arrays}) > 1:
                raise StatusError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"input {name!r} has different shapes in requests of one batch; only the number of items may "
                    "differ. Send inputs of one shape, or all of them in one request.",
                )
            padding = [arrays[-1][:1]] * (self._padded_size(_items_of(batch)) - _items_of(batch))
            merged[name] = np.concatenate([*arrays, *padding])
        return merged

    def _padded_size(self, items: int) -> int:
        allowed = self._options.allowed_sizes if self._options else ()
        return next((size for size in allowed if size >= items), items)


def _split(outputs: _Arrays, merged: _Arrays, batch: list[_Task]) -> list[_Arrays]:
    """Split every output along the batch, and drop the padding."""
    for name, array in outputs.items():
        if array.shape[:1] != (_items(merged),):
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"output {name!r} has shape {array.shape}; its first dimension must be the batch's, {_items(merged)}",
            )
    ends = list(itertools.accumulate(task.items for task in batch))
    parts = {name: np.split(array, ends) for name, array in outputs.items()}
    return [{name: parts[name][index] for name in parts} for index in range(len(batch))]


def _items(inputs: _Arrays) -> int:
    return len(next(iter(inputs.values())))


def _items_of(batch: list[_Task]) -> int:
    return sum(task.items for task in batch)


def _settle(future: asyncio.Future[_Arrays], answer: _Arrays | Exception) -> None:
    if future.done():  # the caller has given up
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
