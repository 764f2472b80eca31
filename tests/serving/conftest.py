"""A really exported model with untrained weights, and servers for it on free ports of the loopback interface."""

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import io
import ipaddress
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from modules.audio import decoding, frontend
from modules.audio.spec import AudioSpec
from modules.export.contract import LEAST_WEIGHT
from serving.server.app import Server
from serving.server.options import ServerOptions
from tests.exports import export_random_model
from tests.original import ORIGINAL_AUDIO
from tests.paths import RAVDESS, needs_corpora

RATE_HZ = 48_000


@tf.function(input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)])
def _analyse(waveform: tf.Tensor, sample_rate_hz: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return features, valid frames and speech of the windows of a recording."""
    return frontend.analyse(*frontend.windows_of_waveform(waveform, sample_rate_hz, ORIGINAL_AUDIO), ORIGINAL_AUDIO)


def _speechlike(duration_sec: float = 3.0, *, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time_sec = np.arange(round(duration_sec * rate_hz)) / rate_hz
    pitch_hz = 120 + 40 * seed + 60 * np.sin(2 * np.pi * time_sec / 3)
    tone = np.sin(2 * np.pi * np.cumsum(pitch_hz) / rate_hz) * (1 + np.sin(2 * np.pi * 3 * time_sec))
    return (0.2 * tone + 0.01 * rng.normal(size=time_sec.shape)).astype(np.float32)


@pytest.fixture(scope="session")
def speechlike() -> Callable[..., np.ndarray]:
    """A gliding tone in noise: float32 ``[samples]`` at 48 kHz by default, different for every seed."""
    return _speechlike


@pytest.fixture(scope="session")
def wav_bytes() -> bytes:
    """Three seconds, 16-bit, mono, 48 kHz."""
    file = io.BytesIO()
    soundfile.write(file, _speechlike(), RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture(scope="session")
def ravdess() -> Path:
    if not RAVDESS.is_dir():
        pytest.skip(needs_corpora.kwargs["reason"])
    return RAVDESS


@pytest.fixture(scope="session")
def audio_spec() -> AudioSpec:
    return ORIGINAL_AUDIO


@pytest.fixture(scope="session")
def exported_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel as the Trainer exports it; the weights are random."""
    return export_random_model("original_cnn", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def export_family() -> Callable[..., Path]:
    """Export a model of the named family with random weights below a folder."""
    return export_random_model


@pytest.fixture(scope="session")
def strict_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another project's SavedModel: its requests have the shape of their samples, and it raises for bad ones."""
    folder = tmp_path_factory.mktemp("strict")

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "samples")])
    def serving_default(samples: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(samples > 0), ["not above 0"])]):
            return {"sums": tf.reduce_sum(samples, axis=1)}

    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": serving_default})
    return folder


def _push(model: Path, base: Path, version: int) -> None:
    base.mkdir(exist_ok=True)
    shutil.copytree(model, base / f"{version}.partial")
    (base / f"{version}.partial").rename(base / str(version))


@pytest.fixture(scope="session")
def push(exported_model: Path) -> Callable[[Path, int], None]:
    """Function that copies the model to a version's folder, which appears complete, as the Pusher does."""
    return functools.partial(_push, exported_model)


@dataclasses.dataclass
class RunningServer:
    """A server on an event loop of its own, in a thread of this process."""

    loop: asyncio.AbstractEventLoop
    server: Any

    @property
    def address(self) -> str:
        return f"localhost:{self.server.port}"

    @property
    def rest_url(self) -> str:
        return f"http://localhost:{self.server.rest_api_port}"

    @property
    def scheduler(self) -> Any:
        return self.server.scheduler

    def channel(self, **options: Any) -> grpc.Channel:
        return grpc.insecure_channel(self.address, **options)

    def metrics(self) -> str:
        """Return the metrics page."""
        return httpx.get(f"{self.rest_url}/monitoring/prometheus/metrics", timeout=60).raise_for_status().text

    def predict_from_features_of(self, encoded: bytes) -> np.ndarray:
        """Return the probabilities of the ``features`` signature for a recording: the mean of its windows by speech."""
        recording = decoding.decode(encoded)
        analysed = _analyse(tf.constant(recording.samples), tf.constant(recording.sample_rate_hz))
        features, valid_frames, speech = (array.numpy()[:, np.newaxis] for array in analysed)
        probabilities = [self.predict_from_features(*item) for item in zip(features, valid_frames, speech, strict=True)]
        return np.average(probabilities, axis=0, weights=np.maximum(speech[:, 0], LEAST_WEIGHT))

    def predict_from_features(self, features: np.ndarray, valid_frames: np.ndarray, speech: np.ndarray) -> np.ndarray:
        """Return the probabilities of one item, float32 ``[emotions]``."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "ser", "features"
        for name, value in {"features": features, "valid_frames": valid_frames, "speech": speech}.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        with self.channel() as channel:
            answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
        return tf.make_ndarray(answer.outputs["probabilities"])[0]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Block all threads of the scheduler during the context."""
        release = threading.Event()
        for _ in range(self.scheduler.free_threads):
            self.scheduler._pool.submit(release.wait)
        try:
            yield
        finally:
            release.set()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(60)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files with a self-signed certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.key").write_bytes(key.private_bytes(*private))
    return folder / "server.crt", folder / "server.key"


@pytest.fixture(scope="session")
def server_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One event loop for all servers of the process, as gRPC's asyncio binding requires."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def run_server(server_loop: asyncio.AbstractEventLoop) -> Callable[..., RunningServer]:
    """Function that starts a server; the caller stops it."""

    async def start(options: ServerOptions) -> Server:
        server = Server(options)
        await server.start()
        return server

    def run(**options: Any) -> RunningServer:
        settings = ServerOptions(**({"port": 0, "rest_api_port": 0, "poll_sec": 0.2, "drain_sec": 5} | options))
        started: Future[Server] = asyncio.run_coroutine_threadsafe(start(settings), server_loop)
        return RunningServer(server_loop, started.result(300))

    return run


@pytest.fixture(scope="session")
def shared_server(
    push: Callable[[Path, int], None],
    tmp_path_factory: pytest.TempPathFactory,
    run_server: Callable[..., RunningServer],
) -> Iterator[RunningServer]:
    """One server, with batching, for all tests that do not change it."""
    folder = tmp_path_factory.mktemp("shared")
    push(folder / "serving", 3)
    batching = folder / "batching.config"
    batching.write_text(
        "max_batch_size { value: 16 } max_enqueued_batches { value: 16 } num_batch_threads { value: 2 }"
    )
    running = run_server(model_base_path=folder / "serving", batching_parameters_file=batching, max_audio_sec=60)
    yield running
    running.stop()
