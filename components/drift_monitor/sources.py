"""Where the samples come from that drift is measured between: examples, recordings or a request log."""

import functools
import json
import posixpath
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tfx.dsl.io import fileio

from components.audio_example_gen.corpora import Rejected, identify
from components.audio_example_gen.files import read_bytes
from components.audio_example_gen.report import SUMMARY_FILE
from components.audio_example_gen.settings import IngestSettings
from modules import drift, examples, frontend
from modules.audio_spec import AudioSpec, AudioSpecMismatch
from modules.augmentation import PLAIN
from modules.decoding import BadAudio, decode
from modules.features import feature_names
from modules.splits import TRAIN

REQUEST_LOG_FILES = "requests-*.tfrecord"

Change = Callable[[np.ndarray, int], np.ndarray]


class UnreadableSample(ValueError):
    """There is nothing to compare at a place; the message says what was looked for."""


class Recordings(NamedTuple):
    """What a folder of recordings gave, and what of it could not be used."""

    sample: drift.Sample
    rejected: tuple[Rejected, ...]


class _Clip(NamedTuple):
    features: np.ndarray
    valid_frames: int
    speaker: str | None
    emotion: str | None


def holds_examples(uri: str) -> bool:
    """Whether an AudioExampleGen wrote this folder."""
    return fileio.exists(posixpath.join(uri, SUMMARY_FILE))


def holds_request_log(uri: str) -> bool:
    """Whether the embedded server logged requests in this folder."""
    return bool(fileio.glob(posixpath.join(uri, REQUEST_LOG_FILES)))


def spec_of_examples(uri: str) -> AudioSpec:
    """The audio spec that an Examples artifact was made with."""
    return AudioSpec(**json.loads(read_bytes(posixpath.join(uri, SUMMARY_FILE)))["audio_spec"])


def read_examples(uri: str, *, split: str | None = TRAIN) -> drift.Sample:
    """The recordings themselves of an Examples artifact, without augmented copies.

    Args:
        uri: Folder that an AudioExampleGen wrote; local or on any file system that TensorFlow knows.
        split: One split, or all with ``None``.

    Raises:
        UnreadableSample: No example is there.
    """
    spec = spec_of_examples(uri)
    files = sorted(map(str, fileio.glob(posixpath.join(uri, f"Split-{split or '*'}", "*"))))
    clips = list(_parsed(files, spec))
    if not clips:
        raise UnreadableSample(f"{uri} holds no plain example of the split {split or 'train, eval or test'}")
    return _sample(clips, spec)


def read_recordings(folder: str, *, settings: IngestSettings, change: Change | None = None) -> Recordings:
    """Extracts the features of all recordings of a local folder, as the ExampleGen does.

    Args:
        folder: With one corpus or several, at any depth.
        settings: Of the ingestion; its splits and augmentation play no part.
        change: Applied to every waveform, float32 ``[samples]``, with its sample rate in hertz; for experiments.

    Raises:
        UnreadableSample: No recording can be used.
    """
    root = Path(folder)
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    identified = identify(paths, read_text=lambda path: (root / path).read_text("utf-8"), labels=settings.labels)
    clips, rejected = [], list(identified.rejected)
    for clip in identified.clips:
        try:
            recording = decode((root / clip.path).read_bytes(), settings.limits)
        except (BadAudio, OSError) as error:
            rejected.append(Rejected(clip.path, str(error)))
            continue
        samples = recording.samples
        if change:
            samples = change(samples, recording.sample_rate_hz)
        features, frames = _extractor(settings.audio)(samples, np.int64(recording.sample_rate_hz))
        clips.append(_Clip(features.numpy(), int(frames), clip.speaker, clip.emotion))
    if not clips:
        raise UnreadableSample(
            f"{folder} holds no recording that can be used ({len(rejected)} files cannot); "
            f"`ser corpus scan {folder}` says why"
        )
    return Recordings(_sample(clips, settings.audio), tuple(rejected))


def read_request_log(folder: str, *, spec: AudioSpec) -> drift.Sample:
    """The features of logged requests; who spoke and how is not known.

    Raises:
        UnreadableSample: No request was logged.
        AudioSpecMismatch: The features have another shape than ``spec`` gives.
    """
    files = sorted(map(str, fileio.glob(posixpath.join(folder, REQUEST_LOG_FILES))))
    clips = list(_logged(files, spec, folder))
    if not clips:
        raise UnreadableSample(f"{folder} holds no request in files named {REQUEST_LOG_FILES}")
    return _sample(clips, spec)


def _parsed(files: list[str], spec: AudioSpec) -> Iterator[_Clip]:
    parsing = examples.model_input_spec(spec) | {
        name: tf.io.FixedLenFeature([], tf.string)
        for name in (examples.SPEAKER, examples.EMOTION, examples.AUGMENTATION)
    }
    records = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(256)
    for batch in records:
        parsed: Mapping[str, np.ndarray] = {
            name: value.numpy() for name, value in tf.io.parse_example(batch, parsing).items()
        }
        for row in np.flatnonzero(parsed[examples.AUGMENTATION] == PLAIN.encode()):
            yield _Clip(
                parsed[examples.FEATURES][row],
                int(parsed[examples.VALID_FRAMES][row]),
                parsed[examples.SPEAKER][row].decode(),
                parsed[examples.EMOTION][row].decode(),
            )


def _logged(files: list[str], spec: AudioSpec, folder: str) -> Iterator[_Clip]:
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(files).as_numpy_iterator():
        inputs = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request.inputs
        features = tf.make_ndarray(inputs[examples.FEATURES])
        frames = tf.make_ndarray(inputs[examples.VALID_FRAMES])
        if features.shape[1:] != spec.feature_shape:
            raise AudioSpecMismatch(
                f"{folder} holds features of shape {features.shape[1:]}; the reference's audio spec gives "
                f"{spec.feature_shape}. Compare with the examples that the served model was trained on."
            )
        for values, valid_frames in zip(features, frames, strict=True):
            yield _Clip(values, int(valid_frames), None, None)


def _sample(clips: list[_Clip], spec: AudioSpec) -> drift.Sample:
    values = np.stack([clip.features for clip in clips])
    if spec.feature_family == "logmel":
        values = drift.band_means(values, np.array([clip.valid_frames for clip in clips]))
    return drift.Sample(
        values=values,
        names=tuple(feature_names(spec)),
        speakers=_all_known([clip.speaker for clip in clips]),
        emotions=_all_known([clip.emotion for clip in clips]),
    )


def _all_known(texts: list[str | None]) -> tuple[str, ...] | None:
    known = tuple(text for text in texts if text is not None)
    return known if len(known) == len(texts) else None


@functools.cache
def _extractor(spec: AudioSpec) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    return tf.function(
        functools.partial(frontend.features_of_waveform, spec=spec),
        input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int64)],
    )
