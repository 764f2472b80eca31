"""What hostile input and reloads do to the server: ``python -m benchmarks.reliability --model output/serving/3``.

Each row counts what was tried and what must not happen. The embedded server runs in a process of its own.
"""

import contextlib
import io
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import httpx
import numpy as np
import soundfile

from benchmarks import command, document, interrupted_runs
from modules.audio.decoding import BadAudio, decode
from serving.client import AudioError, Client, InvalidRequest, ServingError
from serving.client.predictions import ModelChoice
from serving.client.transport import connect

RATE_HZ = 16_000
FORMS = (
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
)
SIGNATURES = ("serving_default", "waveform", "features", "examples", "timeline", "none")
PATHS = (
    "/v1/models/ser:predict",
    "/v1/models/ser/versions/1:predict",
    "/v1/models/ser/labels/x:predict",
    "/v1/models/ser/metadata",
)
BODIES = (b'{"instances":[{"b64":"UklGRg=="}]}', b'{"inputs":{"audio":["x"]}}', b"[[[[", b'{"inputs":1e999}')
START_SEC = 600
HEADER_BYTES = 80
SETTLING_RELOADS = 10  # until the allocator has its arenas
SETTLING_SEC = 2  # after a reload, until the memory of the unloaded version is given back
BATCHING = Path(__file__).parents[1] / "serving" / "config" / "batching.config"


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: What was done.
        tried: How often.
        outcome: What came of it, in numbers.
        failures: Crashes, lost requests or half-loaded versions.
    """

    name: str
    tried: int
    outcome: str
    failures: int


class Server(NamedTuple):
    """A running server."""

    grpc: str
    rest: str
    process: "subprocess.Popen[bytes]"

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    @property
    def memory_mib(self) -> tuple[float, float]:
        """Resident memory of the process and its anonymous part."""
        return memory_mib(self.process.pid)

    @property
    def open_files(self) -> int:
        """Number of open descriptors."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


def memory_mib(pid: int) -> tuple[float, float]:
    """Return resident memory and its anonymous part: the kernel may drop and read again pages of files."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {words[0]: int(words[1]) for line in rollup.splitlines()[1:] if (words := line.split())}
    return kib["Rss:"] / 1024, kib["Anonymous:"] / 1024


def speechlike(seconds: float = 1.0) -> np.ndarray:
    """Return a gliding tone in noise, float32 ``[samples]``."""
    time_sec = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tone = np.sin(2 * np.pi * (150 * time_sec + 20 * np.sin(2 * np.pi * time_sec)))
    return (0.2 * tone + 0.01 * np.random.default_rng(0).normal(size=time_sec.shape)).astype(np.float32)


def hostile_files(count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield damaged files: bytes changed, cut, repeated, swapped, or appended, of each form in turn."""
    rng = np.random.default_rng(seed)
    for number, (container, subtype) in zip(range(count), itertools.cycle(FORMS), strict=False):
        file = io.BytesIO()
        soundfile.write(file, speechlike(), RATE_HZ, format=container, subtype=subtype)
        content = bytearray(file.getvalue())
        reach = len(content) if number % 2 else min(HEADER_BYTES, len(content))
        at = int(rng.integers(reach))
        match number // len(FORMS) % 5:
            case 0:
                content[at : at + 8] = rng.bytes(8)
            case 1:
                del content[at:]
            case 2:
                content[at:at] = content[:at]
            case 3:
                content[at : at + 4] = b"\xff\xff\xff\xff"
            case _:
                content += rng.bytes(at)
        yield bytes(content)


def decode_all(files: Sequence[bytes]) -> Row:
    """Decode the files as the ingestion does."""
    read = refused = failed = 0
    for content in files:
        try:
            decode(content)
            read += 1
        except BadAudio:
            refused += 1
        except Exception as error:  # any kind but BadAudio is a crash of the ingestion, which this row counts
            print(f"decode: {type(error).__name__}: {error}")
            failed += 1
    return Row("damaged files, decoded as at ingest", len(files), f"{read} read, {refused} refused", failed)


