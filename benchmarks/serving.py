"""Serving against its alternatives: ``python -m benchmarks.serving --model-base-path DIR [--data DIR] [--seconds N]``.

Candidates, on the same clips, in one run and in turns:

* ``ser serve`` over gRPC, batching off and on, with sound (``serving_default``) and with features;
* (a) the same signature called in this process, one item at a time and at its best batch size;
* (b) features extracted by librosa in the client and sent as JSON over REST;
* the floor: a grpc.aio server that takes the same requests and does nothing with them. No server in Python gets below.

One client and 32 at once; the 32 are coroutines, of (b) threads, in a process for each core they have.

The servers have one half of the cores, clients and (a) the other, as many: neither takes the time of the other, and
the server is compared with what the model does on the cores that the server has. Next to the throughput stands the CPU
time of the server's process for each request, which depends less on what else the machine does.
"""

import asyncio
import contextlib
import functools
import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.synchronize
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import grpc
import grpc.aio
import numpy as np

from benchmarks import command, document
from modules.audio.spec import AudioSpec
from serving.client.predictions import ModelChoice
from serving.client.recordings import to_wav
from serving.client.transport.grpc_direct import PREDICT_METHOD, AsyncGrpcTransport, GrpcTransport
from serving.wire import predict_pb2 as wire

BATCHING_FILE = Path(__file__).resolve().parents[1] / "serving" / "config" / "batching.config"
CLIENTS = 32
CLIPS = 64
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 5
SIGNATURES = ("serving_default", "features")
TIMEOUT_SEC = 60.0
MODEL = ModelChoice(name="ser")
OLD_WAY = "(b) librosa and REST"
NEW_PROCESSES = 9
START_GOAL = "a new process imports the client and gets an answer: seconds, at most"

_T = TypeVar("_T")


class Cores(NamedTuple):
    """Cores of the servers and of the clients."""

    servers: set[int]
    others: set[int]


class Server(NamedTuple):
    """A running server."""

    pid: int
    grpc_address: str
    rest_url: str


class Load(NamedTuple):
    """Measurements of a candidate: latencies of single requests, requests per second of all clients, sec each."""

    latencies_sec: list[float]
    per_sec: float
    server_cpu_ms: float


class Pace(NamedTuple):
    """Speed of the in-process call at one batch size."""

    per_sec: float
    cpu_ms: float


class Round(NamedTuple):
    """All candidates once, one after the other: what many clients got, and (a) by signature and batch size."""

    loads: dict[str, Load]
    paces: dict[str, dict[int, Pace]]

    def share(self, signature: str) -> float:
        """Return the server's throughput over that of (a) at its best batch size."""
        best_per_sec = max(pace.per_sec for pace in self.paces[signature].values())
        return self.loads[f"{signature}, batching on"].per_sec / best_per_sec

    def gain(self) -> float:
        """Return the server's throughput over that of (b)."""
        return self.loads["serving_default, batching on"].per_sec / self.loads[OLD_WAY].per_sec


class Goal(NamedTuple):
    """The value reached, the median over rounds if there are several, and the bound."""

    reached: float
    bound: float
    rounds: tuple[float, ...] = ()

    @classmethod
    def of_rounds(cls, ratios: Iterable[float], bound: float) -> "Goal":
        """Return the goal with the median of ``ratios``, one for each round."""
        found = tuple(ratios)
        return cls(statistics.median(found), bound, found)


# ---- the machine ----------------------------------------------------------------------------------------------------


def divide_cores() -> Cores:
    """Two equal halves; a single core is shared."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    return Cores(set(cores[:half]), set(cores[half : 2 * half])) if half else Cores(set(cores), set(cores))


@contextlib.contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Keep processes that are started in the context on ``cores``."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_sec(pid: int) -> float:
    """User and system time that all threads of a process have taken so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user_ticks, system_ticks = map(int, after_name[11:13])
    return (user_ticks + system_ticks) / os.sysconf("SC_CLK_TCK")


# ---- the work -------------------------------------------------------------------------------------------------------


