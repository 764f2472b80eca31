"""Errors of the speech measure: ``python -m benchmarks.speech --speech DIR… --sounds DIR``.

Speech is every recording below the folders ``--speech``, or a sample of ``--clips`` of each; ``--sounds`` is a folder
of other sounds, such as ESC-10, with a folder for each kind. Steady sounds (silence, dither, hum, tones, noise) are
made here. Figures of a cross-validation: no speaker, and no source of ESC-10, is in the data of the weights that are
tested on it. ``--fit`` writes the weights of all data to ``modules/audio/speech_weights.py``.
"""

import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import soundfile
import soxr
from scipy import signal

from benchmarks import command, document

Sound = np.ndarray
"""float32 ``[samples]`` at 16 kHz."""

_RATE_HZ = 16_000
_WINDOW_SEC = 3.5
_SUFFIXES = (".wav", ".flac", ".ogg")
_FOLDS = 5
_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
_LEVELS = (1e-4, 1e-3, 1e-2, 0.1, 0.3)
_REGULARISATION = 0.1  # inverse strength, as scikit-learn's C
# Shares of the fit's weight. With 0.5 for speech, the threshold of 0.5 would refuse less speech and answer more sounds.
_SPEECH_SHARE, _RECORDED_SHARE, _MADE_SHARE = 0.3, 0.55, 0.15
_WEIGHTS_FILE = Path(__file__).parents[1] / "modules" / "audio" / "speech_weights.py"
_WEIGHTS_HEAD = '''"""Weights of :mod:`modules.audio.speech`, fitted by ``python -m benchmarks.speech --fit``."""

BIAS = {bias:.4f}

# Mean and standard deviation of the measure, and the weights of its standard score and of the square of that.
WEIGHTS = {{
'''


class Item(NamedTuple):
    """A sound and what it is.

    Attributes:
        kind: Corpus, class of sounds, or kind of steady sound.
        group: Speaker or source; a group is never in two folds.
        is_speech: Whether it is speech.
        changed: Whether it is a changed copy, for the fit alone.
        sound: The samples.
    """

    kind: str
    group: str
    is_speech: bool
    changed: bool
    sound: Sound


def speech_items(folder: Path, clips: int) -> Iterator[Item]:
    """Yield recordings of a corpus, and changed copies: cut, with noise, in the band of a telephone, muffled."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    rng = np.random.default_rng(0)
    chosen = sorted(rng.permutation(len(files))[:clips])
    for index in chosen:
        path = files[index]
        sound, rng = _read(path), np.random.default_rng(zlib.crc32(path.name.encode()))
        group = f"{folder.name} {_speaker(path, folder.name)}"
        yield Item(folder.name, group, True, False, sound)
        change = _CHANGES[int(rng.integers(len(_CHANGES)))]
        yield Item(folder.name, group, True, True, change(sound, rng))


def other_items(folder: Path) -> Iterator[Item]:
    """Yield sounds that are not speech, whole and cut."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES:
            sound, rng = _read(path), np.random.default_rng(zlib.crc32(path.name.encode()))
            group = f"{folder.name} {path.stem.rpartition('-')[0]}"
            yield Item(path.parent.name, group, False, False, sound[: round(_WINDOW_SEC * _RATE_HZ)])
            yield Item(path.parent.name, group, False, True, sound[-round(_WINDOW_SEC * _RATE_HZ) :])
            yield Item(path.parent.name, group, False, True, _cut(sound, rng))


def steady_items() -> Iterator[Item]:
    """Yield silence, dither, hum, tones and noise of several levels and lengths."""
    rng = np.random.default_rng(0)
    for level in _LEVELS:
        for _ in range(8):
            seconds = np.arange(round(rng.uniform(1, _WINDOW_SEC) * _RATE_HZ)) / _RATE_HZ
            for kind, make in _STEADY.items():
                sound = (level * make(seconds, rng)).astype(np.float32)
                yield Item(kind, f"steady {kind}", False, False, sound)
    for kind, quiet in (("digital silence", np.zeros), ("dither", _dither)):
        for length_sec in (0.1, 0.5, 1, 2, _WINDOW_SEC):
            yield Item(kind, f"steady {kind}", False, False, quiet(round(length_sec * _RATE_HZ)))