def send_all(server: Server, files: Sequence[bytes]) -> Row:
    """Send the files to the model as they are, without the client's checks."""
    answered = refused = failed = 0
    transport = connect(server.grpc)
    for content in files:
        request = ModelChoice(name="ser").request("serving_default", [content])
        try:
            response = transport.predict(request, timeout_sec=60)
            (error,) = response.outputs["error"].string_val
            answered, refused = answered + (not error), refused + bool(error)
        except InvalidRequest:
            refused += 1
        except ServingError as error:
            print(f"server: {error}")
            failed += 1
    transport.close()
    outcome = f"{answered} answered, {refused} refused"
    return Row("damaged files, sent to the model", len(files), outcome, _failed(server, failed))


def send_bytes(server: Server, count: int, seed: int = 0) -> Row:
    """Send random bytes to every signature over gRPC, and to every path over REST."""
    rng = np.random.default_rng(seed)
    refused = answered = failed = 0
    transport = connect(server.grpc)
    for _, signature in zip(range(count), itertools.cycle(SIGNATURES), strict=False):
        items = [rng.bytes(int(rng.integers(0, 2_000))) for _ in range(int(rng.integers(1, 4)))]
        try:
            transport.predict(ModelChoice(name="ser").request(signature, items), timeout_sec=60)
            answered += 1
        except ServingError as error:
            refused += 1
            failed += getattr(getattr(error, "status", None), "name", "") in ("INTERNAL", "UNKNOWN", "UNAVAILABLE")
    transport.close()
    with httpx.Client(base_url=server.rest, timeout=60) as http:
        for _, path in zip(range(count), itertools.cycle(PATHS), strict=False):
            status = http.request(str(rng.choice(["GET", "POST", "PUT"])), path, content=_body(rng)).status_code
            answered += status < 400
            refused += 400 <= status < 500
            failed += status >= 500
    outcome = f"{answered} answered, {refused} refused"
    return Row("random requests to signatures and paths", 2 * count, outcome, _failed(server, failed))


def _body(rng: np.random.Generator) -> bytes:
    """Return random bytes, or JSON of which some bytes are random."""
    if rng.random() < 0.3:
        return rng.bytes(int(rng.integers(0, 3_000)))
    content = bytearray(BODIES[int(rng.integers(len(BODIES)))])
    for at in rng.integers(len(content), size=2):
        content[at] = int(rng.integers(256))
    return bytes(content)


def reload_under_load(server: Server, base: Path, reloads: int, callers: int, interval_sec: float) -> list[Row]:
    """Push a version again and again while callers send requests, and compare memory and open files.

    The comparison is of the first and the last tenth of the reloads, after the settling ones. Each sample is taken when
    the interval ends, so that the previous version is unloaded.
    """
    stop, lost, answered = threading.Event(), [], itertools.count()

    def call() -> None:
        with Client(server.grpc, timeout_sec=60) as client:
            while not stop.is_set():
                try:
                    client.predict((speechlike(), RATE_HZ))
                    next(answered)
                except (ServingError, AudioError) as error:
                    lost.append(str(error))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    samples = []
    try:
        for version in range(2, SETTLING_RELOADS + reloads + 2):
            next_at = time.monotonic() + interval_sec
            _push_and_wait(server, base, version)
            time.sleep(max(SETTLING_SEC, next_at - time.monotonic()))
            samples.append((*server.memory_mib, server.open_files))
            print("version {}: {:.1f} MiB, {:.1f} anonymous, {} open files".format(version, *samples[-1]), flush=True)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for text in lost[:3]:
        print(f"lost: {text}")
    requests = next(answered) + len(lost)
    tenth = max(1, reloads // 10)
    settled = np.array(samples[SETTLING_RELOADS:])
    first, last = np.median(settled[:tenth], axis=0), np.median(settled[-tenth:], axis=0)
    resident, anonymous = 100 * (last / first - 1)[:2]
    change = (
        f"resident {first[0]:.0f} MiB {resident:+.1f} %, anonymous {first[1]:.0f} MiB {anonymous:+.1f} %, "
        f"open files {last[2] - first[2]:+.0f}"
    )
    kept = f"{requests - len(lost)} answered in {(time.monotonic() - started) / 60:.0f} min"
    return [
        Row("requests of callers during reloads", requests, kept, _failed(server, len(lost))),
        Row("reloads under load", reloads, change, _failed(server, 0)),
    ]


def _push_and_wait(server: Server, base: Path, version: int) -> None:
    """Push the first version under another number, and wait until it alone is served."""
    shutil.copytree(base / "1", base / f"{version}.partial")
    (base / f"{version}.partial").rename(base / str(version))
    _wait_until_served(server, version)
    if version > 2:
        shutil.rmtree(base / str(version - 1))


def _wait_until_served(server: Server, version: int) -> None:
    """Wait until the version answers and all others are unloaded."""
    deadline = time.monotonic() + START_SEC
    while server.is_alive and time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"{server.rest}/v1/models/ser", timeout=60).raise_for_status()
            states = {state["version"]: state["state"] for state in answer.json()["model_version_status"]}
            if states.pop(str(version), "") == "AVAILABLE" and set(states.values()) <= {"END"}:
                return
        time.sleep(0.1)
    reason = f"within {START_SEC} s" if server.is_alive else f"since the server ended with {server.process.returncode}"
    raise SystemExit(f"version {version} was not served {reason}")