def read_clips(data: Path) -> list[bytes]:
    """16-bit WAV of clips spread over the speakers in ``data``."""
    files = sorted(file for file in data.rglob("*") if file.suffix.lower() in (".wav", ".flac"))
    if not files:
        raise SystemExit(f"{data} holds no WAV or FLAC files; name a folder of recordings with --data")
    return [to_wav(file) for file in files[:: max(1, len(files) // CLIPS)][:CLIPS]]


def features_of(wavs: list[bytes], spec: AudioSpec) -> list[tuple[np.ndarray, int]]:
    """Features and valid frames of every clip, by the model's own extractor."""
    from modules.audio import decoding, frontend

    decoded = [decoding.decode(wav) for wav in wavs]
    found = [frontend.features_of_waveform(clip.samples, clip.sample_rate_hz, spec) for clip in decoded]
    return [(features.numpy(), int(valid_frames)) for features, valid_frames in found]


def requests_of(wavs: list[bytes], features: list[tuple[np.ndarray, int]]) -> dict[str, list[wire.PredictRequest]]:
    """Return a gRPC request per clip, for each signature."""
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


def librosa_over_rest(rest_url: str, spec: AudioSpec) -> Callable[[bytes], None]:
    """(b): one request the old way, with the features that the model takes."""
    import io

    import httpx
    import librosa

    http = httpx.Client(base_url=rest_url, timeout=TIMEOUT_SEC)

    def ask(wav: bytes) -> None:
        waveform, _ = librosa.load(
            io.BytesIO(wav), sr=spec.sample_rate_hz, offset=spec.window_offset_sec, duration=spec.window_sec
        )
        item = {"features": _by_librosa(waveform, spec).tolist(), "valid_frames": 1 + len(waveform) // spec.hop_samples}
        http.post("/v1/models/ser:predict", json={"signature_name": "features", "instances": [item]}).raise_for_status()

    return ask


def _by_librosa(waveform: np.ndarray, spec: AudioSpec) -> np.ndarray:
    import librosa

    from benchmarks.extraction import five_calls

    if spec.feature_family == "utterance":
        return five_calls(waveform, spec)
    mel_power = librosa.feature.melspectrogram(
        y=waveform,
        sr=spec.sample_rate_hz,
        n_fft=spec.n_fft,
        hop_length=spec.hop_samples,
        n_mels=spec.mel_bands,
    )
    logmel = librosa.power_to_db(mel_power).T
    return librosa.util.fix_length(logmel, size=spec.window_frames, axis=0)


# ---- one client -----------------------------------------------------------------------------------------------------


def in_process(model_dir: Path) -> dict[str, Callable[[list[wire.PredictRequest]], None]]:
    """Return (a): a function for each signature, called with a batch of the contents of its requests."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(model_dir))

    def call(signature: str, requests: list[wire.PredictRequest]) -> None:
        inputs = [{name: _array(tensor) for name, tensor in request.inputs.items()} for request in requests]
        joined = {name: tf.constant(np.concatenate([item[name] for item in inputs])) for name in inputs[0]}
        for tensor in loaded.signatures[signature](**joined).values():
            tensor.numpy()

    return {name: functools.partial(call, name) for name in SIGNATURES}


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


def first_answers(server: Server, wav: bytes) -> list[float]:
    """Seconds that new processes take to import the client and to get an answer from a server that is warm."""
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


# ---- many clients ---------------------------------------------------------------------------------------------------


class Crowd:
    """32 clients, divided among a process for each core that this one may use."""

    def __init__(self) -> None:
        self._processes = min(len(os.sched_getaffinity(0)), CLIENTS)
        context = multiprocessing.get_context("spawn")
        self._pool = context.Pool(self._processes, _meet_at, (context.Barrier(self._processes),))

    def ask(self, work: Callable[..., tuple[list[float], float]], server: Server, *arguments: object) -> Load:
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


def _meet_at(barrier: multiprocessing.synchronize.Barrier) -> None:
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
    began = time.perf_counter()

    async def ask(client: int) -> None:
        number = client
        while (start := time.perf_counter()) < began + seconds:
            await transport.predict(messages[number % len(messages)], timeout_sec=TIMEOUT_SEC)
            latencies_sec.append(time.perf_counter() - start)
            number += clients

    await asyncio.gather(*map(ask, range(clients)))
    took_sec = time.perf_counter() - began
    await transport.close()
    return latencies_sec, took_sec


def librosa_load(
    clients: int, rest_url: str, spec: AudioSpec, wavs: list[bytes], seconds: float
) -> tuple[list[float], float]:
    """Send requests of (b) from threads of a separate process, each as soon as the last one is answered."""
    ask = librosa_over_rest(rest_url, spec)
    ask(wavs[0])
    _BARRIERS[0].wait()
    latencies_sec: list[float] = []
    began = time.perf_counter()

    def work(client: int) -> None:
        number = client
        while (start := time.perf_counter()) < began + seconds:
            ask(wavs[number % len(wavs)])
            latencies_sec.append(time.perf_counter() - start)
            number += clients

    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies_sec, time.perf_counter() - began


def paces(call: Callable[[list[wire.PredictRequest]], None], requests: list[wire.PredictRequest]) -> dict[int, Pace]:
    """How the in-process call does, by batch size."""
    found = {}
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
        found[size] = Pace(size / statistics.median(durations_sec), cpu_ms)
    return found


# ---- servers --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serve(model_base_path: Path, cores: set[int], *more: str) -> Iterator[Server]:
    """``ser serve`` on free ports."""
    ser = [sys.executable, "-c", "from cli.main import main; main()", "serve", "--port", "0", "--rest-api-port", "0"]
    with tempfile.TemporaryFile("w+") as log:
        with on(cores):
            process = subprocess.Popen([*ser, "--model-base-path", str(model_base_path), *more], stderr=log)
        try:
            yield _when_up(process, log)
        finally:
            process.terminate()
            process.wait()


def _when_up(process: subprocess.Popen[bytes], log: IO[str]) -> Server:
    while True:
        log.seek(0)
        text = log.read()
        if found := re.search(r"gRPC on port (\d+), REST and metrics on port (\d+)", text):
            return Server(process.pid, f"localhost:{found[1]}", f"http://localhost:{found[2]}")
        if process.poll() is not None:
            raise SystemExit(text)
        time.sleep(0.2)


@contextlib.contextmanager
def serve_nothing(cores: set[int]) -> Iterator[Server]:
    """Run the floor: a server that does nothing with its requests."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_nothing, args=(theirs,), daemon=True)
    with on(cores):
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


# ---- the run --------------------------------------------------------------------------------------------------------


def newest_version(model_base_path: Path) -> Path:
    """Folder of the version that the server answers with."""
    versions = [folder for folder in model_base_path.iterdir() if folder.name.isdigit()]
    if not versions:
        raise SystemExit(f"{model_base_path} holds no version; run the pipeline first")
    return max(versions, key=lambda folder: int(folder.name))


def measure(model_base_path: Path, data: Path, seconds: float) -> dict[str, dict]:
    """All numbers, by candidate."""
    from modules.export.contract import load_contract

    cores = divide_cores()
    os.sched_setaffinity(0, cores.others)  # before TensorFlow counts them
    wavs = read_clips(data)
    model_dir = newest_version(model_base_path)
    spec = load_contract(model_dir).audio_spec
    requests = requests_of(wavs, features_of(wavs, spec))
    direct = in_process(model_dir)
    with contextlib.ExitStack() as stack:
        servers = {
            "batching off": stack.enter_context(serve(model_base_path, cores.servers)),
            "batching on": stack.enter_context(
                serve(model_base_path, cores.servers, "--batching-parameters-file", str(BATCHING_FILE))
            ),
            "floor": stack.enter_context(serve_nothing(cores.servers)),
        }
        crowd = Crowd()
        stack.callback(crowd.close)
        started = first_answers(servers["batching on"], wavs[0])
        single = _measure_one_client(direct, requests, spec, wavs, servers)
        rounds = []
        for number in range(1, ROUNDS + 1):
            print(f"Round    {number}/{ROUNDS}", file=sys.stderr, flush=True)
            loads = _measure_many_clients(crowd, requests, spec, wavs, servers, seconds)
            rounds.append(Round(loads, {name: paces(direct[name], requests[name]) for name in SIGNATURES}))
    return summary(statistics.median(started), single, rounds)


def summary(started_sec: float, single: dict[str, dict[str, float]], rounds: Sequence[Round]) -> dict[str, dict]:
    """Medians over the rounds; of what is compared, the ratios of every round."""
    return {
        "new process": {"median_sec": started_sec},
        "one client": single,
        "many clients": {name: _loads_summary([each.loads[name] for each in rounds]) for name in rounds[0].loads},
        "in process": {name: _sweeps_summary([each.paces[name] for each in rounds]) for name in SIGNATURES},
        "shares": {name: [each.share(name) for each in rounds] for name in SIGNATURES},
        "gains": {"serving_default": [each.gain() for each in rounds]},
    }


def _measure_one_client(
    direct: Mapping[str, Callable[[list[wire.PredictRequest]], None]],
    requests: Mapping[str, list[wire.PredictRequest]],
    spec: AudioSpec,
    wavs: list[bytes],
    servers: Mapping[str, Server],
) -> dict[str, dict[str, float]]:
    old_way = librosa_over_rest(servers["batching on"].rest_url, spec)
    candidates = {OLD_WAY: _by_number(old_way, wavs)}
    for name in SIGNATURES:
        candidates[f"(a) {name} in process"] = _by_number(direct[name], [[request] for request in requests[name]])
        for mode, server in servers.items():
            transport = GrpcTransport(server.grpc_address, tls=False, ca_file=None)
            predict = functools.partial(transport.predict, timeout_sec=TIMEOUT_SEC)
            candidates[f"{name}, {mode}"] = _by_number(predict, requests[name])
    return {name: _latency(latencies_sec) for name, latencies_sec in one_client(candidates, requests=200).items()}


def _by_number(ask: Callable[[_T], object], items: Sequence[_T]) -> Callable[[int], None]:
    def ask_about(number: int) -> None:
        ask(items[number])

    return ask_about


def _measure_many_clients(
    crowd: Crowd,
    requests: Mapping[str, list[wire.PredictRequest]],
    spec: AudioSpec,
    wavs: list[bytes],
    servers: Mapping[str, Server],
    seconds: float,
) -> dict[str, Load]:
    loads = {}
    for name in SIGNATURES:
        packed = [request.SerializeToString() for request in requests[name]]
        for mode, server in servers.items():
            loads[f"{name}, {mode}"] = crowd.ask(grpc_load, server, server.grpc_address, packed, seconds)
    server = servers["batching on"]
    loads[OLD_WAY] = crowd.ask(librosa_load, server, server.rest_url, spec, wavs, seconds)
    return loads


def _latency(latencies_sec: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(latencies_sec, [50, 99]) * 1e3
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def _loads_summary(loads: list[Load]) -> dict[str, float]:
    return _latency([sec for load in loads for sec in load.latencies_sec]) | {
        "per_sec": statistics.median(load.per_sec for load in loads),
        "server_cpu_ms": statistics.median(load.server_cpu_ms for load in loads),
    }


def _sweeps_summary(sweeps: list[dict[int, Pace]]) -> dict[int, dict[str, float]]:
    return {
        size: {
            "per_sec": statistics.median(sweep[size].per_sec for sweep in sweeps),
            "cpu_ms": statistics.median(sweep[size].cpu_ms for sweep in sweeps),
        }
        for size in BATCH_SIZES
    }


def goals(found: dict[str, dict]) -> dict[str, Goal]:
    """Return each goal; its name states on which side of the bound it is met."""
    single = found["one client"]
    checks = {}
    for name in SIGNATURES:
        allowed_ms = 1.3 * single[f"(a) {name} in process"]["p50_ms"] + 2
        p50_ms = single[f"{name}, batching on"]["p50_ms"]
        checks[f"{name}: one client's p50, at most 1.3 x (a) + 2 ms"] = Goal(p50_ms, allowed_ms)
        share = Goal.of_rounds(found["shares"][name], 0.8)
        checks[f"{name}: 32 clients' throughput, at least 0.8 x (a) at its best batch"] = share
    gain = Goal.of_rounds(found["gains"]["serving_default"], 5.0)
    checks["serving_default: 32 clients' throughput, at least 5 x (b)"] = gain
    return checks | {START_GOAL: Goal(found["new process"]["median_sec"], 1.5)}


def shares_by_cpu(found: dict[str, dict], name: str) -> tuple[float, float]:
    """CPU time of a clip in (a) at its best over the server's for a request, and the most that grpc.aio allows: the
    same, had the server added no more to (a) than the floor.
    """
    model_ms = min(pace["cpu_ms"] for pace in found["in process"][name].values())
    many = found["many clients"]
    floor_ms = many[f"{name}, floor"]["server_cpu_ms"]
    return model_ms / many[f"{name}, batching on"]["server_cpu_ms"], model_ms / (model_ms + floor_ms)


def report(found: dict[str, dict]) -> str:
    """Return the tables of docs/benchmarks/serving.md: the measurements, and the goals with the values reached."""
    old_way = f"(b): {found['many clients'][OLD_WAY]['per_sec']:.0f} requests per second with 32 clients."
    return "\n".join([_measurements(found), old_way, "", _judged_goals(found)])


def _measurements(found: dict[str, dict]) -> str:
    single, many, paces = found["one client"], found["many clients"], found["in process"]
    best = {name: max(paces[name], key=lambda size: paces[name][size]["per_sec"]) for name in SIGNATURES}
    rows: dict[str, Callable[[str], str]] = {
        "(a) in process, one client, p50": lambda name: f"{single[f'(a) {name} in process']['p50_ms']:.1f} ms",
        "`ser serve`, one client, p50": lambda name: f"{single[f'{name}, batching on']['p50_ms']:.1f} ms",
        "without batching, one client, p50": lambda name: f"{single[f'{name}, batching off']['p50_ms']:.1f} ms",
        "`ser serve`, 32 clients, p50": lambda name: f"{many[f'{name}, batching on']['p50_ms']:.0f} ms",
        "`ser serve`, 32 clients, p99": lambda name: f"{many[f'{name}, batching on']['p99_ms']:.0f} ms",
        "`ser serve`, 32 clients, per second": lambda name: f"{many[f'{name}, batching on']['per_sec']:.0f}",
        "without batching, 32 clients, per second": lambda name: f"{many[f'{name}, batching off']['per_sec']:.0f}",
        "(a) at its best batch size, per second": lambda name: f"{paces[name][best[name]]['per_sec']:.0f}",
        "that batch size": lambda name: str(best[name]),
        "server's CPU time per request": lambda name: f"{many[f'{name}, batching on']['server_cpu_ms']:.2f} ms",
        "the floor's": lambda name: f"{many[f'{name}, floor']['server_cpu_ms']:.2f} ms",
        "share of (a) by CPU time": lambda name: f"{shares_by_cpu(found, name)[0]:.2f}",
        "share that the floor allows": lambda name: f"{shares_by_cpu(found, name)[1]:.2f}",
    }
    return document.table(
        ["", *(f"`{name}`" for name in SIGNATURES)], ([label, *map(cell, SIGNATURES)] for label, cell in rows.items())
    )


def _judged_goals(found: dict[str, dict]) -> str:
    rows = []
    for name, goal in goals(found).items():
        met = goal.reached <= goal.bound if "at most" in name else goal.reached >= goal.bound
        span = f"{min(goal.rounds):.2f} to {max(goal.rounds):.2f}" if goal.rounds else ""
        rows.append([name, f"{goal.reached:.2f}", span, f"{goal.bound:.2f}", "yes" if met else "**no**"])
    return document.table(["goal", "reached", f"in {ROUNDS} rounds", "bound", "met"], rows)


def main() -> None:
    """Measure the candidates and print the tables."""
    parser = command.make_parser(__doc__)
    parser.add_argument("--model-base-path", type=Path, default=Path("output/serving"))
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each load")
    parser.add_argument("--json", action="store_true", help="print all numbers, as JSON")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    found = measure(arguments.model_base_path, arguments.data, arguments.seconds)
    print(json.dumps(found, indent=2) if arguments.json else report(found))
    if arguments.write:
        document.write(arguments.write, "serving", report(found))


if __name__ == "__main__":
    main()
