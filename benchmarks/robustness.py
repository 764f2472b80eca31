"""How models fare on recordings worse than those they learned from: ``python -m benchmarks.robustness --data DIR``.

The folds are those of ``benchmarks.ablation`` and of ``ser evaluate``, and so are their models, which are trained where
there are none yet. Each is asked about its test speakers' recordings, changed before anything else is done to them.
What a condition gave is a file below ``--root``, so a run that was stopped goes on where it was.
"""

import argparse
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import soxr
from scipy import signal

from benchmarks import document
from benchmarks.ablation import FOLDS, RECIPE, add_options, rows_of, shown
from modules.common.digest import digest
from modules.common.files import write_whole
from modules.evaluation.intervals import Predictions, estimates, paired_differences

if TYPE_CHECKING:
    from pipeline.cross_validation.run import FoldResult, Plan

ORIGINAL = "original_cnn"

TELEPHONE_RATE_HZ = 8000
TELEPHONE_BAND_HZ = (300, 3400)

Sound = tuple[np.ndarray, int]
Heard = dict[str, tuple[np.ndarray, int]]
"""Features and valid frames of each clip."""

Change = Callable[[np.ndarray, int, np.random.Generator], Sound]


def unchanged(samples: np.ndarray, rate_hz: int, rng: np.random.Generator) -> Sound:
    return samples, rate_hz


def with_noise(snr_db: float) -> Change:
    """White noise, its power relative to that of the whole recording."""

    def change(samples: np.ndarray, rate_hz: int, rng: np.random.Generator) -> Sound:
        deviation = np.sqrt(np.mean(samples.astype(np.float64) ** 2)) * 10 ** (-snr_db / 20)
        return samples + deviation * rng.standard_normal(len(samples)), rate_hz

    return change


def with_difference(gain_db: float) -> Change:
    """Cut off at full scale, as a recorder does it."""

    def change(samples: np.ndarray, rate_hz: int, rng: np.random.Generator) -> Sound:
        return np.clip(samples * 10 ** (gain_db / 20), -1, 1), rate_hz

    return change


def over_the_telephone(samples: np.ndarray, rate_hz: int, rng: np.random.Generator) -> Sound:
    """300 to 3400 Hz at 8 kHz, by a Butterworth band-pass of order 8."""
    narrow = soxr.resample(samples, rate_hz, TELEPHONE_RATE_HZ)
    band = signal.butter(4, TELEPHONE_BAND_HZ, btype="bandpass", fs=TELEPHONE_RATE_HZ, output="sos")
    return signal.sosfilt(band, narrow), TELEPHONE_RATE_HZ


def after_silence(silence_sec: float) -> Change:
    def change(samples: np.ndarray, rate_hz: int, rng: np.random.Generator) -> Sound:
        return np.concatenate([np.zeros(round(silence_sec * rate_hz)), samples]), rate_hz

    return change


def first_part(length_sec: float) -> Change:
    def change(samples: np.ndarray, rate_hz: int, rng: np.random.Generator) -> Sound:
        return samples[: round(length_sec * rate_hz)], rate_hz

    return change


CONDITIONS: dict[str, Change] = {
    "as recorded": unchanged,
    "white noise, 20 dB SNR": with_noise(20),
    "white noise, 10 dB SNR": with_noise(10),
    "white noise, 0 dB SNR": with_noise(0),
    "6 dB louder": with_difference(6),
    "6 dB softer": with_difference(-6),
    "telephone band": over_the_telephone,
    "0.5 s of silence before": after_silence(0.5),
    "the first second alone": first_part(1),
}


def changed(samples: np.ndarray, rate_hz: int, condition: str, clip_id: str) -> Sound:
    """A recording under a condition; the same clip gets the same noise in every run.

    Args:
        samples: float32 ``[samples]``.

    Returns:
        float32 samples and their rate in Hz.
    """
    rng = np.random.default_rng(zlib.crc32(clip_id.encode()))
    result, result_rate_hz = CONDITIONS[condition](samples, rate_hz, rng)
    return result.astype(np.float32), result_rate_hz


def ask(plans: Mapping[str, "Plan"], data: Path, folder: Path) -> dict[str, dict[str, Predictions]]:
    """Predictions of every clip, by row of the ablation and by condition.

    Each clip is judged by the one model that had not heard its speaker.
    """
    from pipeline.cross_validation import run as cross_validation

    folder.mkdir(parents=True, exist_ok=True)
    results = {name: list(cross_validation.results(planned)) for name, planned in plans.items()}
    as_recorded = {name: cross_validation.predictions(plans[name], found) for name, found in results.items()}
    models: dict[str, list[_FoldModel]] = {}
    answers: dict[str, dict[str, Predictions]] = {name: {} for name in plans}
    for condition in CONDITIONS:
        heard: dict[str, Heard] = {}  # by audio spec, which rows may share
        for name, planned in plans.items():
            path = folder / _file_name(planned, condition)
            if not path.exists():
                spec = planned.config.audio.fingerprint
                heard[spec] = heard.get(spec) or _hear(planned, data, condition)
                models[name] = models.get(name) or [_FoldModel(planned, result) for result in results[name]]
                write_whole(path, json.dumps(_answers(models[name], heard[spec])))
            asked = json.loads(path.read_text())
            probabilities = np.array([asked[clip] for clip in sorted(asked)])
            labels, speakers = as_recorded[name].labels, as_recorded[name].speakers
            answers[name][condition] = Predictions.of(labels, probabilities, speakers.tolist())
    return answers


