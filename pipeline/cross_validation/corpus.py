"""All recordings as training examples, ingested once, for experiments that split the speakers themselves.

The pipeline's own examples do not suffice, since only their training speakers have augmented copies.
"""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.audio_example_gen.corpora import Identified, identify
from components.audio_example_gen.executor import make_shards
from components.audio_example_gen.files import Folder
from components.audio_example_gen.ingestion import Outcome, Shard, WriteShard, drop_duplicates, find_duplicates
from components.audio_example_gen.patterns import level_patterns
from modules.audio.augmentation import PLAIN
from modules.common.arrays import ArrayOnDisk
from modules.common.code_fingerprint import code_fingerprint
from modules.common.digest import digest
from modules.common.files import write_whole
from modules.common.progress import Progress, shown
from modules.data import examples, preprocessing
from modules.data.clips import Clip
from modules.data.dataset import Split, empty_features, ordered_batches
from modules.data.labels import SPLITS
from modules.data.splits import TRAIN
from modules.data.statistics import Statistics
from pipeline.config import PipelineConfig

_CLIPS_FILE = "clips.json"
_COLUMNS_FILE = "columns.npz"
_FEATURES_FILE = "features.float32"
_STATISTICS_FILE = "statistics.npz"
_SHARDS = "shards"
_BATCH = 512
Normalise = Callable[[np.ndarray, np.ndarray], np.ndarray]

