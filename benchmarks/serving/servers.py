"""Servers of the benchmark, and the cores that they and the clients use."""

import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import grpc
import grpc.aio

import serving.server
from serving.client.transport.grpc_direct import PREDICT_METHOD


class Cores(NamedTuple):
    """Cores of the servers and of the clients."""

    servers: set[int]
    others: set[int]


class Server(NamedTuple):
    """A running server."""

    pid: int
    grpc_address: str
    rest_url: str


def divide_cores() -> Cores:
    """Return two equal halves of the cores; a single core is shared."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    return Cores(set(cores[:half]), set(cores[half : 2 * half])) if half else Cores(set(cores), set(cores))


@contextlib.contextmanager
def pinned_to(cores: set[int]) -> Iterator[None]:
    """Pin processes that are started in the context to ``cores``."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_sec(pid: int) -> float:
    """Return the user and system time of all threads of a process so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user_ticks, system_ticks = map(int, after_name[11:13])
    return (user_ticks + system_ticks) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serve(model_base_path: Path, cores: set[int], *more: str) -> Iterator[Server]:
    """Run ``ser serve`` on free ports."""
    command = [sys.executable, "-m", serving.server.__name__, "--port", "0", "--rest-api-port", "0"]
    with tempfile.TemporaryFile("w+") as log:
        with pinned_to(cores):
            process = subprocess.Popen([*command, "--model-base-path", str(model_base_path), *more], stderr=log)
        try:
            yield _wait_for_ports(process, log)
        finally:
            process.terminate()
            process.wait()


def _wait_for_ports(process: subprocess.Popen[bytes], log: IO[str]) -> Server:
    while True:
        log.seek(0)
        text = log.read()
        if ports := re.search(r"gRPC on port (\d+), REST and metrics on port (\d+)", text):
            return Server(process.pid, f"localhost:{ports[1]}", f"http://localhost:{ports[2]}")
        if process.poll() is not None:
            raise SystemExit(text)
        time.sleep(0.2)


@contextlib.contextmanager
def serve_nothing(cores: set[int]) -> Iterator[Server]:
    """Run the floor: a server that does nothing with its requests."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_nothing, args=(theirs,), daemon=True)
    with pinned_to(cores):
        process.start()
    try:
        yield Server(process.pid or 0, f"localhost:{ours.recv()}", "")
    finally:
        process.terminate()
        process.join()


def _serve_nothing(connection: multiprocessing.connection.Connection) -> None:
    async def predict(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return b""

    async def run() -> None:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        service, method = PREDICT_METHOD.strip("/").split("/")
        methods = {method: grpc.unary_unary_rpc_method_handler(predict)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, methods)])
        port = server.add_insecure_port("localhost:0")
        await server.start()
        connection.send(port)
        await server.wait_for_termination()

    asyncio.run(run())
