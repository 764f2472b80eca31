"""Serving against its alternatives: ``python -m benchmarks.serving --model-base-path DIR [--data DIR] [--seconds N]``.

Candidates, on the same clips, in one run and in turns:

* ``ser serve`` over gRPC, batching off and on, with sound (``serving_default``) and with features;
* (a) the same signature called in this process, one item at a time and at its best batch size;
* (b) features extracted by librosa in the client and sent as JSON over REST.

One client and 32 at once; the 32 are coroutines, of (b) threads, in as many processes as there are cores. They share
the machine with the server, as (a) shares it with nobody: the ratios are lower bounds.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from serving.predictions import ModelChoice
from serving.recordings import to_wav
from serving.transport.grpc_direct import AsyncGrpcTransport, GrpcTransport
from serving.wire import predict_pb2 as wire

CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "ravdess"
BATCHING_FILE = Path(__file__).resolve().parents[1] / "serving" / "config" / "batching.config"
CLIENTS = 32
CLIPS = 64
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 3
SIGNATURES = ("serving_default", "features")
TIMEOUT_SEC = 60.0
MODEL = ModelChoice(name="ser")


class Server(NamedTuple):
    """A running ``ser serve``."""

    grpc_address: str
    rest_url: str


class Load(NamedTuple):
    """What one candidate did: latencies of single requests in seconds, and requests per second of all clients."""

    latencies_sec: list[float]
    per_sec: float


# ---- the work -------------------------------------------------------------------------------------------------------


def read_clips(data: Path) -> list[bytes]:
    """16-bit WAV of clips spread over the speakers in ``data``."""
    files = sorted(file for file in data.rglob("*") if file.suffix.lower() in (".wav", ".flac"))
    if not files:
        raise SystemExit(f"{data} holds no WAV or FLAC files; name a folder of recordings with --data")
    return [to_wav(file) for file in files[:: max(1, len(files) // CLIPS)][:CLIPS]]


def features_of(wavs: list[bytes], model_dir: Path) -> list[tuple[np.ndarray, int]]:
    """Features and valid frames of every clip, by the model's own extractor."""
    from modules import decoding, frontend
    from modules.contract import load_contract

    spec, _ = load_contract(model_dir)
    decoded = [decoding.decode(wav) for wav in wavs]
    found = [frontend.features_of_waveform(clip.samples, clip.sample_rate_hz, spec) for clip in decoded]
    return [(features.numpy(), int(valid_frames)) for features, valid_frames in found]


def requests_of(wavs: list[bytes], features: list[tuple[np.ndarray, int]]) -> dict[str, list[wire.PredictRequest]]:
    """A gRPC request per clip, for each signature."""
    return {
        "serving_default": [MODEL.request("serving_default", [wav]) for wav in wavs],
        "features": [_features_request(*item) for item in features],
    }


def _features_request(features: np.ndarray, valid_frames: int) -> wire.PredictRequest:
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL.name, "features"
    tensor = request.inputs["features"]
    tensor.dtype, tensor.tensor_content = wire.DT_FLOAT, features.tobytes()
    for size in (1, *features.shape):
        tensor.tensor_shape.dim.add(size=size)
    frames = request.inputs["valid_frames"]
    frames.dtype = wire.DT_INT64
    frames.int64_val.append(valid_frames)
    frames.tensor_shape.dim.add(size=1)
    return request