_TEXT = (examples.CLIP_ID, examples.SPEAKER, examples.CORPUS, examples.SEX, examples.INTENSITY, examples.AUGMENTATION)
_INTEGERS = (examples.EMOTION_ID, examples.VALID_FRAMES)
_NUMBERS = (examples.DURATION_SEC, examples.WINDOW_SEC, examples.SPEECH)
_COLUMNS = (*_TEXT, *_INTEGERS, *_NUMBERS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """Examples of every recording and of its augmented copies, ordered by clip and augmentation.

    Attributes:
        fingerprint: 16 hexadecimal digits that differ when recordings, settings or code of the ingestion do.
        emotions: Names of the emotions, in the order of a model's outputs.
        outcomes: Outcome of the ingestion for each recording.
        columns: Values by name of the feature, each of shape ``[examples]``.
        features: float32 of shape ``[examples, *feature_shape]``, not normalised.
        statistics: Statistics of the features by speaker.
    """

    fingerprint: str
    emotions: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    columns: dict[str, np.ndarray]
    features: ArrayOnDisk
    statistics: Statistics

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


def identified(config: PipelineConfig, *, data: Path) -> tuple[Clip, ...]:
    """Return the clips that the names of the recordings tell, before any is read.

    Args:
        config: Configuration.
        data: Folder of recordings.
    """
    return _identify(config, _recordings(config, data)).clips


def load(config: PipelineConfig, *, data: Path, folder: Path) -> Corpus:
    """Read the examples of a corpus; ingest the recordings first if that has not been done with this configuration.

    Args:
        config: Configuration.
        data: Folder of recordings.
        folder: Folder of ingested examples.

    Returns:
        The corpus.
    """
    recordings = _recordings(config, data)
    fingerprint = _fingerprint(config, recordings)
    ingested = folder / fingerprint
    if not (ingested / _CLIPS_FILE).exists():
        _ingest(config, recordings, ingested)
    outcomes = tuple(Outcome.from_json(line) for line in (ingested / _CLIPS_FILE).read_text().splitlines())
    return _read(config, fingerprint, outcomes, ingested)


def normaliser(config: PipelineConfig, corpus: Corpus, speakers: Iterable[str]) -> Normalise:
    """Return the pipeline's own preprocessing, with constants of some speakers' examples.

    Args:
        config: Configuration.
        corpus: All examples.
        speakers: Ids of the speakers.

    Returns:
        A function from features, float32 of shape ``[clips, *feature_shape]``, and their valid frames, int64 of shape
        ``[clips]``, to normalised features of the same shape.
    """
    if config.transform.normalisation == "none":
        return lambda features, valid_frames: features
    constants = corpus.statistics.constants(speakers, config.transform.normalisation)

    @tf.function
    def normalise(features: tf.Tensor, valid_frames: tf.Tensor) -> tf.Tensor:
        return preprocessing.normalise(features, valid_frames, constants, config.audio)

    return lambda features, valid_frames: normalise(features, valid_frames).numpy()


def split(corpus: Corpus, normalise: Normalise, positions: np.ndarray, *, max_bytes: float) -> Split:
    """Return examples in the form that training reads.

    Args:
        corpus: All examples.
        normalise: The result of :func:`normaliser`.
        positions: Positions of the examples, int64 of shape ``[examples]``.
        max_bytes: Size in bytes up to which the features are kept in memory.
    """
    columns = {name: values[positions] for name, values in corpus.columns.items()}
    features = empty_features((len(positions), *corpus.features.shape[1:]), max_bytes)
    for start in range(0, len(positions), _BATCH):
        rows = slice(start, start + _BATCH)
        frames = columns[examples.VALID_FRAMES][rows]
        features[rows] = normalise(corpus.features[positions[rows]], frames)
    return Split(
        features=features,
        valid_frames=columns[examples.VALID_FRAMES].astype(np.int32),
        emotion_ids=columns[examples.EMOTION_ID].astype(np.int32),
        speakers=columns[examples.SPEAKER],
        corpora=columns[examples.CORPUS],
        emotions=corpus.emotions,
    )


def _recordings(config: PipelineConfig, data: Path) -> Folder:
    return Folder(str(data.resolve()), level_patterns(config.ingest.pattern))


def _identify(config: PipelineConfig, recordings: Folder) -> Identified:
    return identify(recordings.paths(), read_text=recordings.read_text, labels=config.labels)


def _ingest(config: PipelineConfig, recordings: Folder, ingested: Path) -> None:
    """Ingest every clip as a training clip. The list of clips, written last, marks completion."""
    clips = _identify(config, recordings).clips
    shutil.rmtree(ingested, ignore_errors=True)
    folder = ingested / _SHARDS
    for name in SPLITS:
        (folder / f"Split-{name}").mkdir(parents=True)
    split_of = {clip.clip_id: TRAIN for clip in clips}
    shards = list(make_shards(clips, split_of, config.ingest_settings))
    emotions = config.labels.occurring(clip.emotion for clip in clips)
    write = WriteShard(recordings.root, str(folder), config.ingest_settings, emotions)
    outcomes = find_duplicates(_outcomes(write, shards, folder, workers=config.beam.workers))
    drop_duplicates(outcomes, folder=str(folder))
    _arrange(config, sorted(str(path) for path in folder.glob("Split-*/*.gz")), ingested)
    shutil.rmtree(folder)
    write_whole(ingested / _CLIPS_FILE, "".join(f"{outcome.to_json()}\n" for outcome in outcomes))


def _outcomes(write: WriteShard, shards: Sequence[Shard], folder: Path, *, workers: int) -> list[Outcome]:
    clips = sum(len(batch) for shard in shards for batch in shard.batches)
    progress = Progress("Ingesting", total=clips, unit="clips")
    if workers == 1:
        with shown(str(folder), progress):
            return [outcome for shard in shards for outcome in write.process(shard)]
    context = multiprocessing.get_context("spawn")  # TensorFlow's threads do not survive a fork
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        return [outcome for outcomes in _advancing(pool.map(_Process(write), shards), progress) for outcome in outcomes]


@dataclasses.dataclass(frozen=True)
class _Process:
    write: WriteShard

    def __call__(self, shard: Shard) -> list[Outcome]:
        return list(self.write.process(shard))


def _advancing(results: Iterable[list[Outcome]], progress: Progress) -> Iterator[list[Outcome]]:
    for outcomes in results:
        progress.advance(len(outcomes))
        yield outcomes


def _arrange(config: PipelineConfig, files: Sequence[str], ingested: Path) -> None:
    """Write the examples of the shards as arrays, in their order, and the statistics of their features."""
    spec = config.audio
    # An example of a shard holds a value of each of these.
    description = {name: tf.io.FixedLenFeature([], tf.string) for name in _TEXT}
    description |= {name: tf.io.FixedLenFeature([], tf.int64) for name in _INTEGERS}
    description |= {name: tf.io.FixedLenFeature([], tf.float32) for name in _NUMBERS}
    description[examples.FEATURES] = tf.io.FixedLenFeature(spec.feature_shape, tf.float32)
    count, batches = ordered_batches(files, description, list(description))
    features = ArrayOnDisk.create(ingested / _FEATURES_FILE, (count, *spec.feature_shape))
    columns = {name: np.empty(count, object) for name in _COLUMNS}
    statistics = Statistics(spec)
    for rows, batch in batches:
        features[rows] = batch[examples.FEATURES]
        statistics.add(batch[examples.FEATURES], batch[examples.VALID_FRAMES], _texts(batch[examples.SPEAKER]))
        for name, column in columns.items():
            column[rows] = batch[name]
    arrays: dict[str, Any] = {name: np.array(column.tolist()) for name, column in columns.items()}
    np.savez(ingested / _COLUMNS_FILE, allow_pickle=False, **arrays)
    statistics.save(ingested / _STATISTICS_FILE)


def _texts(encoded: np.ndarray) -> np.ndarray:
    """Return the texts of UTF-8 bytes, ``[clips]``. NumPy's own conversion takes ASCII alone."""
    return np.char.decode(encoded.astype(np.bytes_), "utf-8")


def _read(config: PipelineConfig, fingerprint: str, outcomes: tuple[Outcome, ...], ingested: Path) -> Corpus:
    with np.load(ingested / _COLUMNS_FILE) as archive:
        columns = {name: _texts(archive[name]) if name in _TEXT else archive[name] for name in _COLUMNS}
    return Corpus(
        fingerprint=fingerprint,
        emotions=config.labels.occurring(outcome.clip.emotion for outcome in outcomes),
        outcomes=outcomes,
        columns=columns,
        features=ArrayOnDisk.open(ingested / _FEATURES_FILE, config.audio.feature_shape),
        statistics=Statistics.load(ingested / _STATISTICS_FILE, config.audio),
    )


def _fingerprint(config: PipelineConfig, recordings: Folder) -> str:
    """Return a digest of the files' names, sizes and times of change, and of settings and code of the ingestion."""
    settings = json.loads(config.ingest_settings.to_json())
    del settings["splits"], settings["min_test_speakers"]
    stats = [(path, Path(recordings.root, path).stat()) for path in recordings.paths()]
    files = [(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats]
    code = code_fingerprint(WriteShard.__module__, __name__)
    return digest([settings, files, code])
