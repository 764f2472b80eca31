"""Load on the candidates: one client, or many in several processes."""

import asyncio
import multiprocessing
import multiprocessing.synchronize
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from benchmarks.serving.candidates import CLIPS, TIMEOUT_SEC, Call, librosa_over_rest
from benchmarks.serving.servers import Server, cpu_sec
from modules.audio.spec import AudioSpec
from serving.client.transport.grpc_direct import AsyncGrpcTransport
from serving.wire import predict_pb2 as wire

CLIENTS = 32
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
NEW_PROCESSES = 9


class Load(NamedTuple):
    """Measurements of a candidate.

    Attributes:
        latencies_sec: Latency of each request.
        per_sec: Requests per second of all clients.
        server_cpu_ms: CPU time of the server for each request.
    """

    latencies_sec: list[float]
    per_sec: float
    server_cpu_ms: float


class Pace(NamedTuple):
    """Speed of the in-process call at one batch size."""

    per_sec: float
    cpu_ms: float


def one_client(candidates: Mapping[str, Callable[[int], None]], *, requests: int) -> dict[str, list[float]]:
    """Return latencies of every candidate in seconds; the candidates alternate request by request."""
    latencies_sec: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(-5, requests):
        for name, send in candidates.items():
            start = time.perf_counter()
            send(number % CLIPS)
            if number >= 0:  # the first ones warm up
                latencies_sec[name].append(time.perf_counter() - start)
    return latencies_sec


def first_answers(server: Server, wav: bytes) -> list[float]:
    """Return the seconds that new processes take to import the client and to get an answer from a warm server."""
    durations_sec = []
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(wav)
        file.flush()
        code = f"from serving.client import Client; Client({server.grpc_address!r}).predict({file.name!r})"
        for _ in range(NEW_PROCESSES):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            durations_sec.append(time.perf_counter() - start)
    return durations_sec


class Crowd:
    """32 clients, divided among a process for each core that this one may use."""

    def __init__(self) -> None:
        self._processes = min(len(os.sched_getaffinity(0)), CLIENTS)
        context = multiprocessing.get_context("spawn")
        self._pool = context.Pool(self._processes, _set_barrier, (context.Barrier(self._processes),))

    def run(self, work: Callable[..., tuple[list[float], float]], server: Server, *arguments: object) -> Load:
        """Run ``work`` in every process; ``work`` returns latencies and the total time, in seconds."""
        before_sec = cpu_sec(server.pid)
        task = (CLIENTS // self._processes, *arguments)
        running = [self._pool.apply_async(work, task) for _ in range(self._processes)]
        parts = [part.get() for part in running]
        latencies_sec = [latency for part, _ in parts for latency in part]
        server_cpu_ms = 1e3 * (cpu_sec(server.pid) - before_sec) / len(latencies_sec)
        return Load(latencies_sec, sum(len(part) / seconds for part, seconds in parts), server_cpu_ms)

    def close(self) -> None:
        """End the processes."""
        self._pool.terminate()
        self._pool.join()


_BARRIERS: list[multiprocessing.synchronize.Barrier] = []


def _set_barrier(barrier: multiprocessing.synchronize.Barrier) -> None:
    """Set the barrier at which this process waits for the others."""
    _BARRIERS.append(barrier)


def grpc_load(clients: int, address: str, requests: list[bytes], seconds: float) -> tuple[list[float], float]:
    """Send gRPC requests from coroutines of a separate process, each as soon as the last one is answered."""
    return asyncio.run(_grpc_load(clients, address, requests, seconds))


async def _grpc_load(clients: int, address: str, requests: list[bytes], seconds: float) -> tuple[list[float], float]:
    messages = [wire.PredictRequest.FromString(request) for request in requests]
    transport = AsyncGrpcTransport(address, tls=False, ca_file=None)
    await transport.predict(messages[0], timeout_sec=TIMEOUT_SEC)
    _BARRIERS[0].wait()
    latencies_sec: list[float] = []
    started_sec = time.perf_counter()

    async def run_client(client: int) -> None:
        number = client
        while (start := time.perf_counter()) < started_sec + seconds:
            await transport.predict(messages[number % len(messages)], timeout_sec=TIMEOUT_SEC)
            latencies_sec.append(time.perf_counter() - start)
            number += clients

    await asyncio.gather(*map(run_client, range(clients)))
    elapsed_sec = time.perf_counter() - started_sec
    await transport.close()
    return latencies_sec, elapsed_sec


def librosa_load(
    clients: int, rest_url: str, spec: AudioSpec, wavs: list[bytes], seconds: float
) -> tuple[list[float], float]:
    """Send requests of (b) from threads of a separate process, each as soon as the last one is answered."""
    send = librosa_over_rest(rest_url, spec)
    send(wavs[0])
    _BARRIERS[0].wait()
    latencies_sec: list[float] = []
    started_sec = time.perf_counter()

    def run_client(client: int) -> None:
        number = client
        while (start := time.perf_counter()) < started_sec + seconds:
            send(wavs[number % len(wavs)])
            latencies_sec.append(time.perf_counter() - start)
            number += clients

    threads = [threading.Thread(target=run_client, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies_sec, time.perf_counter() - started_sec


def measure_paces(call: Call, requests: list[wire.PredictRequest]) -> dict[int, Pace]:
    """Return the speed of the in-process call by batch size."""
    paces = {}
    for size in BATCH_SIZES:
        batch = requests[:size]
        call(batch)
        durations_sec = []
        end, cpu_before_sec = time.perf_counter() + 1.0, time.process_time()
        while time.perf_counter() < end:
            start = time.perf_counter()
            call(batch)
            durations_sec.append(time.perf_counter() - start)
        cpu_ms = 1e3 * (time.process_time() - cpu_before_sec) / (size * len(durations_sec))
        paces[size] = Pace(size / statistics.median(durations_sec), cpu_ms)
    return paces
