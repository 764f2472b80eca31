"""Sources of the samples that are compared for drift: examples, recordings and request logs."""

import functools
import json
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tfx.dsl.io import fileio

from components.audio_example_gen.corpora import Rejected, identify
from components.audio_example_gen.file_names import SUMMARY_FILE
from components.audio_example_gen.settings import IngestSettings
from components.drift_monitor import endpoint_log
from components.drift_monitor.errors import UnreadableSample
from modules.audio import frontend
from modules.audio.augmentation import PLAIN
from modules.audio.decoding import DEFAULT_LIMITS, AudioLimits, BadAudio, decode
from modules.audio.features import described_names, feature_names
from modules.audio.spec import AudioSpec, AudioSpecMismatch
from modules.common.addresses import files as list_files
from modules.common.addresses import read_bytes
from modules.common.bigquery_table import is_table
from modules.data import examples
from modules.data.splits import TRAIN
from modules.drift.sample import Sample, band_means

REQUEST_LOG_FILES = "requests-*.tfrecord"

_BATCH = 256
_LEAST_RMS = 1e-5
_TEXTS = (examples.CLIP_ID, examples.SPEAKER, examples.EMOTION, examples.AUGMENTATION)

Change = Callable[[np.ndarray, int], np.ndarray]


class Recordings(NamedTuple):
    """Usable clips of a folder, and its rejected files."""

    clips: "Clips"
    rejected: tuple[Rejected, ...]

    @property
    def sample(self) -> Sample:
        """Sample of the clips."""
        return self.clips.sample


class Clips(NamedTuple):
    """A sample with further columns.

    Attributes:
        sample: Features of the clips.
        numbers: Values of shape ``[clips]`` for each feature of the schema that describes a whole clip.
        served: Whether the clips are requests to a server.
        remarks: Sentences for the report about what was left out.
    """

    sample: Sample
    numbers: Mapping[str, np.ndarray]
    served: bool = False
    remarks: tuple[str, ...] = ()

    def take(self, rows: np.ndarray) -> "Clips":
        """Return some of the clips.

        Args:
            rows: Positions of the clips, int64 of shape ``[clips]``.
        """
        numbers = {name: values[rows] for name, values in self.numbers.items()}
        return self._replace(sample=self.sample.take(rows), numbers=numbers)


class _Part(NamedTuple):
    """A batch of clips: compared features of shape ``[clips, features]``, and columns of shape ``[clips]``."""

    values: np.ndarray
    numbers: Mapping[str, np.ndarray]
    speakers: Sequence[str] | None = None
    emotions: Sequence[str] | None = None


def holds_examples(uri: str) -> bool:
    """Return whether an AudioExampleGen wrote a folder.

    Args:
        uri: Address of the folder.
    """
    return not is_table(uri) and fileio.exists(posixpath.join(uri, SUMMARY_FILE))


def holds_request_log(uri: str) -> bool:
    """Return whether the embedded server logged requests in a folder, or the address is a table of an endpoint's.

    Args:
        uri: Address of the folder, or ``bq://PROJECT.DATASET.TABLE``.
    """
    return is_table(uri) or bool(fileio.glob(posixpath.join(uri, REQUEST_LOG_FILES)))


def spec_of_examples(uri: str) -> AudioSpec:
    """Return the audio spec of an Examples artifact.

    Args:
        uri: Folder that an AudioExampleGen wrote.
    """
    return AudioSpec.model_validate(_summary(uri)["audio_spec"])


def read_clips(uri: str, *, split: str | None = TRAIN, below: str = "") -> Clips:
    """Read the plain examples of an Examples artifact, without augmented copies.

    Args:
        uri: Folder that an AudioExampleGen wrote; local or on any file system of TensorFlow.
        split: Name of a split; None for all.
        below: Folder of the ingested recordings, such as ``span-3``, that the examples must come from; empty for all.

    Returns:
        The clips.

    Raises:
        UnreadableSample: Such examples are missing.
    """
    spec = spec_of_examples(uri)
    files = sorted(map(str, fileio.glob(posixpath.join(uri, f"Split-{split or '*'}", "*"))))
    parts = list(_parsed(files, spec, below))
    if not sum(len(part.values) for part in parts):
        where = f" from {below}" if below else ""
        raise UnreadableSample(
            f"{uri} has no plain examples{where} of the split {split or 'train, eval or test'}; give examples of "
            "a completed run"
        )
    return _concatenate(parts, spec)


def newest_span(uri: str) -> str:
    """Return the folder of the newest of several spans that the examples come from; empty if they come from one.

    Args:
        uri: Folder that an AudioExampleGen wrote.
    """
    return next(reversed(_summary(uri).get("spans", {})), "")


