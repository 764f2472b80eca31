"""Conversion of clips to files of examples, which Beam distributes."""

import collections
import dataclasses
import functools
import hashlib
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import apache_beam as beam
import numpy as np
import tensorflow as tf

from components.audio_example_gen import same_sound
from components.audio_example_gen.settings import IngestSettings
from modules.audio import features, frontend
from modules.audio.augmentation import PLAIN, augment
from modules.audio.decoding import FILE_SIZE, WINDOW_AUDIBLE, AudioCode, BadAudio, Recording, decode
from modules.audio.spec import AudioSpec
from modules.common import progress
from modules.common.addresses import read_bytes
from modules.common.digest import shuffle_key
from modules.data.clips import Clip
from modules.data.examples import CLIP_ID, make_example
from modules.data.splits import TRAIN
from modules.demo_corpus import is_synthetic

EXAMPLES_PER_BATCH = 8
"""Fewer cost more calls; the intermediate values of more leave the processor's cache."""

CLIPS_PER_SHARD = 64
"""A worker makes whole shards: with larger ones some workers would have nothing to do in a small corpus."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of examples, and the clips that they come from.

    Attributes:
        split: Name of the split.
        path: Path relative to the folder of all examples.
        batches: Clips whose features are extracted together. They are fixed before the workers start, since the last
            bits of a sum depend on the size of the batch.
    """

    split: str
    path: str
    batches: tuple[tuple[Clip, ...], ...]

    def to_json(self) -> str:
        """Return a line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Shard":
        """Read a line that :meth:`to_json` returned.

        Args:
            text: The line.
        """
        fields = json.loads(text)
        batches = tuple(tuple(Clip(**clip) for clip in batch) for batch in fields.pop("batches"))
        return cls(batches=batches, **fields)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of the ingestion of a recording.

    Attributes:
        clip: The recording.
        split: Its split.
        shard: Path of the file of its examples.
        reason: Why it is unusable; empty if it is usable.
        duplicate_of: Path of the recording with the same sound that is used instead; empty if there is none.
        digest: Digest of the sound; empty if it could not be decoded.
        sha256: SHA-256 of the file; empty if it could not be read or is too large.
        duration_sec: Duration in seconds; 0 if it is unusable.
        native_sample_rate_hz: Sample rate of the file in hertz; 0 if it is unusable.
        examples: Number of its examples.
        synthetic: Whether the file has the tag of the demo corpus.
    """

    clip: Clip
    split: str
    shard: str
    reason: str = ""
    duplicate_of: str = ""
    digest: str = ""
    sha256: str = ""
    duration_sec: float = 0.0
    native_sample_rate_hz: int = 0
    examples: int = 0
    synthetic: bool = False

    @property
    def used(self) -> bool:
        """Whether the recording has examples."""
        return not self.reason and not self.duplicate_of

    def to_json(self) -> str:
        """Return a line of JSON, with the clip's attributes at the top level."""
        fields = dataclasses.asdict(self)
        return json.dumps(fields.pop("clip") | fields)

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """Read a line that :meth:`to_json` returned.

        Args:
            text: The line.
        """
        fields = json.loads(text)
        clip = Clip(**{field.name: fields.pop(field.name) for field in dataclasses.fields(Clip)})
        return cls(clip=clip, **fields)


@dataclasses.dataclass(frozen=True)
class _Copy:
    """A variant of a clip, ready for extraction."""

    clip: Clip
    variant: str
    recording: Recording
    window: np.ndarray
    valid_samples: int
    start_sec: float
    speech: float


@dataclasses.dataclass(frozen=True, order=True)
class Record:
    """A serialized example, ordered by its position in the file."""

    key: str
    example: bytes