class _FoldModel:
    """A fold's model behind its normalisation, in front of its temperature."""

    def __init__(self, planned: "Plan", result: "FoldResult") -> None:
        from pipeline.cross_validation import run as cross_validation

        (fold,) = (fold for fold in planned.folds if fold.name == result.name)
        self._normalise = cross_validation.normaliser_of(planned, fold)
        self._model = cross_validation.trained_model(planned, fold)
        self._temperature = result.temperature
        self.clip_ids = result.clip_ids

    def __call__(self, features: np.ndarray, valid_frames: np.ndarray) -> np.ndarray:
        from modules.data import examples
        from modules.evaluation.calibration import apply_temperature

        normalised = self._normalise(features, valid_frames)
        inputs = {examples.FEATURES: normalised, examples.VALID_FRAMES: valid_frames.astype(np.int32)}
        return apply_temperature(self._model.predict(inputs, batch_size=256, verbose=0), self._temperature)


def _answers(models: list[_FoldModel], heard: Heard) -> dict[str, list[float]]:
    rows: dict[str, list[float]] = {}
    for model in models:
        arrays, frames = zip(*(heard[clip] for clip in model.clip_ids), strict=True)
        rows |= zip(model.clip_ids, model(np.stack(arrays), np.array(frames)).tolist(), strict=True)
    return rows


def _hear(planned: "Plan", data: Path, condition: str) -> Heard:
    """Features and valid frames of every clip under the condition, through the path that the served model has."""
    import tensorflow as tf

    from modules.audio import frontend
    from modules.audio.decoding import decode
    from modules.common.progress import Progress

    spec = planned.config.audio

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)])
    def extract(samples: tf.Tensor, rate_hz: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return frontend.features_of_waveform(samples, rate_hz, spec)

    clips = [outcome.clip for outcome in planned.corpus.outcomes if outcome.used]
    progress, found = Progress(f"Hearing  {condition}", total=len(clips), unit="clips"), {}
    for clip in clips:
        recording = decode((data / clip.path).read_bytes(), planned.config.limits)
        features, frames = extract(*changed(recording.samples, recording.sample_rate_hz, condition, clip.clip_id))
        found[clip.clip_id] = features.numpy(), int(frames)
        progress.advance()
    return found


def _file_name(planned: "Plan", condition: str) -> str:
    """Return a name that depends on the condition and the models of the folds."""
    return f"{digest([condition, [planned.path_of(fold).name for fold in planned.folds]])}.json"


def families_table(recipe: Mapping[str, Predictions], original: Mapping[str, Predictions]) -> str:
    """UAR of the recipe and of the original network by condition.

    Args:
        recipe: Predictions by condition, as of ``original``.
    """
    heads = ["", "recipe: UAR %", "interval", f"{shown(ORIGINAL)}: UAR %", "interval", "difference"]
    lines = [
        [condition, *_uar(recipe[condition]), *_uar(original[condition]), _difference(recipe, original, condition)]
        for condition in recipe
    ]
    return document.table(heads, lines)


def parts_table(recipe: Mapping[str, Predictions], others: Mapping[str, Mapping[str, Predictions]]) -> str:
    """What the recipe's UAR has over that of other rows, by condition.

    Args:
        recipe: Predictions by condition.
        others: The same by row.
    """
    lines = [[condition, *(_difference(recipe, other, condition) for other in others.values())] for condition in recipe]
    return document.table(["recipe less", *others], lines)


def _uar(predictions: Predictions) -> tuple[str, str]:
    uar = estimates(predictions, ("uar",))["uar"]
    return document.percent(float(uar.value)), document.percent_range(float(uar.low), float(uar.high))


def _difference(recipe: Mapping[str, Predictions], other: Mapping[str, Predictions], condition: str) -> str:
    return document.points(paired_differences(recipe[condition], other[condition], ("uar",))["uar"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, seeds=False)
    options = parser.parse_args()

    from pipeline.config import load_config
    from pipeline.cross_validation import run as cross_validation  # all of these take seconds
    from pipeline.run_lock import LOG_FILE, exclusive
    from pipeline.run_log import quiet

    with quiet(options.root / LOG_FILE), exclusive(options.root):
        plans = {
            name: cross_validation.plan(
                load_config(overrides=overrides), data=options.data, root=options.root, folds=FOLDS
            )
            for name, overrides in rows_of((*options.rows, ORIGINAL), seeds=1).items()
        }
        found = ask(plans, options.data, options.root / "robustness")
    recipe, original = found.pop(RECIPE), found.pop(ORIGINAL)
    tables = {"robustness": families_table(recipe, original), "robustness of parts": parts_table(recipe, found)}
    print("\n".join(tables.values()))
    if options.write:
        for name, text in tables.items():
            document.write(options.write, name, text)


if __name__ == "__main__":
    main()