def read_recordings(folder: str, *, settings: IngestSettings, change: Change | None = None) -> Recordings:
    """Extract the features of all recordings of a folder, as the AudioExampleGen does.

    Args:
        folder: Folder of one or several corpora at any depth, local or in a bucket.
        settings: Settings of the ingestion; splits and augmentation have no effect.
        change: Function of a waveform, float32 of shape ``[samples]``, and its sample rate in hertz that returns a
            changed waveform; for experiments.

    Returns:
        Clips and rejected files.

    Raises:
        UnreadableSample: No recording can be used.
    """

    def read(path: str) -> bytes:
        return read_bytes(posixpath.join(folder, path))

    paths = list_files(folder)
    identified = identify(paths, read_text=lambda path: read(path).decode(), labels=settings.labels)
    parts, rejected = [], list(identified.rejected)
    for clip in identified.clips:
        try:
            recording = decode(read(clip.path), settings.limits)
        except (BadAudio, OSError) as error:
            rejected.append(Rejected(clip.path, str(error)))
            continue
        samples, rate_hz = recording.samples, recording.sample_rate_hz
        if change:
            samples = change(samples, rate_hz)
        features, frames = _extractor(settings.audio)(samples, np.int64(rate_hz))
        part = _part(features.numpy()[np.newaxis], np.array([frames]), settings.audio)
        part = _with_origin(part, np.array([recording.duration_sec], np.float32), np.array([rate_hz]))
        parts.append(part._replace(speakers=[clip.speaker], emotions=[clip.emotion]))
    if not parts:
        raise UnreadableSample(
            f"{folder} has no usable recordings ({len(rejected)} files are rejected); "
            f"`ser corpus scan {folder}` lists the reasons"
        )
    return Recordings(_concatenate(parts, settings.audio), tuple(rejected))


def read_requests(
    folder: str,
    *,
    spec: AudioSpec,
    limits: AudioLimits = DEFAULT_LIMITS,
    newest: endpoint_log.Newest = endpoint_log.DEFAULT_PART,
) -> Clips:
    """Read the features of logged requests; their speakers and emotions are unknown.

    Args:
        folder: Folder of the server's request log, or ``bq://PROJECT.DATASET.TABLE`` of a Vertex AI endpoint's.
        spec: Audio spec of the served model.
        limits: Limits of a usable recording; a folder has features, and needs none.
        newest: Part of the table to read; a folder is read whole.

    Returns:
        The clips.

    Raises:
        UnreadableSample: No request was logged, or the table cannot be read.
        AudioSpecMismatch: The features have another shape than ``spec`` gives.
    """
    if is_table(folder):
        return _read_table(endpoint_log.LoggedRecordings(folder, newest), folder, spec, limits)
    files = sorted(map(str, fileio.glob(posixpath.join(folder, REQUEST_LOG_FILES))))
    parts = list(_logged(files, spec, folder))
    if not parts:
        raise UnreadableSample(f"{folder} has no requests in files named {REQUEST_LOG_FILES}; give a server's log")
    return _concatenate(parts, spec)._replace(served=True)


def _read_table(logged: endpoint_log.LoggedRecordings, address: str, spec: AudioSpec, limits: AudioLimits) -> Clips:
    parts, extract = [], _wav_extractor(spec, limits)
    for wav in logged:  # one by one, since recordings of several megabytes do not fit into memory together
        analysed = extract(tf.constant([wav]))
        if analysed.error.numpy()[0]:
            logged.skipped[endpoint_log.UNUSABLE] += 1
        else:
            parts.append(_part(analysed.features.numpy(), analysed.valid_frames.numpy(), spec))
    if not parts:
        raise UnreadableSample(
            f"{address} has no usable recordings. {' '.join(logged.remarks)} Name the log of an endpoint that serves "
            "this project's models, or read more days"
        )
    return _concatenate(parts, spec)._replace(served=True, remarks=logged.remarks)


def _summary(uri: str) -> dict[str, Any]:
    try:
        return json.loads(read_bytes(posixpath.join(uri, SUMMARY_FILE)))
    except FileNotFoundError as error:
        raise UnreadableSample(
            f"{uri} holds no examples of an AudioExampleGen, or no longer, since artifacts of runs are deleted after a "
            "while; name the examples of a later run, or a copy"
        ) from error


