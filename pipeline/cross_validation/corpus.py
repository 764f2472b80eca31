"""All recordings as training examples, ingested once, for experiments that split the speakers themselves.

The pipeline's own examples do not suffice, since only their training speakers have augmented copies.
"""

import dataclasses
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tfx_bsl.public import tfxio

import schema
from components.audio_example_gen.component import level_patterns
from components.audio_example_gen.corpora import identify
from components.audio_example_gen.executor import make_shards
from components.audio_example_gen.files import Folder
from components.audio_example_gen.ingestion import Outcome, Shard, WriteShard, drop_duplicates, find_duplicates
from modules.audio.augmentation import PLAIN
from modules.common.code_fingerprint import code_fingerprint
from modules.common.digest import digest
from modules.common.files import write_whole
from modules.common.progress import Progress, shown
from modules.data import examples, preprocessing
from modules.data.dataset import Split
from modules.data.labels import SPLITS
from modules.data.splits import TRAIN
from pipeline.config import PipelineConfig

_CLIPS_FILE = "clips.json"
_BATCH = 512
Normalise = Callable[[np.ndarray, np.ndarray], np.ndarray]

_TEXT = (examples.CLIP_ID, examples.SPEAKER, examples.CORPUS, examples.SEX, examples.INTENSITY, examples.AUGMENTATION)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """Examples of every recording and of its augmented copies, ordered by clip and augmentation.

    Attributes:
        fingerprint: 16 hexadecimal digits that differ when recordings, settings or code of the ingestion do.
        outcomes: Outcome of the ingestion for each recording.
        serialized: ``tf.Example`` bytes.
        columns: Values by name of the feature, each of shape ``[examples]``.
        features: float32 of shape ``[examples, *feature_shape]``, not normalised.
    """

    fingerprint: str
    outcomes: tuple[Outcome, ...]
    serialized: tuple[bytes, ...]
    columns: dict[str, np.ndarray]
    features: np.ndarray

    def of(self, speakers: Iterable[str], *, plain: bool) -> np.ndarray:
        """Return the positions of some speakers' examples, int64 of shape ``[examples of the speakers]``.

        Args:
            speakers: Ids of the speakers.
            plain: Whether augmented copies are left out.
        """
        chosen = np.isin(self.columns[examples.SPEAKER], list(speakers))
        if plain:
            chosen &= self.columns[examples.AUGMENTATION] == PLAIN
        return np.flatnonzero(chosen)


def load(config: PipelineConfig, *, data: Path, folder: Path) -> Corpus:
    """Read the examples of a corpus; ingest the recordings first if that has not been done with this configuration.

    Args:
        config: Configuration.
        data: Folder of recordings.
        folder: Folder of ingested examples.

    Returns:
        The corpus.
    """
    recordings = Folder(str(data.resolve()), level_patterns(config.ingest.pattern))
    fingerprint = _fingerprint(config, recordings)
    ingested = folder / fingerprint
    if not (ingested / _CLIPS_FILE).exists():
        _ingest(config, recordings, ingested)
    outcomes = tuple(Outcome.from_json(line) for line in (ingested / _CLIPS_FILE).read_text().splitlines())
    return _read(config, fingerprint, outcomes, ingested)


def normaliser(config: PipelineConfig, corpus: Corpus, train: np.ndarray, folder: Path) -> Normalise:
    """Return the pipeline's own preprocessing, with constants learned on ``train`` alone.

    Args:
        config: Configuration.
        corpus: All examples.
        train: Positions of the examples to learn from, int64 of shape ``[examples]``.
        folder: Cache of learned constants.

    Returns:
        A function from features, float32 of shape ``[clips, *feature_shape]``, and their valid frames, int64 of shape
        ``[clips]``, to normalised features of the same shape.
    """
    settings = preprocessing.transform_config(config.audio, config.transform.normalisation)
    code = code_fingerprint(preprocessing.__name__)
    graph_dir = folder / digest([settings, corpus.fingerprint, train.tolist(), code])
    if not graph_dir.exists():
        _learn(config, [corpus.serialized[index] for index in train], settings, graph_dir)
    transform = tft.TFTransformOutput(str(graph_dir))

    @tf.function
    def apply(features: tf.Tensor, valid_frames: tf.Tensor) -> tf.Tensor:
        inputs = {examples.FEATURES: features, examples.VALID_FRAMES: valid_frames}
        return transform.transform_raw_features(inputs)[examples.FEATURES]

    def normalise(features: np.ndarray, valid_frames: np.ndarray) -> np.ndarray:
        starts = range(0, len(features), _BATCH)
        parts = [apply(features[start : start + _BATCH], valid_frames[start : start + _BATCH]) for start in starts]
        return np.concatenate([part.numpy() for part in parts])

    return normalise


