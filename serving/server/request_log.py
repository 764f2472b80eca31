"""Log of a sample of the requests, in the format that TFX reads: TFRecords of ``PredictionLog``.

The log contains the features of a recording and not its audio, as a request to the ``features`` signature with the
client's response. That is enough for a drift report, and voices are not stored.
"""

import functools
import logging
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from modules.audio import frontend
from modules.data.examples import FEATURES, SPEECH, VALID_FRAMES
from modules.export.contract import load_contract
from serving.server.metrics import Metrics
from serving.server.servable import Servable
from serving.server.tensors import write_array

_LOG = logging.getLogger(__name__)

_FILES = 8
_MAX_WAITING = 64
_MAX_FILE_AGE_SEC = 3600.0
_EXPIRY_CHECK_SEC = 60.0
_MAX_LOADED_VERSIONS = 8
_FILE_NAME = re.compile(r"requests-\d+\.tfrecord")


class _Request(NamedTuple):
    """An answered request."""

    servable: Servable
    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


class RequestLog:
    """Log with a writer thread, so that callers do not wait; requests beyond its speed are dropped and counted.

    Args:
        directory: Folder of the log, created when missing; ``None`` switches the log off.
        rate: Share of the requests to write, 0 to 1.
        max_bytes: Largest size of all files together.
        metrics: Metrics of the server.
        max_age_sec: Age in seconds at which entries are deleted; ``None`` keeps them until the size is reached.
    """

    def __init__(
        self, directory: Path | None, *, rate: float, max_bytes: int, metrics: Metrics, max_age_sec: float | None = None
    ) -> None:
        self._rate = rate if directory else 0.0
        self._metrics = metrics
        self._waiting: deque[_Request] = deque()
        self._wake = threading.Event()
        self._closing = False
        if directory and rate:
            self._files = _RotatingFiles(directory, max_bytes, max_age_sec)
            self._thread = threading.Thread(target=self._write_all, name="request-log", daemon=True)
            self._thread.start()

    def offer(
        self,
        servable: Servable,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
    ) -> None:
        """Write the request, without failed items, if it is part of the sample and has features.

        Args:
            servable: The version that answered.
            signature: Name of the signature.
            inputs: Input arrays by name.
            outputs: Output arrays by name.
        """
        if signature not in ("serving_default", "features") or random.random() >= self._rate:
            return
        if len(self._waiting) >= _MAX_WAITING:
            self._metrics.request_log_count.labels(servable.model_name, "RESOURCE_EXHAUSTED").inc()
            return
        self._waiting.append(_Request(servable, signature, inputs, outputs))
        self._wake.set()

    def close(self) -> None:
        """Write the queued requests, and close the file."""
        if self._rate:
            self._closing = True
            self._wake.set()
            self._thread.join()
            self._files.close()

    def _write_all(self) -> None:
        while True:
            self._files.expire()
            self._wake.wait(_EXPIRY_CHECK_SEC)
            self._wake.clear()
            while self._waiting:
                self._write(self._waiting.popleft())
            if self._closing:
                return

    def _write(self, request: _Request) -> None:
        servable, status = request.servable, "OK"
        try:
            usable = request.outputs["error"] == b""
            if not usable.any():
                return
            inputs, outputs = (
                {name: array[usable] for name, array in arrays.items()} for arrays in (request.inputs, request.outputs)
            )
            features = inputs if request.signature == "features" else _extract(inputs["audio"], servable.path)
            self._files.write(_log_entry(servable, features, outputs).SerializeToString())
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:  # a full disk must not fail requests
            status = "UNKNOWN"
            _LOG.warning("cannot log a request: %s", error)
        self._metrics.request_log_count.labels(servable.model_name, status).inc()


class _RotatingFiles:
    """Files of limited size and age; the oldest are deleted when all together are too large, or are too old."""

    def __init__(self, directory: Path, max_bytes: int, max_age_sec: float | None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._max_file_bytes = max_bytes // _FILES
        self._max_age_sec = max_age_sec
        self._writer: tf.io.TFRecordWriter | None = None
        self._bytes = 0
        self._opened_at = 0.0
        self._current: Path | None = None

    def write(self, record: bytes) -> None:
        too_old = time.monotonic() - self._opened_at > _MAX_FILE_AGE_SEC
        if too_old or self._bytes + len(record) > self._max_file_bytes:
            self.close()
        if self._writer is None:
            self._writer = self._open_next()
        self._writer.write(record)
        self._writer.flush()
        self._bytes += len(record)

    def close(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None

    def expire(self) -> None:
        """Delete the files that were begun too long ago, the current one included."""
        if self._max_age_sec is None:
            return
        begun_before_ns = time.time_ns() - int(self._max_age_sec * 1e9)
        for file in self._all():
            if int(file.stem.removeprefix("requests-")) < begun_before_ns:
                if file == self._current:
                    self.close()
                file.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        files = [file for file in self._directory.glob("requests-*.tfrecord") if _FILE_NAME.fullmatch(file.name)]
        return sorted(files)

    def _open_next(self) -> tf.io.TFRecordWriter:
        for file in self._all()[: -(_FILES - 1)]:
            file.unlink()
        self._bytes, self._opened_at = 0, time.monotonic()
        self._current = self._directory / f"requests-{time.time_ns()}.tfrecord"
        return tf.io.TFRecordWriter(str(self._current))


def _log_entry(
    servable: Servable, features: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
) -> prediction_log_pb2.PredictionLog:
    entry = prediction_log_pb2.PredictionLog()
    entry.log_metadata.timestamp_secs = int(time.time())
    for spec in (
        entry.log_metadata.model_spec,
        entry.predict_log.request.model_spec,
        entry.predict_log.response.model_spec,
    ):
        spec.name, spec.version.value, spec.signature_name = servable.model_name, servable.version, "features"
    for name, array in features.items():
        write_array(array, entry.predict_log.request.inputs[name])
    for name, array in outputs.items():
        write_array(array, entry.predict_log.response.outputs[name])
    return entry


def _extract(audio: np.ndarray, model_dir: str) -> dict[str, np.ndarray]:
    """Return the inputs of ``features`` for ``audio``, computed by the same function with the model's contract."""
    analysed = _extractor(model_dir)(tf.constant(audio))
    if refused := list(filter(None, analysed.error.numpy())):
        raise ValueError(
            f"{model_dir}: the model answered a recording that its contract refuses: {refused[0].decode()}"
        )
    return {
        FEATURES: analysed.features.numpy(),
        VALID_FRAMES: analysed.valid_frames.numpy(),
        SPEECH: analysed.speech.numpy(),
    }


@functools.lru_cache(maxsize=_MAX_LOADED_VERSIONS)
def _extractor(model_dir: str) -> Callable[[tf.Tensor], frontend.Analysed]:
    """Return the feature extraction of a version; the cache avoids reading its contract again."""
    contract = load_contract(model_dir)
    return tf.function(
        lambda encoded: frontend.features_of_wavs(encoded, contract.audio_spec, contract.limits),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
