"""Rules for the answer to a whole recording: ``python -m benchmarks.whole_recordings --data DIR``.

Recordings are made of three clips of one speaker and one emotion, after silence and with pauses. Folds and models are
those of ``ser evaluate``: each recording is answered by the model that was not trained on its speaker.
"""

import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import command, document
from benchmarks.robustness import ENCODER
from modules.audio.decoding import decode
from modules.evaluation.intervals import Predictions, estimates, paired_differences

if TYPE_CHECKING:
    import tensorflow as tf

    from modules.audio.spec import AudioSpec
    from modules.data.clips import Clip
    from pipeline.cross_validation.run import Plan

CLIPS = 3
_SILENCE_SEC, _PAUSE_SEC = (0.0, 8.0), (0.5, 3.0)
_DITHER = 1 / 32768

Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Function of the windows' probabilities, ``[windows, emotions]``, and speech, ``[windows]``, to the answer."""

RULES: dict[str, Rule] = {
    "mean by speech": lambda each, speech: np.average(each, axis=0, weights=np.maximum(speech, 1e-6)),
    "first window": lambda each, speech: each[0],
    "mean": lambda each, speech: each.mean(axis=0),
    "window with most speech": lambda each, speech: each[np.argmax(speech)],
}
"""The first one is that of the served model."""


class Joined(NamedTuple):
    """A recording made of clips.

    Attributes:
        clips: Clips of one speaker and one emotion.
        samples: float32 ``[samples]``.
        rate_hz: Sample rate.
    """

    clips: tuple["Clip", ...]
    samples: np.ndarray
    rate_hz: int


def join(clips: Sequence["Clip"], data: Path) -> Joined:
    """Return the clips as one recording, with dither where nobody speaks."""
    rng = np.random.default_rng(zlib.crc32(clips[0].clip_id.encode()))
    sounds = [decode((data / clip.path).read_bytes()) for clip in clips]
    rate_hz = sounds[0].sample_rate_hz
    parts = []
    for number, sound in enumerate(sounds):
        length_sec = rng.uniform(*(_PAUSE_SEC if number else _SILENCE_SEC))
        parts += [_DITHER * rng.uniform(-1, 1, round(length_sec * rate_hz)), sound.samples]
    return Joined(tuple(clips), np.concatenate(parts).astype(np.float32), rate_hz)


def groups(clips: Sequence["Clip"]) -> list[tuple["Clip", ...]]:
    """Return the clips of each speaker and emotion in groups of three; what is left over is left out."""
    by_kind: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: zlib.crc32(clip.clip_id.encode())):
        by_kind[clip.speaker, clip.emotion].append(clip)
    return [tuple(of_kind[at : at + CLIPS]) for _, of_kind in sorted(by_kind.items()) for at in _starts(of_kind)]


def _starts(clips: Sequence["Clip"]) -> range:
    return range(0, len(clips) - CLIPS + 1, CLIPS)


def predict(planned: "Plan", data: Path) -> dict[str, Predictions]:
    """Return the predictions of every recording by rule."""
    from pipeline.cross_validation import run as cross_validation
    from pipeline.cross_validation.changed import FoldModel

    models = [FoldModel(planned, result) for result in cross_validation.results(planned)]
    windows_of = _extractor(planned.config.audio)
    used = [outcome.clip for outcome in planned.corpus.outcomes if outcome.used]
    labels, speakers = [], []
    answers: dict[str, list[np.ndarray]] = {rule: [] for rule in RULES}
    for group in groups(used):
        recording = join(group, data)
        model = next(model for model in models if group[0].clip_id in model.clip_ids)
        features, valid_frames, speech = windows_of(recording.samples, recording.rate_hz)
        each = model(features.numpy(), valid_frames.numpy())
        for name, rule in RULES.items():
            answers[name].append(rule(each, speech.numpy()))
        labels.append(planned.corpus.emotions.index(group[0].emotion))
        speakers.append(group[0].speaker)
    return {name: Predictions.of(np.array(labels), np.array(rows), speakers) for name, rows in answers.items()}


def to_markdown(predictions: Mapping[str, Predictions]) -> str:
    """Return UAR of each rule, and its difference to the first."""
    first = next(iter(predictions.values()))
    rows = []
    for name, of_rule in predictions.items():
        difference = "" if of_rule is first else document.points(paired_differences(of_rule, first, ("uar",))["uar"])
        rows.append([name, document.percent_with_range(estimates(of_rule, ("uar",))["uar"]), difference])
    return document.table(["answer", "UAR %", "difference"], rows)


def _extractor(spec: "AudioSpec") -> Callable[..., tuple["tf.Tensor", ...]]:
    """Return features, valid frames and speech of the windows that the served model analyses."""
    import tensorflow as tf

    from modules.audio import frontend

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)])
    def extract(samples: tf.Tensor, rate_hz: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return frontend.analyse(*frontend.windows_of_waveform(samples, rate_hz, spec), spec)

    return extract


def main() -> None:
    """Cross-validate, answer the recordings by every rule and print the table."""
    parser = command.make_folds_parser(__doc__)
    parser.add_argument("--protocol", metavar="NAME", help="folds of a protocol of `ser evaluate`, in place of six")
    options = parser.parse_args()
    with command.run_folder(options.root):
        predictions = predict(command.plan_folds(options, ENCODER, protocol=options.protocol), options.data)
    name = f"whole recordings of {options.protocol}" if options.protocol else "whole recordings"
    command.publish({name: to_markdown(predictions)}, options.write)


if __name__ == "__main__":
    main()