def librosa_over_rest(rest_url: str) -> Callable[[bytes], None]:
    """(b): one request the old way."""
    import io

    import httpx
    import librosa

    from benchmarks.extraction import five_calls
    from modules.audio_spec import AudioSpec

    spec = AudioSpec()
    http = httpx.Client(base_url=rest_url, timeout=TIMEOUT_SEC)

    def ask(wav: bytes) -> None:
        waveform, _ = librosa.load(
            io.BytesIO(wav), sr=spec.sample_rate_hz, offset=spec.window_offset_sec, duration=spec.window_sec
        )
        item = {"features": five_calls(waveform, spec).tolist(), "valid_frames": 1 + len(waveform) // spec.hop_samples}
        http.post("/v1/models/ser:predict", json={"signature_name": "features", "instances": [item]}).raise_for_status()

    return ask


# ---- one client -----------------------------------------------------------------------------------------------------


def in_process(model_dir: Path) -> dict[str, Callable[[list[wire.PredictRequest]], None]]:
    """(a): each signature, called with a batch of what its requests hold."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(model_dir))

    def call(signature: str, requests: list[wire.PredictRequest]) -> None:
        inputs = [{name: _array(tensor) for name, tensor in request.inputs.items()} for request in requests]
        joined = {name: tf.constant(np.concatenate([item[name] for item in inputs])) for name in inputs[0]}
        for tensor in loaded.signatures[signature](**joined).values():
            tensor.numpy()

    return {name: lambda requests, name=name: call(name, requests) for name in SIGNATURES}


def _array(tensor: wire.TensorProto) -> np.ndarray:
    if tensor.dtype == wire.DT_STRING:
        return np.array(tensor.string_val, dtype=object)
    if tensor.dtype == wire.DT_INT64:
        return np.array(tensor.int64_val)
    return np.frombuffer(tensor.tensor_content, np.float32).reshape([dim.size for dim in tensor.tensor_shape.dim])


def one_client(candidates: Mapping[str, Callable[[int], None]], *, requests: int) -> dict[str, list[float]]:
    """Latencies of every candidate in seconds; they take turns request by request."""
    latencies_sec: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(-5, requests):
        for name, ask in candidates.items():
            start = time.perf_counter()
            ask(number % CLIPS)
            if number >= 0:  # the first ones warm up
                latencies_sec[name].append(time.perf_counter() - start)
    return latencies_sec


# ---- many clients ---------------------------------------------------------------------------------------------------


def many_clients(work: Callable[..., Load], *arguments: object) -> Load:
    """Runs ``work`` in a process per core, with the clients divided among them."""
    processes = min(os.cpu_count() or 1, CLIENTS)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        barrier_sec = time.time() + 12.0  # long enough for every process to have imported what it needs
        tasks = [pool.apply_async(work, (CLIENTS // processes, barrier_sec, *arguments)) for _ in range(processes)]
        parts = [task.get() for task in tasks]
    return Load([latency for part in parts for latency in part.latencies_sec], sum(part.per_sec for part in parts))


def grpc_load(clients: int, start_at: float, address: str, requests: list[bytes], seconds: float) -> Load:
    """In a process of its own: coroutines that ask over gRPC as fast as they are answered."""
    return asyncio.run(_grpc_load(clients, start_at, address, requests, seconds))


async def _grpc_load(clients: int, start_at: float, address: str, requests: list[bytes], seconds: float) -> Load:
    messages = [wire.PredictRequest.FromString(request) for request in requests]
    transport = AsyncGrpcTransport(address, tls=False, ca_file=None)
    await transport.predict(messages[0], timeout_sec=TIMEOUT_SEC)
    await asyncio.sleep(max(0.0, start_at - time.time()))
    latencies_sec: list[float] = []
    end = time.perf_counter() + seconds

    async def ask(client: int) -> None:
        number = client
        while (start := time.perf_counter()) < end:
            await transport.predict(messages[number % len(messages)], timeout_sec=TIMEOUT_SEC)
            latencies_sec.append(time.perf_counter() - start)
            number += clients

    await asyncio.gather(*map(ask, range(clients)))
    await transport.close()
    return Load(latencies_sec, len(latencies_sec) / seconds)


def librosa_load(clients: int, start_at: float, rest_url: str, wavs: list[bytes], seconds: float) -> Load:
    """In a process of its own: threads that ask the old way as fast as they are answered."""
    ask = librosa_over_rest(rest_url)
    ask(wavs[0])
    latencies_sec: list[float] = []

    def work(client: int) -> None:
        number = client
        time.sleep(max(0.0, start_at - time.time()))
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            ask(wavs[number % len(wavs)])
            latencies_sec.append(time.perf_counter() - start)
            number += clients

    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(latencies_sec, len(latencies_sec) / seconds)


def best_batch(
    call: Callable[[list[wire.PredictRequest]], None], requests: list[wire.PredictRequest]
) -> dict[int, float]:
    """Clips per second of the in-process call, by batch size."""
    per_sec = {}
    for size in BATCH_SIZES:
        batch = requests[:size]
        call(batch)
        durations_sec = []
        end = time.perf_counter() + 1.0
        while time.perf_counter() < end:
            start = time.perf_counter()
            call(batch)
            durations_sec.append(time.perf_counter() - start)
        per_sec[size] = size / statistics.median(durations_sec)
    return per_sec


# ---- the run --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serve(model_base_path: Path, *more: str) -> Iterator[Server]:
    """``ser serve`` on free ports."""
    command = [
        sys.executable,
        "-c",
        "from cli.main import main; main()",
        "serve",
        "--port",
        "0",
        "--rest-api-port",
        "0",
    ]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*command, "--model-base-path", str(model_base_path), *more], stderr=log)
        try:
            yield _when_up(process, log)
        finally:
            process.terminate()
            process.wait()


def _when_up(process: subprocess.Popen[bytes], log: "tempfile._TemporaryFileWrapper[str]") -> Server:
    while True:
        log.seek(0)
        text = log.read()
        if found := re.search(r"gRPC on port (\d+), REST and metrics on port (\d+)", text):
            return Server(f"localhost:{found[1]}", f"http://localhost:{found[2]}")
        if process.poll() is not None:
            raise SystemExit(text)
        time.sleep(0.2)


def newest_version(model_base_path: Path) -> Path:
    """Folder of the version that the server answers with."""
    versions = [folder for folder in model_base_path.iterdir() if folder.name.isdigit()]
    if not versions:
        raise SystemExit(f"{model_base_path} holds no version; run the pipeline first")
    return max(versions, key=lambda folder: int(folder.name))


def measure(model_base_path: Path, data: Path, seconds: float) -> dict[str, object]:
    """All numbers, by candidate."""
    wavs = read_clips(data)
    model_dir = newest_version(model_base_path)
    requests = requests_of(wavs, features_of(wavs, model_dir))
    direct = in_process(model_dir)
    with serve(model_base_path) as off, serve(model_base_path, "--batching-parameters-file", str(BATCHING_FILE)) as on:
        single = _measure_one_client(direct, requests, wavs, off, on)
        sweeps: dict[str, list[dict[int, float]]] = {name: [] for name in SIGNATURES}
        loads: dict[str, list[Load]] = {}
        for _ in range(ROUNDS):
            for mode, server in (("off", off), ("on", on)):
                for name in SIGNATURES:
                    packed = [request.SerializeToString() for request in requests[name]]
                    load = many_clients(grpc_load, server.grpc_address, packed, seconds)
                    loads.setdefault(f"{name}, batching {mode}", []).append(load)
            loads.setdefault("(b) librosa and REST", []).append(many_clients(librosa_load, on.rest_url, wavs, seconds))
            for name in SIGNATURES:
                sweeps[name].append(best_batch(direct[name], requests[name]))
    batched = {
        name: {size: statistics.median(sweep[size] for sweep in found) for size in BATCH_SIZES}
        for name, found in sweeps.items()
    }
    many = {name: _summary([sec for load in found for sec in load.latencies_sec]) for name, found in loads.items()}
    for name, found in loads.items():
        many[name]["per_sec"] = statistics.median(load.per_sec for load in found)
    return {"one client": single, "many clients": many, "in process, clips per second": batched}


def _measure_one_client(
    direct: Mapping[str, Callable[[list[wire.PredictRequest]], None]],
    requests: Mapping[str, list[wire.PredictRequest]],
    wavs: list[bytes],
    off: Server,
    on: Server,
) -> dict[str, dict[str, float]]:
    old_way = librosa_over_rest(on.rest_url)
    candidates: dict[str, Callable[[int], None]] = {"(b) librosa and REST": lambda number: old_way(wavs[number])}
    for name in SIGNATURES:
        asked = requests[name]
        candidates[f"(a) {name} in process"] = lambda number, name=name, asked=asked: direct[name]([asked[number]])
        for mode, server in (("off", off), ("on", on)):
            transport = GrpcTransport(server.grpc_address, tls=False, ca_file=None)
            candidates[f"{name}, batching {mode}"] = lambda number, transport=transport, asked=asked: transport.predict(
                asked[number], timeout_sec=TIMEOUT_SEC
            )
    return {name: _summary(latencies_sec) for name, latencies_sec in one_client(candidates, requests=200).items()}


def _summary(latencies_sec: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(latencies_sec, [50, 99]) * 1e3
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def goals(found: dict) -> dict[str, tuple[float, float]]:
    """Measured value and bound of each goal; above 1, and the goal is missed or met as its name says."""
    single, many = found["one client"], found["many clients"]
    best = {name: max(found["in process, clips per second"][name].values()) for name in SIGNATURES}
    checks = {}
    for name in SIGNATURES:
        allowed_ms = 1.3 * single[f"(a) {name} in process"]["p50_ms"] + 2
        checks[f"{name}: one client's p50, at most 1.3 x (a) + 2 ms"] = (
            single[f"{name}, batching on"]["p50_ms"],
            allowed_ms,
        )
        checks[f"{name}: 32 clients' throughput, at least 0.8 x (a) at its best batch"] = (
            many[f"{name}, batching on"]["per_sec"] / best[name],
            0.8,
        )
    old_per_sec = many["(b) librosa and REST"]["per_sec"]
    checks["serving_default: 32 clients' throughput, at least 5 x (b)"] = (
        many["serving_default, batching on"]["per_sec"] / old_per_sec,
        5.0,
    )
    return checks


def show(found: dict) -> None:
    """Prints the tables."""
    console = Console(width=120)
    for title in ("one client", "many clients"):
        table = Table("candidate", "p50 (ms)", "p99 (ms)", "per second", title=title)
        for name, row in found[title].items():
            per_sec = f"{row['per_sec']:.0f}" if "per_sec" in row else ""
            table.add_row(name, f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", per_sec)
        console.print(table)
    for name, per_sec in found["in process, clips per second"].items():
        console.print(f"(a) {name}, clips per second by batch size:", {size: round(n) for size, n in per_sec.items()})
    for name, (value, bound) in goals(found).items():
        met = value <= bound if "at most" in name else value >= bound
        console.print(f"{'met   ' if met else 'MISSED'} {name}: {value:.2f} against {bound:.2f}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-base-path", type=Path, default=Path("output/serving"))
    parser.add_argument("--data", type=Path, default=CORPORA, help="folder of recordings")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each load")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    found = measure(arguments.model_base_path, arguments.data, arguments.seconds)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