def _parsed(files: list[str], spec: AudioSpec, below: str) -> Iterator[_Part]:
    """Yield batches, since the spectrograms of a large corpus do not fit into memory."""
    parsing = examples.model_input_spec(spec) | {name: tf.io.FixedLenFeature([], tf.string) for name in _TEXTS}
    parsing |= {examples.DURATION_SEC: tf.io.FixedLenFeature([], tf.float32)}
    parsing |= {examples.NATIVE_SAMPLE_RATE_HZ: tf.io.FixedLenFeature([], tf.int64)}
    for batch in tf.data.TFRecordDataset(files, compression_type="GZIP").batch(_BATCH):
        parsed: Mapping[str, np.ndarray] = {
            name: value.numpy() for name, value in tf.io.parse_example(batch, parsing).items()
        }
        in_folder = [_is_below(clip_id, below) for clip_id in parsed[examples.CLIP_ID]]
        rows = np.flatnonzero((parsed[examples.AUGMENTATION] == PLAIN.encode()) & in_folder)
        column = {name: values[rows] for name, values in parsed.items()}
        part = _part(column[examples.FEATURES], column[examples.VALID_FRAMES], spec)
        part = _with_origin(part, column[examples.DURATION_SEC], column[examples.NATIVE_SAMPLE_RATE_HZ])
        yield part._replace(
            speakers=[text.decode() for text in column[examples.SPEAKER]],
            emotions=[text.decode() for text in column[examples.EMOTION]],
        )


def _is_below(clip_id: bytes, folder: str) -> bool:
    _, _, path = clip_id.decode().partition("/")  # the first part is the corpus
    return path.startswith(posixpath.join(folder, ""))


def _logged(files: list[str], spec: AudioSpec, folder: str) -> Iterator[_Part]:
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(files).as_numpy_iterator():
        inputs = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request.inputs
        features = tf.make_ndarray(inputs[examples.FEATURES])
        if features.shape[1:] != spec.feature_shape:
            raise AudioSpecMismatch(
                f"{folder} has features of shape {features.shape[1:]}; the reference's audio spec gives "
                f"{spec.feature_shape}. Compare with the examples that the served model was trained on."
            )
        yield _part(features, tf.make_ndarray(inputs[examples.VALID_FRAMES]), spec)


def _part(features: np.ndarray, valid_frames: np.ndarray, spec: AudioSpec) -> _Part:
    """Return the compared values of features ``[clips, ...]``: themselves, or means over a clip's frames."""
    values = band_means(features, valid_frames) if spec.has_frames else features
    return _Part(values=values, numbers={examples.VALID_FRAMES: valid_frames.astype(np.int64)})


def _with_origin(part: _Part, durations_sec: np.ndarray, rates_hz: np.ndarray) -> _Part:
    """Return the batch with the columns that recordings have and requests do not."""
    origin = {examples.DURATION_SEC: durations_sec, examples.NATIVE_SAMPLE_RATE_HZ: rates_hz}
    return part._replace(numbers={**part.numbers, **origin})


def _concatenate(parts: Sequence[_Part], spec: AudioSpec) -> Clips:
    values = np.concatenate([part.values for part in parts])
    sample = Sample(
        values=values,
        names=tuple(described_names(spec)),
        levels=_levels(values, feature_names(spec), spec),
        level_unit="" if spec.feature_family == "encoder" else "dB",
        speakers=_all_known([part.speakers for part in parts]),
        emotions=_all_known([part.emotions for part in parts]),
    )
    numbers = {name: np.concatenate([part.numbers[name] for part in parts]) for name in parts[0].numbers}
    return Clips(sample, numbers)


def _levels(values: np.ndarray, names: Sequence[str], spec: AudioSpec) -> np.ndarray:
    """Return the level of each clip up to a constant: RMS in dB, or the mean over the channels.

    The mean over mel bands is a level in dB. Channels of an encoder have no unit; their mean moves when all of them do.
    """
    if spec.has_frames:
        return np.asarray(values.mean(axis=1))
    return 20 * np.log10(np.maximum(values[:, names.index("rms")], _LEAST_RMS))


def _all_known(texts: Sequence[Sequence[str] | None]) -> tuple[str, ...] | None:
    present = [part for part in texts if part is not None]
    return tuple(text for part in present for text in part) if len(present) == len(texts) else None


@functools.cache
def _extractor(spec: AudioSpec) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    return tf.function(
        functools.partial(frontend.features_of_waveform, spec=spec),
        input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int64)],
    )


@functools.cache
def _wav_extractor(spec: AudioSpec, limits: AudioLimits) -> Callable[[tf.Tensor], frontend.Analysed]:
    return tf.function(
        lambda encoded: frontend.features_of_wavs(encoded, spec, limits),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