def runs_rows(data: Path) -> list[Row]:
    """Interrupt runs on the recordings, by SIGKILL and by a full disk, and run again."""
    rows = []
    for name, interrupt in (
        ("runs killed, one at each component", interrupted_runs.kill_at_each_component),
        ("runs on a disk that is too small", interrupted_runs.fill_the_disk),
    ):
        outcome = interrupt(data)
        end = "the next one pushed a version" if outcome.completed else "the next one failed"
        failures = outcome.half_written + outcome.unclear + (not outcome.completed)
        rows.append(Row(name, outcome.tried, end, failures))
    return rows


def _failed(server: Server, failures: int) -> int:
    """Return the failures, and one more if the server has ended."""
    return failures + (not server.is_alive)


@contextlib.contextmanager
def running(base: Path) -> Iterator[Server]:
    """Run the server of a folder of versions, batched as in production, on free ports."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        grpc_port, rest_port = (taken.getsockname()[1] for taken in (one, other))
    words = ["--model-base-path", str(base), "--batching-parameters-file", str(BATCHING), "--end-with-parent"]
    ports = ["--port", str(grpc_port), "--rest-api-port", str(rest_port)]
    with subprocess.Popen([sys.executable, "-m", "serving.server", *words, *ports]) as process:
        server = Server(f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{rest_port}", process)
        try:
            _wait_until_served(server, 1)
            yield server
        finally:
            process.terminate()


def publish(rows: Sequence[Row], path: Path | None) -> None:
    """Print the table, and write it into the document if there is one."""
    cells = [(row.name, str(row.tried), row.outcome, str(row.failures)) for row in rows]
    heads = ("what", "tried", "outcome", "crashes or losses")
    command.publish({"reliability": document.table(heads, cells)}, path)


def main() -> None:
    """Do all of it and print the table."""
    parser = command.make_parser_without_data(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a pushed version")
    parser.add_argument("--files", type=int, default=3_000)
    parser.add_argument("--requests", type=int, default=3_000)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=60.0, help="shortest duration of the reloads under load")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="also interrupt runs on the recordings of this folder")
    options = parser.parse_args()
    files = list(hostile_files(options.files))
    rows = [decode_all(files)]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        shutil.copytree(options.model, base / "1")
        with running(base) as server:
            rows += [send_all(server, files), send_bytes(server, options.requests)]
            interval_sec = 60 * options.minutes / (SETTLING_RELOADS + options.reloads)
            rows += reload_under_load(server, base, options.reloads, options.callers, interval_sec)
    publish(rows, options.write)
    if options.runs:
        publish([*rows, *runs_rows(options.runs)], options.write)


if __name__ == "__main__":
    main()
