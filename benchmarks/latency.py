"""Duration of one prediction on one core: ``python -m benchmarks.latency MODEL…`` with folders of exported models.

A four-second WAV at 48 kHz goes through ``serving_default``, from bytes to probabilities, without a server around it.
"""

import argparse
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import soundfile

from benchmarks import timing

RATE_HZ = 48_000
LENGTH_SEC = 4.0
NOISE_AMPLITUDE = 0.1


def clip() -> bytes:
    """Return a WAV file of noise; the content of a clip does not change the duration of the inference."""
    samples = NOISE_AMPLITUDE * np.random.default_rng(0).standard_normal(round(LENGTH_SEC * RATE_HZ))
    file = io.BytesIO()
    soundfile.write(file, samples, RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def predictor(model_dir: Path) -> Callable[[], object]:
    """Return a function that predicts the clip once.

    Args:
        model_dir: Folder of an exported model.
    """
    import tensorflow as tf

    model = tf.saved_model.load(str(model_dir))
    signature, audio = model.signatures["serving_default"], tf.constant([clip()])

    def predict() -> object:
        # the signature alone does not hold the model's variables
        return model, signature(audio=audio)["probabilities"].numpy()

    return predict


def main() -> None:
    """Time the models and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    timing.use_one_core()
    candidates = {str(folder): predictor(folder) for folder in options.models}
    for name, clock in (("wall", time.perf_counter), ("CPU", time.process_time)):
        medians_sec = timing.median_seconds(candidates, rounds=options.rounds, warm_up_rounds=20, clock=clock)
        for folder, median_sec in medians_sec.items():
            print(f"{folder}  {1000 * median_sec:.2f} ms {name} time, median of {options.rounds}")


if __name__ == "__main__":
    main()