def measure(items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray]:
    """Return the measures of the items, float32 ``[items, measures]``, and which can be speech."""
    import tensorflow as tf

    from modules.audio import frontend, speech
    from modules.audio.spec import AudioSpec

    spec = AudioSpec(sample_rate_hz=_RATE_HZ)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def one(sound: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        windows, valid_samples = frontend.windows_of_waveform(sound, _RATE_HZ, spec)
        return speech.measures(windows[:1], valid_samples[:1], _RATE_HZ)

    rows, possible = zip(*(one(item.sound) for item in items), strict=True)
    return np.concatenate(rows), np.concatenate(possible)


class Weights(NamedTuple):
    """The logistic regression.

    Attributes:
        mean: Mean of each measure.
        deviation: Standard deviation of each measure.
        linear: Weight of each standard score.
        square: Weight of its square.
        bias: Constant.
    """

    mean: np.ndarray
    deviation: np.ndarray
    linear: np.ndarray
    square: np.ndarray
    bias: float

    def probabilities(self, measures: np.ndarray) -> np.ndarray:
        """Return the probability of speech by row."""
        standard = np.clip((measures - self.mean) / self.deviation, -4, 4)
        return 1 / (1 + np.exp(-(self.bias + standard @ self.linear + standard**2 @ self.square)))


def fit(measures: np.ndarray, is_speech: np.ndarray, weights: np.ndarray) -> Weights:
    """Return the regression of ``is_speech``, with a weight for each row."""
    from sklearn.linear_model import LogisticRegression

    mean, deviation = measures.mean(0), measures.std(0)
    standard = np.clip((measures - mean) / deviation, -4, 4)
    inputs = np.concatenate([standard, standard**2], axis=1)
    centre, width = inputs.mean(0), inputs.std(0)
    model = LogisticRegression(C=_REGULARISATION, max_iter=1_000, solver="newton-cholesky")
    model.fit((inputs - centre) / width, is_speech, sample_weight=weights)
    slopes = model.coef_[0] / width
    linear, square = np.split(slopes, 2)
    return Weights(mean, deviation, linear, square, float(model.intercept_[0] - slopes @ centre))


def cross_validated(items: Sequence[Item], measures: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """Return the probability of each item by weights that were not fitted to its group."""
    from sklearn.model_selection import GroupKFold

    groups = [item.group for item in items]
    probabilities = np.zeros(len(items))
    for train, test in GroupKFold(_FOLDS).split(measures, groups=groups):
        train = train[possible[train]]
        fitted = fit(measures[train], _is_speech(items)[train], _balanced(items, train))
        probabilities[test] = np.where(possible[test], fitted.probabilities(measures[test]), 0)
    return probabilities


def _is_speech(items: Sequence[Item]) -> np.ndarray:
    return np.array([item.is_speech for item in items])


def _balanced(items: Sequence[Item], rows: np.ndarray) -> np.ndarray:
    """Return weights of the rows: each family has its share, and every kind of one as much as the others."""
    kinds = [(items[row].is_speech, items[row].kind in _STEADY, items[row].kind) for row in rows]
    families = [kind[:2] for kind in kinds]
    counts, per_family = (
        Counter(kinds),
        Counter({family: len({k for k in kinds if k[:2] == family}) for family in families}),
    )
    share = {(True, False): _SPEECH_SHARE, (False, False): _RECORDED_SHARE, (False, True): _MADE_SHARE}
    return np.array([len(rows) * share[kind[:2]] / (per_family[kind[:2]] * counts[kind]) for kind in kinds])


def table_of(items: Sequence[Item], probabilities: np.ndarray, threshold: float) -> str:
    """Return a row for each kind: clips, and the share whose answer is wrong."""
    rows = []
    for is_speech in (True, False):
        for kind in dict.fromkeys(item.kind for item in items if item.is_speech == is_speech):
            chosen = np.array([item.kind == kind and not item.changed for item in items])
            below = probabilities[chosen] < threshold
            wrong = below.mean() if is_speech else 1 - below.mean()
            rows.append([kind, "speech" if is_speech else "other", str(chosen.sum()), document.percent(wrong)])
    return document.table(["sound", "", "clips", "wrong (%)"], rows)


def thresholds_table(items: Sequence[Item], probabilities: np.ndarray) -> str:
    """Return a row for each threshold: share of the speech that is refused, and of other sounds that are answered."""
    kept = np.array([not item.changed for item in items])
    speech = kept & _is_speech(items)
    natural = kept & ~_is_speech(items) & np.array([item.kind not in _SYNTHETIC for item in items])
    synthetic = kept & np.array([item.kind in _SYNTHETIC for item in items])
    rows = []
    for threshold in _THRESHOLDS:
        shares = (
            np.mean(probabilities[speech] < threshold),
            np.mean(probabilities[natural] >= threshold),
            np.mean(probabilities[synthetic] >= threshold),
        )
        rows.append([f"{threshold:g}", *map(document.percent, shares)])
    return document.table(
        ["threshold", "speech refused (%)", "recorded sounds answered (%)", "made sounds answered (%)"], rows
    )


def weights_text(weights: Weights, names: Sequence[str]) -> str:
    """Return the text of the module with the weights."""
    rows = zip(names, weights.mean, weights.deviation, weights.linear, weights.square, strict=True)
    lines = [f'    "{name}": ({", ".join(f"{value:.4f}" for value in values)}),' for name, *values in rows]
    return _WEIGHTS_HEAD.format(bias=weights.bias) + "\n".join(lines) + "\n}\n"


def main() -> None:
    """Measure, print and, if asked to, write tables and weights."""
    from modules.audio.decoding import DEFAULT_LIMITS
    from modules.audio.speech import MEASURES

    parser = command.make_parser_without_data(__doc__)
    parser.add_argument("--speech", type=Path, nargs="+", required=True, help="folders of speech, one a corpus")
    parser.add_argument("--sounds", type=Path, required=True, help="folder of other sounds, a folder for each kind")
    parser.add_argument("--clips", type=int, default=1500, help="recordings of each corpus of speech")
    parser.add_argument("--fit", action="store_true", help="write the weights")
    options = parser.parse_args()
    items = [item for folder in options.speech for item in speech_items(folder, options.clips)]
    items += [*other_items(options.sounds), *steady_items()]
    measures, possible = measure(items)
    probabilities = cross_validated(items, measures, possible)
    tables = {
        "speech": table_of(items, probabilities, DEFAULT_LIMITS.min_speech),
        "thresholds": thresholds_table(items, probabilities),
    }
    command.publish(tables, options.write)
    if options.fit:
        rows = np.flatnonzero(possible)
        fitted = fit(measures[rows], _is_speech(items)[rows], _balanced(items, rows))
        _WEIGHTS_FILE.write_text(weights_text(fitted, MEASURES), encoding="utf-8")


def _read(path: Path) -> Sound:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(1), rate_hz, _RATE_HZ).astype(np.float32)


def _speaker(path: Path, corpus: str) -> str:
    """Return the speaker by the name of a file of RAVDESS, CREMA-D, TESS or SAVEE, or the text before the first _."""
    return path.stem.rpartition("-")[2] if corpus.upper() == "RAVDESS" else path.stem.partition("_")[0]


def _cut(sound: Sound, rng: np.random.Generator) -> Sound:
    length = min(len(sound), round(rng.uniform(1, _WINDOW_SEC) * _RATE_HZ))
    start = int(rng.integers(len(sound) - length + 1))
    return sound[start : start + length]


def _middle(sound: Sound, rng: np.random.Generator) -> Sound:
    """Return a second or more around the middle, where speech is."""
    length = min(len(sound), round(rng.uniform(1, 2) * _RATE_HZ))
    return sound[(len(sound) - length) // 2 :][:length]


def _with_noise(sound: Sound, rng: np.random.Generator) -> Sound:
    power = np.mean(sound.astype(np.float64) ** 2)
    noise = _pink(np.arange(len(sound)), rng) if rng.random() < 0.5 else rng.standard_normal(len(sound))
    return (sound + np.sqrt(power) * 10 ** (-rng.uniform(10, 30) / 20) * noise).astype(np.float32)


def _over_the_telephone(sound: Sound, rng: np.random.Generator) -> Sound:
    narrow = soxr.resample(sound, _RATE_HZ, 8_000)
    return soxr.resample(narrow, 8_000, _RATE_HZ).astype(np.float32)


def _quieter(sound: Sound, rng: np.random.Generator) -> Sound:
    return sound * np.float32(10 ** (-rng.uniform(6, 20) / 20))


def _muffled(sound: Sound, rng: np.random.Generator) -> Sound:
    """Return a sound with 12 dB per octave above a limit between 1 and 4 kHz, as through a cover or a wall."""
    limits = signal.butter(2, 1_000 * 4 ** rng.random(), fs=_RATE_HZ, output="sos")
    return signal.sosfilt(limits, sound).astype(np.float32)


_CHANGES = (_middle, _with_noise, _over_the_telephone, _quieter, _muffled)


def _dither(samples: int) -> Sound:
    rng = np.random.default_rng(samples)
    return (np.rint(rng.uniform(-1, 1, samples) + rng.uniform(-1, 1, samples)) / 32768).astype(np.float32)


def _pink(seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(len(seconds)))
    sound = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(seconds))
    return sound / sound.std()


def _hum(seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mains_hz, decay, phase = rng.choice([50, 60]), rng.uniform(0.5, 2.5), rng.choice([0, 6])
    orders = range(1, int(rng.integers(3, 40)))
    harmonics = [np.sin(2 * np.pi * mains_hz * k * seconds + rng.uniform(0, phase)) / k**decay for k in orders]
    return np.sum(harmonics, axis=0) + rng.choice([0, 0.02, 0.1]) * rng.standard_normal(len(seconds))


def _tone(seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.choice([0, 0.01, 0.1]) * rng.standard_normal(len(seconds))
    return np.sin(2 * np.pi * rng.uniform(60, 4000) * seconds) + noise


def _beeps(seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _tone(seconds, rng) * (np.sin(2 * np.pi * rng.uniform(0.5, 5) * seconds) > 0)


def _sweep(seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low_hz, high_hz = rng.uniform(60, 400), rng.uniform(500, 4000)
    return np.sin(2 * np.pi * np.cumsum(np.linspace(low_hz, high_hz, len(seconds))) / _RATE_HZ)


def _square(seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.sign(np.sin(2 * np.pi * rng.uniform(80, 500) * seconds))


def _offset(seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 1 + rng.choice([0, 0.01]) * rng.standard_normal(len(seconds))


_STEADY: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "white noise": lambda seconds, rng: rng.standard_normal(len(seconds)),
    "pink noise": _pink,
    "noise in bursts": lambda seconds, rng: (
        rng.standard_normal(len(seconds)) * (1 + np.sin(2 * np.pi * rng.uniform(1, 6) * seconds))
    ),
    "hum": _hum,
    "offset (DC)": _offset,
    "tone": _tone,
    "square wave": _square,
    "beeps": _beeps,
    "sweep": _sweep,
}

_SYNTHETIC = {*_STEADY, "digital silence", "dither"}


if __name__ == "__main__":
    main()
