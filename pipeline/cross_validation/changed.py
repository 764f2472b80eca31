"""Predictions of changed recordings: each by the model of the fold that did not train on its speaker."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from modules.audio import frontend
from modules.audio.changes import Change, Voices, changed
from modules.audio.decoding import Recording, decode
from modules.common.code_fingerprint import code_fingerprint
from modules.common.digest import digest
from modules.common.files import write_whole
from modules.common.progress import Progress
from modules.data import examples
from modules.data.clips import Clip
from modules.evaluation.calibration import apply_temperature
from modules.evaluation.intervals import Predictions
from pipeline.cross_validation import run as cross_validation
from pipeline.cross_validation.run import FoldResult, Plan

Extracted = Mapping[str, tuple[np.ndarray, int]]
"""Features, float32 of the spec's shape and not normalised, and valid frames of each clip, by its id."""


class FoldModel:
    """Model of a fold with its normalisation and temperature."""

    def __init__(self, planned: Plan, result: FoldResult) -> None:
        """Load the weights.

        Args:
            planned: All folds.
            result: Result of the fold.
        """
        (fold,) = (fold for fold in planned.folds if fold.name == result.name)
        self._normalise = cross_validation.normaliser_of(planned, fold)
        self._model = cross_validation.trained_model(planned, fold)
        self._temperature = result.temperature
        self.clip_ids = result.clip_ids

    def __call__(self, features: np.ndarray, valid_frames: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities, float32 ``[clips, emotions]``.

        Args:
            features: float32 ``[clips, *feature_shape]``, not normalised.
            valid_frames: int ``[clips]``.
        """
        normalised = self._normalise(features, valid_frames)
        inputs = {examples.FEATURES: normalised, examples.VALID_FRAMES: valid_frames.astype(np.int32)}
        return apply_temperature(self._model.predict(inputs, batch_size=256, verbose=0), self._temperature)


class ChangedRecordings:
    """Predictions of the test recordings of all folds under changes. Each change's are kept in a file."""

    def __init__(self, planned: Plan, results: list[FoldResult], *, data: Path, folder: Path) -> None:
        """Store the arguments.

        Args:
            planned: The folds.
            results: Results of all folds.
            data: Folder of recordings.
            folder: Folder of the files of predictions.
        """
        self._planned, self._results, self._data, self._folder = planned, results, data, folder
        self._models: list[FoldModel] = []

    @property
    def as_recorded(self) -> Predictions:
        """Predictions of the recordings as they are, ordered by clip."""
        return cross_validation.predictions(self._planned, self._results)

    def path_of(self, name: str, change: Change) -> Path:
        """Return the path of a change's predictions, whose name depends on the change and the folds' models.

        Args:
            name: Name of the change, which tells its parameters apart.
            change: The change, whose code counts.
        """
        models = [self._planned.path_of(fold).name for fold in self._planned.folds]
        return self._folder / f"{digest([name, models, code_fingerprint(change.__module__)])}.json"

    def predict(self, name: str, change: Change, extracted: Extracted | None = None) -> Predictions:
        """Return the predictions under a change, ordered by clip.

        Args:
            name: Name of the change, in files and in the progress.
            change: The change.
            extracted: Result of :func:`extract` for this change; computed if needed.
        """
        path = self.path_of(name, change)
        if not path.exists():
            rows = self._rows(extracted or extract(self._planned, self._data, name, change))
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(rows))
        stored = json.loads(path.read_text())
        clean = self.as_recorded
        return Predictions.of(
            clean.labels, np.array([stored[clip] for clip in sorted(stored)]), clean.speakers.tolist()
        )

    def _rows(self, extracted: Extracted) -> dict[str, list[float]]:
        self._models = self._models or [FoldModel(self._planned, result) for result in self._results]
        rows: dict[str, list[float]] = {}
        for model in self._models:
            arrays, frames = zip(*(extracted[clip] for clip in model.clip_ids), strict=True)
            rows |= zip(model.clip_ids, model(np.stack(arrays), np.array(frames)).tolist(), strict=True)
        return rows


def extract(planned: Plan, data: Path, name: str, change: Change) -> Extracted:
    """Return features and valid frames of every clip under a change, as the served model computes them.

    Args:
        planned: Plan with the clips and the audio spec.
        data: Folder of recordings.
        name: Name of the change, for the progress.
        change: The change. A clip has the same noise in every run.
    """
    spec = planned.config.audio

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)])
    def features_of(samples: tf.Tensor, rate_hz: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return frontend.features_of_waveform(samples, rate_hz, spec)

    clips = [outcome.clip for outcome in planned.corpus.outcomes if outcome.used]

    def read(clip: Clip) -> Recording:
        return decode((data / clip.path).read_bytes(), planned.config.limits)

    voices = Voices({clip.speaker: read(clip) for clip in reversed(clips)})
    progress, extracted = Progress(f"Extract  {name}", total=len(clips), unit="clips"), {}
    for clip in clips:
        recording = read(clip)
        rate_hz = recording.sample_rate_hz
        others = voices.without(clip.speaker, rate_hz)
        features, frames = features_of(*changed(recording.samples, rate_hz, change, key=clip.clip_id, voices=others))
        extracted[clip.clip_id] = features.numpy(), int(frames)
        progress.advance()
    return extracted
