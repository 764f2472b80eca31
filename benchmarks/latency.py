"""Duration of one prediction on one core: ``python -m benchmarks.latency MODEL… [--write FILE]``, of pushed versions.

Four seconds of WAV at the rates of published corpora go through ``serving_default``, from bytes to probabilities,
without a server around it.
"""

import io
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import soundfile

from benchmarks import command, document, timing

RATES_HZ = {"RAVDESS": 48_000, "SAVEE": 44_100, "TESS": 24_414, "CREMA-D": 16_000}
LENGTH_SEC = 4.0
NOISE_AMPLITUDE = 0.1


def clip(rate_hz: int) -> bytes:
    """Return a WAV file of noise; the content of a clip does not change the duration of the inference.

    Args:
        rate_hz: Sample rate.
    """
    samples = NOISE_AMPLITUDE * np.random.default_rng(0).standard_normal(round(LENGTH_SEC * rate_hz))
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()


def predictors(model_dir: Path) -> dict[int, Callable[[], object]]:
    """Return functions that predict a clip once, by its sample rate.

    Args:
        model_dir: Folder of an exported model.
    """
    import tensorflow as tf

    model = tf.saved_model.load(str(model_dir))
    signature = model.signatures["serving_default"]

    def predictor(audio: tf.Tensor) -> Callable[[], object]:
        # the signature alone does not hold the model's variables
        return lambda: (model, signature(audio=audio)["probabilities"].numpy())

    return {rate_hz: predictor(tf.constant([clip(rate_hz)])) for rate_hz in RATES_HZ.values()}


def to_markdown(seconds: Mapping[tuple[str, int], float]) -> str:
    """Return the table.

    Args:
        seconds: Median duration by the family of the model's features and the clip's sample rate.
    """
    heads = ["features", *(f"{corpus}, {rate_hz / 1e3:.3g} kHz" for corpus, rate_hz in RATES_HZ.items())]
    families = dict.fromkeys(family for family, _ in seconds)
    rows = [
        [f"`{family}`", *(f"{1e3 * seconds[family, rate]:.1f} ms" for rate in RATES_HZ.values())] for family in families
    ]
    return document.table(heads, rows)


def main() -> None:
    """Time the models and print the table."""
    from modules.export.contract import load_contract

    parser = command.make_parser_without_data(__doc__)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    timing.use_one_core()
    candidates: dict[tuple[str, int], Callable[[], object]] = {
        (load_contract(folder).audio_spec.feature_family, rate_hz): predict
        for folder in options.models
        for rate_hz, predict in predictors(folder).items()
    }
    seconds = timing.median_seconds(candidates, rounds=options.rounds, warm_up_rounds=10, clock=time.process_time)
    scope = f"{LENGTH_SEC:g} s of sound, one core, CPU time, medians of {options.rounds} interleaved calls."
    command.publish({"latency": f"{to_markdown(seconds)}\n{scope}"}, options.write)


if __name__ == "__main__":
    main()
