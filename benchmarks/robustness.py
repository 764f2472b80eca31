"""Results on recordings of lower quality than the training data: ``python -m benchmarks.robustness --data DIR``.

``--encoder`` evaluates the default family, with and without augmented copies, in place of the rows of the ablation.

Folds and models are those of ``benchmarks.ablation`` and of ``ser evaluate``; missing models are trained. Each model
predicts its test speakers' recordings, which are changed before any other step. Results of conditions are files below
``--root``, so that a stopped run resumes.
"""

import dataclasses
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import command, document
from benchmarks.ablation import RECIPE, make_parser, plan_rows, rows_of, shown
from modules.audio.augmentation import telephone
from modules.audio.augmentation.excerpt import start_of_sound
from modules.audio.augmentation.mixing import mix
from modules.common.digest import digest
from modules.common.files import write_whole
from modules.evaluation.intervals import Predictions, estimates, paired_differences

if TYPE_CHECKING:
    from modules.audio.decoding import Recording
    from modules.data.clips import Clip
    from pipeline.cross_validation.run import FoldResult, Plan

ORIGINAL = "original_cnn"

_PARTS_IN_A_TABLE = 3
BABBLE_VOICES = 5
CHORD_SEC = 0.5

ENCODER = "training.family=encoder_cnn"
ENCODER_ROWS = {"`encoder_cnn`": (ENCODER,), "trained on plain clips": (ENCODER, "augmentation.variants=[plain]")}

Sound = tuple[np.ndarray, int]
Extracted = dict[str, tuple[np.ndarray, int]]
"""Features and valid frames of each clip."""


@dataclasses.dataclass(frozen=True)
class Place:
    """What a change may use in addition to the recording.

    Attributes:
        rng: Generator of the clip.
        voices: Recordings of other speakers at the recording's rate, each float ``[samples]``.
    """

    rng: np.random.Generator
    voices: Sequence[np.ndarray] = ()


Change = Callable[[np.ndarray, int, Place], Sound]