class WriteShard(beam.DoFn):
    """Beam function that reads, decodes, resamples and augments clips, extracts features and writes a shard.

    It writes the file itself for two reasons: the examples of a large corpus would exceed the memory of a local runner,
    and Beam's writers have no fixed order.
    """

    def __init__(self, root: str, folder: str, settings: IngestSettings, emotions: Sequence[str]) -> None:
        """Store what all shards share.

        Args:
            root: Folder that the clips' paths are relative to.
            folder: Folder that the shards' paths are relative to; also the key of the progress.
            settings: Settings of the ingestion.
            emotions: Emotions of the model, in the order of its outputs.
        """
        self._root, self._folder, self._settings = root, folder, settings
        self._emotion_ids = {emotion: number for number, emotion in enumerate(emotions)}

    def process(self, shard: Shard) -> Iterator[Outcome]:
        """Write a shard.

        Args:
            shard: The shard.

        Yields:
            The outcome of every clip.
        """
        outcomes: list[Outcome] = []
        records: list[Record] = []
        for clips in shard.batches:
            copies: list[_Copy] = []
            for clip in clips:
                outcome, made = self._ingest(clip, shard)
                outcomes.append(outcome)
                copies += made
                progress.advance(self._folder)
            records += self._to_records(copies)
        _write(posixpath.join(self._folder, shard.path), [record.example for record in sorted(records)])
        yield from outcomes

    def _ingest(self, clip: Clip, shard: Shard) -> tuple[Outcome, list[_Copy]]:
        outcome = Outcome(clip=clip, split=shard.split, shard=shard.path)
        try:
            data = _read(posixpath.join(self._root, clip.path), self._settings)
            outcome = dataclasses.replace(outcome, sha256=hashlib.sha256(data).hexdigest())
            recording = decode(data, self._settings.limits)
            copies = list(self._copies(clip, shard.split, recording))
        except BadAudio as error:
            return dataclasses.replace(outcome, reason=error.reason), []
        return dataclasses.replace(
            outcome,
            digest=recording.digest,
            duration_sec=recording.duration_sec,
            native_sample_rate_hz=recording.sample_rate_hz,
            examples=len(copies),
            synthetic=is_synthetic(data),
        ), copies

    def _copies(self, clip: Clip, split: str, recording: Recording) -> Iterator[_Copy]:
        spec = self._settings.audio
        cut = _windower(spec)(recording.samples, np.int64(recording.sample_rate_hz))
        window, valid_samples = cut.samples.numpy(), int(cut.valid_samples)
        copy = functools.partial(
            _Copy, clip=clip, recording=recording, start_sec=float(cut.start_sec), speech=float(cut.speech)
        )
        WINDOW_AUDIBLE.require(self._settings.limits, peak=_peak(window))
        if split != TRAIN:
            yield copy(variant=PLAIN, window=window, valid_samples=valid_samples)
            return
        for variant, varied, valid_of_variant in augment(
            window,
            valid_samples=valid_samples,
            sample_rate_hz=spec.sample_rate_hz,
            settings=self._settings.augmentation,
            seed=self._settings.seed,
            clip_id=clip.clip_id,
        ):
            if WINDOW_AUDIBLE.holds(self._settings.limits, peak=_peak(varied)):  # an excerpt may be a pause
                yield copy(variant=variant, window=varied, valid_samples=valid_of_variant)

    def _to_records(self, copies: Sequence[_Copy]) -> Iterator[Record]:
        if not copies:
            return
        spec = self._settings.audio
        valid_samples = np.array([copy.valid_samples for copy in copies], np.int32)
        extracted, frames = _extractor(spec)(np.stack([copy.window for copy in copies]), valid_samples)
        for copy, values, valid_frames in zip(copies, extracted.numpy(), frames.numpy(), strict=True):
            example = make_example(
                copy.clip,
                emotion_id=self._emotion_ids[copy.clip.emotion],
                features=values,
                valid_frames=int(valid_frames),
                augmentation=copy.variant,
                duration_sec=copy.recording.duration_sec,
                window_sec=copy.start_sec,
                speech=copy.speech,
                native_sample_rate_hz=copy.recording.sample_rate_hz,
                spec=spec,
            )
            key = shuffle_key(self._settings.seed, copy.clip.clip_id, copy.variant)
            yield Record(key, example.SerializeToString(deterministic=True))


def find_duplicates(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Sort by ``clip_id`` and mark all but the first of several recordings with the same sound.

    A recording with two names would count twice, or be in the training data and in the test data. With two labels it
    is not used at all.

    Args:
        outcomes: Outcomes of all recordings.

    Returns:
        The outcomes with ``duplicate_of``, or with the reason of those that have two labels.
    """
    outcomes = sorted(outcomes, key=lambda outcome: outcome.clip.clip_id)
    digests = [(outcome.clip, outcome.digest) for outcome in outcomes if outcome.used]
    reasons = same_sound.contradictions(digests)
    kept = {clip.clip_id: clips[0].path for clips in same_sound.groups(digests) for clip in clips[1:]}
    return [_marked(outcome, reasons, kept) for outcome in outcomes]


def _marked(outcome: Outcome, reasons: Mapping[str, str], kept: Mapping[str, str]) -> Outcome:
    clip_id = outcome.clip.clip_id
    if clip_id in reasons:
        return dataclasses.replace(outcome, reason=reasons[clip_id])
    return dataclasses.replace(outcome, duplicate_of=kept[clip_id]) if clip_id in kept else outcome


def drop_duplicates(outcomes: Iterable[Outcome], *, folder: str) -> None:
    """Remove the examples of recordings that are not used by writing the few shards that have any again.

    Args:
        outcomes: Outcomes that :func:`find_duplicates` marked.
        folder: Folder of all examples.
    """
    dropped: dict[str, set[bytes]] = collections.defaultdict(set)
    for outcome in outcomes:
        if outcome.examples and not outcome.used:
            dropped[outcome.shard].add(outcome.clip.clip_id.encode())
    for shard, clip_ids in dropped.items():
        path = posixpath.join(folder, shard)
        examples = list(tf.data.TFRecordDataset(path, compression_type="GZIP").as_numpy_iterator())
        _write(path, [example for example in examples if _clip_id_of(example) not in clip_ids])


def _clip_id_of(example: bytes) -> bytes:
    return tf.train.Example.FromString(example).features.feature[CLIP_ID].bytes_list.value[0]


def _write(path: str, examples: Iterable[bytes]) -> None:
    with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for example in examples:
            writer.write(example)


def _read(path: str, settings: IngestSettings) -> bytes:
    max_bytes = settings.limits.max_bytes
    try:
        data = read_bytes(path, max_bytes=max_bytes + 1)
    except OSError as error:
        raise BadAudio(AudioCode.UNREADABLE, f"cannot be read: {error}") from error
    FILE_SIZE.require(settings.limits, size=len(data))
    return data


def _peak(window: np.ndarray) -> float:
    return float(np.abs(window).max())


@functools.cache
def _windower(spec: AudioSpec) -> Callable[..., frontend.Window]:
    return tf.function(
        functools.partial(frontend.window_of_waveform, spec=spec),
        input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int64)],
    )


@functools.cache
def _extractor(spec: AudioSpec) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    def extract(windows: tf.Tensor, valid_samples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return features.extract(windows, valid_samples, spec), features.valid_frames(valid_samples, spec)

    return tf.function(
        extract,
        input_signature=[tf.TensorSpec([None, spec.window_samples], tf.float32), tf.TensorSpec([None], tf.int32)],
    )