def _learn(config: PipelineConfig, serialized: list[bytes], settings: dict[str, str], graph_dir: Path) -> None:
    source = tfxio.TFExampleBeamRecord(
        physical_format="inmem", telemetry_descriptors=["ser"], schema=schema.load(config.audio)
    )
    preprocess = functools.partial(preprocessing.preprocessing_fn, custom_config=settings)
    graph_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=graph_dir.parent, prefix=".") as scratch:
        with (
            beam.Pipeline("FnApiRunner") as pipeline,
            tft_beam.Context(temp_dir=f"{scratch}/temp", force_tf_compat_v1=False),
        ):
            batches = pipeline | beam.Create(serialized) | source.BeamSource(_BATCH)
            learned = (batches, source.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(preprocess)
            _ = learned | tft_beam.WriteTransformFn(f"{scratch}/graph")
        Path(scratch, "graph").rename(graph_dir)


def split(corpus: Corpus, normalise: Normalise, positions: np.ndarray) -> Split:
    """Return examples in the form that training reads.

    Args:
        corpus: All examples.
        normalise: The result of :func:`normaliser`.
        positions: Positions of the examples, int64 of shape ``[examples]``.
    """
    columns = {name: values[positions] for name, values in corpus.columns.items()}
    return Split(
        features=normalise(corpus.features[positions], columns[examples.VALID_FRAMES]),
        valid_frames=columns[examples.VALID_FRAMES].astype(np.int32),
        emotion_ids=columns[examples.EMOTION_ID].astype(np.int32),
        speakers=columns[examples.SPEAKER],
    )


def _ingest(config: PipelineConfig, recordings: Folder, ingested: Path) -> None:
    """Ingest every clip as a training clip, in this process. The list of clips, written last, marks completion."""
    identified = identify(recordings.paths(), read_text=recordings.read_text, labels=config.labels)
    shutil.rmtree(ingested, ignore_errors=True)
    for name in SPLITS:
        (ingested / f"Split-{name}").mkdir(parents=True)
    split_of = {clip.clip_id: TRAIN for clip in identified.clips}
    shards = list(make_shards(identified.clips, split_of, config.ingest_settings))
    clips = sum(len(batch) for shard in shards for batch in shard.batches)
    with shown(str(ingested), Progress("Ingesting", total=clips, unit="clips")):
        outcomes = find_duplicates(_outcomes(config, recordings, shards, ingested))
    drop_duplicates(outcomes, folder=str(ingested))
    write_whole(ingested / _CLIPS_FILE, "".join(f"{outcome.to_json()}\n" for outcome in outcomes))


def _outcomes(config: PipelineConfig, recordings: Folder, shards: list[Shard], ingested: Path) -> list[Outcome]:
    write = WriteShard(recordings.root, str(ingested), config.ingest_settings)
    return [outcome for shard in shards for outcome in write.process(shard)]


def _read(config: PipelineConfig, fingerprint: str, outcomes: tuple[Outcome, ...], ingested: Path) -> Corpus:
    spec = config.audio
    files = sorted(str(path) for path in ingested.glob("Split-*/*.gz"))
    serialized = list(tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())
    description = {name: tf.io.FixedLenFeature([], tf.string) for name in _TEXT}
    description |= {name: tf.io.FixedLenFeature([], tf.int64) for name in (examples.EMOTION_ID, examples.VALID_FRAMES)}
    description[examples.DURATION_SEC] = tf.io.FixedLenFeature([], tf.float32)
    description[examples.FEATURES] = tf.io.FixedLenFeature(spec.feature_shape, tf.float32)
    parsed = {name: column.numpy() for name, column in tf.io.parse_example(serialized, description).items()}
    columns = {name: column.astype(np.str_) if name in _TEXT else column for name, column in parsed.items()}
    order = np.lexsort((columns[examples.AUGMENTATION], columns[examples.CLIP_ID]))
    features = columns.pop(examples.FEATURES)
    return Corpus(
        fingerprint=fingerprint,
        outcomes=outcomes,
        serialized=tuple(serialized[index] for index in order),
        columns={name: column[order] for name, column in columns.items()},
        features=features[order],
    )


def _fingerprint(config: PipelineConfig, recordings: Folder) -> str:
    """Return a digest of the files' names, sizes and times of change, and of settings and code of the ingestion."""
    settings = json.loads(config.ingest_settings.to_json())
    del settings["splits"]
    stats = [(path, Path(recordings.root, path).stat()) for path in recordings.paths()]
    files = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    code = code_fingerprint(WriteShard.__module__)
    return digest([settings, files, code])
