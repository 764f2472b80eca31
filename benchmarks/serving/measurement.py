"""Measurement of all candidates in alternating rounds."""

import contextlib
import functools
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from benchmarks.serving.candidates import (
    SIGNATURES,
    TIMEOUT_SEC,
    Call,
    features_of,
    in_process,
    librosa_over_rest,
    read_clips,
    requests_of,
)
from benchmarks.serving.load import (
    BATCH_SIZES,
    Crowd,
    Load,
    Pace,
    first_answers,
    grpc_load,
    librosa_load,
    measure_paces,
    one_client,
)
from benchmarks.serving.servers import Server, divide_cores, serve, serve_nothing
from modules.audio.spec import AudioSpec
from serving.client.transport.grpc_direct import GrpcTransport
from serving.wire import predict_pb2 as wire

BATCHING_FILE = Path(__file__).resolve().parents[2] / "serving" / "config" / "batching.config"
ROUNDS = 5
LIBROSA_REST = "(b) librosa and REST"

_T = TypeVar("_T")


class Round(NamedTuple):
    """Measurements of all candidates, one after the other.

    Attributes:
        loads: Load of many clients by candidate.
        paces: Speed of (a) by signature and batch size.
    """

    loads: dict[str, Load]
    paces: dict[str, dict[int, Pace]]

    def share(self, signature: str) -> float:
        """Return the server's throughput over that of (a) at its best batch size."""
        best_per_sec = max(pace.per_sec for pace in self.paces[signature].values())
        return self.loads[f"{signature}, batching on"].per_sec / best_per_sec

    def gain(self) -> float:
        """Return the server's throughput over that of (b)."""
        return self.loads["serving_default, batching on"].per_sec / self.loads[LIBROSA_REST].per_sec


def newest_version(model_base_path: Path) -> Path:
    """Return the folder of the version that the server uses."""
    versions = [folder for folder in model_base_path.iterdir() if folder.name.isdigit()]
    if not versions:
        raise SystemExit(f"{model_base_path} holds no version; run the pipeline first")
    return max(versions, key=lambda folder: int(folder.name))


def measure(model_base_path: Path, data: Path, seconds: float) -> dict[str, dict]:
    """Return all measurements, by candidate."""
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
            rounds.append(Round(loads, {name: measure_paces(direct[name], requests[name]) for name in SIGNATURES}))
    return summary(statistics.median(started), single, rounds)


def summary(started_sec: float, single: dict[str, dict[str, float]], rounds: Sequence[Round]) -> dict[str, dict]:
    """Return medians over the rounds, and for comparisons the ratios of every round."""
    return {
        "new process": {"median_sec": started_sec},
        "one client": single,
        "many clients": {name: _loads_summary([each.loads[name] for each in rounds]) for name in rounds[0].loads},
        "in process": {name: _sweeps_summary([each.paces[name] for each in rounds]) for name in SIGNATURES},
        "shares": {name: [each.share(name) for each in rounds] for name in SIGNATURES},
        "gains": {"serving_default": [each.gain() for each in rounds]},
    }


def _measure_one_client(
    direct: Mapping[str, Call],
    requests: Mapping[str, list[wire.PredictRequest]],
    spec: AudioSpec,
    wavs: list[bytes],
    servers: Mapping[str, Server],
) -> dict[str, dict[str, float]]:
    librosa_rest = librosa_over_rest(servers["batching on"].rest_url, spec)
    candidates = {LIBROSA_REST: by_number(librosa_rest, wavs)}
    for name in SIGNATURES:
        candidates[f"(a) {name} in process"] = by_number(direct[name], [[request] for request in requests[name]])
        for mode, server in servers.items():
            transport = GrpcTransport(server.grpc_address, tls=False, ca_file=None)
            predict = functools.partial(transport.predict, timeout_sec=TIMEOUT_SEC)
            candidates[f"{name}, {mode}"] = by_number(predict, requests[name])
    return {name: _latency(latencies_sec) for name, latencies_sec in one_client(candidates, requests=200).items()}


def by_number(send: Callable[[_T], object], items: Sequence[_T]) -> Callable[[int], None]:
    """Return a function that sends the item of a number."""

    def send_item(number: int) -> None:
        send(items[number])

    return send_item


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
            loads[f"{name}, {mode}"] = crowd.run(grpc_load, server, server.grpc_address, packed, seconds)
    server = servers["batching on"]
    loads[LIBROSA_REST] = crowd.run(librosa_load, server, server.rest_url, spec, wavs, seconds)
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