def unchanged(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
    """Return the samples, float ``[samples]``, and their rate in Hz as they are."""
    return samples, rate_hz


def with_noise(snr_db: float) -> Change:
    """Return a change that adds white noise; the power is relative to that of the whole recording."""

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        return mix(samples, place.rng.standard_normal(len(samples)), snr_db), rate_hz

    return change


def with_babble(snr_db: float) -> Change:
    """Return a change that adds five other speakers at once."""

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        chosen = place.rng.choice(len(place.voices), BABBLE_VOICES, replace=False)
        voices = [np.resize(place.voices[number], len(samples)) for number in chosen]
        return mix(samples, sum(voice / np.std(voice) for voice in voices), snr_db), rate_hz

    return change


def with_music(snr_db: float) -> Change:
    """Return a change that adds plucked major chords on random roots."""

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        chords = [_chord(rate_hz, place.rng) for _ in range(1 + len(samples) // round(CHORD_SEC * rate_hz))]
        return mix(samples, np.concatenate(chords)[: len(samples)], snr_db), rate_hz

    return change


def _chord(rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    time_sec = np.arange(round(CHORD_SEC * rate_hz)) / rate_hz
    notes_hz = 110 * 2 ** (rng.integers(24) / 12) * np.array([1, 5 / 4, 3 / 2, 2])
    harmonics = np.arange(1, 5)
    phases = 2 * np.pi * notes_hz[:, None, None] * harmonics[:, None] * time_sec
    return (np.sin(phases) / harmonics[:, None]).sum(axis=(0, 1)) * np.exp(-3 * time_sec)


def with_gain(gain_db: float) -> Change:
    """Return a change of the gain, with clipping at full scale."""

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        return np.clip(samples * 10 ** (gain_db / 20), -1, 1), rate_hz

    return change


def over_the_telephone(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
    """Return samples from 300 to 3400 Hz at 8 kHz, by a Butterworth band-pass of order 8."""
    return telephone.in_band(samples, rate_hz), telephone.RATE_HZ


def after_silence(silence_sec: float) -> Change:
    """Return a change that adds silence before the recording."""

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        return np.concatenate([np.zeros(round(silence_sec * rate_hz)), samples]), rate_hz

    return change


def first_part(length_sec: float) -> Change:
    """Return a change that keeps the start of the recording."""

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        return samples[: round(length_sec * rate_hz)], rate_hz

    return change


def one_second_of_speech(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
    """Return the second that follows the first 10 ms within 30 dB of the loudest 10 ms."""
    start = start_of_sound(samples, rate_hz)
    return samples[start : start + rate_hz], rate_hz


CONDITIONS: dict[str, Change] = {
    "as recorded": unchanged,
    "white noise, 20 dB SNR": with_noise(20),
    "white noise, 10 dB SNR": with_noise(10),
    "white noise, 0 dB SNR": with_noise(0),
    "babble, 20 dB SNR": with_babble(20),
    "babble, 10 dB SNR": with_babble(10),
    "music, 20 dB SNR": with_music(20),
    "music, 10 dB SNR": with_music(10),
    "6 dB louder": with_gain(6),
    "6 dB softer": with_gain(-6),
    "telephone band": over_the_telephone,
    "0.5 s of silence before": after_silence(0.5),
    "the first second alone": first_part(1),
    "one second of speech": one_second_of_speech,
}


def changed(
    samples: np.ndarray, rate_hz: int, condition: str, clip_id: str, voices: Sequence[np.ndarray] = ()
) -> Sound:
    """Return a recording under a condition; a clip has the same noise in every run.

    Args:
        samples: float32 ``[samples]``.
        rate_hz: Sample rate.
        condition: Key of :data:`CONDITIONS`.
        clip_id: Identifier of the clip, the seed of the noise.
        voices: Recordings of other speakers at the same rate, for babble.

    Returns:
        float32 samples and their rate in Hz.
    """
    place = Place(np.random.default_rng(zlib.crc32(clip_id.encode())), voices)
    result, result_rate_hz = CONDITIONS[condition](samples, rate_hz, place)
    return result.astype(np.float32), result_rate_hz


def predict(plans: Mapping[str, "Plan"], data: Path, folder: Path) -> dict[str, dict[str, Predictions]]:
    """Return predictions of every clip by row of the ablation and by condition.

    The model of each clip was not trained on its speaker.
    """
    from pipeline.cross_validation import run as cross_validation

    folder.mkdir(parents=True, exist_ok=True)
    results = {name: list(cross_validation.results(planned)) for name, planned in plans.items()}
    as_recorded = {name: cross_validation.predictions(plans[name], folds) for name, folds in results.items()}
    models: dict[str, list[FoldModel]] = {}
    answers: dict[str, dict[str, Predictions]] = {name: {} for name in plans}
    for condition in CONDITIONS:
        extracted: dict[str, Extracted] = {}  # by audio spec, which rows may share
        for name, planned in plans.items():
            path = folder / _file_name(planned, condition)
            if not path.exists():
                spec = planned.config.audio.fingerprint
                extracted[spec] = extracted.get(spec) or _extract(planned, data, condition)
                models[name] = models.get(name) or [FoldModel(planned, result) for result in results[name]]
                write_whole(path, json.dumps(_answers(models[name], extracted[spec])))
            rows = json.loads(path.read_text())
            probabilities = np.array([rows[clip] for clip in sorted(rows)])
            labels, speakers = as_recorded[name].labels, as_recorded[name].speakers
            answers[name][condition] = Predictions.of(labels, probabilities, speakers.tolist())
    return answers


class FoldModel:
    """Model of a fold with its normalisation and temperature."""

    def __init__(self, planned: "Plan", result: "FoldResult") -> None:
        from pipeline.cross_validation import run as cross_validation

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
        from modules.data import examples
        from modules.evaluation.calibration import apply_temperature

        normalised = self._normalise(features, valid_frames)
        inputs = {examples.FEATURES: normalised, examples.VALID_FRAMES: valid_frames.astype(np.int32)}
        return apply_temperature(self._model.predict(inputs, batch_size=256, verbose=0), self._temperature)


def _answers(models: list[FoldModel], extracted: Extracted) -> dict[str, list[float]]:
    rows: dict[str, list[float]] = {}
    for model in models:
        arrays, frames = zip(*(extracted[clip] for clip in model.clip_ids), strict=True)
        rows |= zip(model.clip_ids, model(np.stack(arrays), np.array(frames)).tolist(), strict=True)
    return rows


def _extract(planned: "Plan", data: Path, condition: str) -> Extracted:
    """Return features and valid frames of every clip under the condition, as the served model computes them."""
    import tensorflow as tf

    from modules.audio import frontend
    from modules.audio.decoding import decode
    from modules.common.progress import Progress

    spec = planned.config.audio

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)])
    def extract(samples: tf.Tensor, rate_hz: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return frontend.features_of_waveform(samples, rate_hz, spec)

    clips = [outcome.clip for outcome in planned.corpus.outcomes if outcome.used]

    def read(clip: "Clip") -> "Recording":
        return decode((data / clip.path).read_bytes(), planned.config.limits)

    spoken = {clip.speaker: read(clip) for clip in reversed(clips)}
    progress, extracted = Progress(f"Extract  {condition}", total=len(clips), unit="clips"), {}
    for clip in clips:
        recording = read(clip)
        rate_hz = recording.sample_rate_hz
        voices = [voice.samples for speaker, voice in sorted(spoken.items()) if speaker != clip.speaker]
        features, frames = extract(*changed(recording.samples, rate_hz, condition, clip.clip_id, voices))
        extracted[clip.clip_id] = features.numpy(), int(frames)
        progress.advance()
    return extracted


def _file_name(planned: "Plan", condition: str) -> str:
    """Return a name that depends on the condition and the models of the folds."""
    return f"{digest([condition, [planned.path_of(fold).name for fold in planned.folds]])}.json"


def families_table(recipe: Mapping[str, Predictions], original: Mapping[str, Predictions]) -> str:
    """Return UAR of the recipe and of the original network by condition.

    Args:
        recipe: Predictions of the recipe by condition.
        original: Predictions of the original network by condition.
    """
    heads = ["", "recipe: UAR %", f"{shown(ORIGINAL)}: UAR %", "difference"]
    lines = [
        [condition, _uar(recipe[condition]), _uar(original[condition]), _difference(recipe, original, condition)]
        for condition in recipe
    ]
    return document.table(heads, lines)


def encoder_table(predictions: Mapping[str, Mapping[str, Predictions]]) -> str:
    """Return UAR of the rows of :data:`ENCODER_ROWS` by condition, and the difference to the recordings as they are.

    Args:
        predictions: Predictions by row and condition.
    """
    first, plain = predictions.values()
    lines = [
        [condition, _uar(first[condition]), _loss(first, condition), _uar(plain[condition]), _loss(plain, condition)]
        for condition in first
    ]
    names = list(predictions)
    return document.table(["", f"{names[0]}: UAR %", "loss", f"{names[1]}: UAR %", "loss"], lines)


def _loss(predictions: Mapping[str, Predictions], condition: str) -> str:
    clean = next(iter(predictions.values()))
    return document.points(paired_differences(predictions[condition], clean, ("uar",))["uar"])


def parts_table(recipe: Mapping[str, Predictions], others: Mapping[str, Mapping[str, Predictions]]) -> str:
    """Return the recipe's UAR minus that of other rows, by condition, in tables of three rows each.

    Args:
        recipe: Predictions of the recipe by condition.
        others: Predictions of other rows by condition.
    """
    tables, parts = [], list(others)
    for first in range(0, len(parts), _PARTS_IN_A_TABLE):
        names = parts[first : first + _PARTS_IN_A_TABLE]
        lines = [[condition, *(_difference(recipe, others[name], condition) for name in names)] for condition in recipe]
        tables.append(document.table(["recipe less", *names], lines))
    return "\n".join(tables)


def _uar(predictions: Predictions) -> str:
    return document.percent_with_range(estimates(predictions, ("uar",))["uar"])


def _difference(recipe: Mapping[str, Predictions], other: Mapping[str, Predictions], condition: str) -> str:
    return document.points(paired_differences(recipe[condition], other[condition], ("uar",))["uar"])


def main() -> None:
    """Evaluate every condition and print the tables."""
    parser = make_parser(__doc__, seeds=False)
    parser.add_argument("--encoder", action="store_true", help="evaluate the family over an encoder instead")
    options = parser.parse_args()
    rows = ENCODER_ROWS if options.encoder else rows_of((*options.rows, ORIGINAL), seeds=1)
    with command.run_folder(options.root):
        plans = dict(plan_rows(rows, options.data, options.root))
        predictions = predict(plans, options.data, options.root / "robustness")
    if options.encoder:
        command.publish({"robustness of the encoder": encoder_table(predictions)}, options.write)
        return
    recipe, original = predictions.pop(RECIPE), predictions.pop(ORIGINAL)
    tables = {"robustness": families_table(recipe, original), "robustness of parts": parts_table(recipe, predictions)}
    command.publish(tables, options.write, keep_rows=options.keep_rows)


if __name__ == "__main__":
    main()
