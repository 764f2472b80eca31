"""Files for edge devices next to their SavedModel: ``python -m benchmarks.edge --model output/serving --data DIR``.

Recordings are those of speakers that the model did not train on; each is one window. Every row answers for the same
samples on one core: the SavedModel through its signature ``waveform``, a file in its runtime.
"""

import functools
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import command, document, timing
from modules.evaluation.intervals import Estimate, Predictions, paired_differences, point_estimates
from modules.export.contract import load_contract
from modules.export.edge import convert
from modules.export.edge.convert import WindowModel
from modules.export.edge.facts import Facts
from pipeline.pushed_acceptance import Recordings, recordings_of
from serving.batch.plan import PushedModel, find_model

SAVED_MODEL = "SavedModel"
FILES = {
    "TFLite": ("tflite", "none"),
    "TFLite, int8": ("tflite", "int8"),
    "ONNX": ("onnx", "none"),
    "ONNX, int8": ("onnx", "int8"),
}

Windows = list[tuple[np.ndarray, np.ndarray]]
"""Arguments of :meth:`modules.export.edge.convert.WindowModel.predict`."""


def windows_of(recordings: Recordings, model_dir: str) -> Windows:
    """Return the window of each recording that training would analyse.

    Args:
        recordings: The recordings.
        model_dir: Folder of the SavedModel, for its audio spec.
    """
    import tensorflow as tf

    from modules.audio import decoding, frontend
    from modules.common import addresses

    spec, _, limits = load_contract(model_dir)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)])
    def window_of(samples: tf.Tensor, rate_hz: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        window = frontend.window_of_waveform(samples, rate_hz, spec)
        return window.samples[tf.newaxis], window.valid_samples[tf.newaxis]

    sounds = (
        decoding.decode(addresses.read_bytes(f"{recordings.data}/{clip.path}"), limits) for clip in recordings.clips
    )
    windows = (window_of(sound.samples, sound.sample_rate_hz) for sound in sounds)
    return [(samples.numpy(), valid_samples.numpy()) for samples, valid_samples in windows]


def export_all(model: PushedModel, folder: Path) -> dict[str, Path]:
    """Write the files of :data:`FILES` and return their paths by row of the table.

    Args:
        model: The pushed model.
        folder: Folder to write into.
    """
    paths = {}
    for name, (form, quantization) in FILES.items():
        paths[name] = folder / f"{quantization}.{form}"
        contract = load_contract(model.path)
        facts = Facts.of(contract, version=model.version, fingerprint=model.fingerprint, quantization=quantization)
        convert.export(model.path, facts, form, paths[name])
    return paths


def rows(
    kilobytes: Mapping[str, float],
    seconds: Mapping[str, float],
    predictions: Mapping[str, Predictions],
) -> Iterator[list[str]]:
    """Yield the rows of the table; the SavedModel is the first one and the reference.

    Args:
        kilobytes: Size by row.
        seconds: Median duration of one window by row.
        predictions: Predictions by row.
    """
    reference = predictions[SAVED_MODEL]
    for name, own in predictions.items():
        compared = ["", ""]
        if name != SAVED_MODEL:
            difference = np.abs(own.probabilities - reference.probabilities).max()
            loss: Estimate = paired_differences(own, reference, ("uar",))["uar"]
            compared = [f"{difference:.0e}", document.points(loss)]
        yield [name, f"{kilobytes[name]:.0f}", f"{seconds[name] / seconds[SAVED_MODEL]:.2f}", *compared]


def table(kilobytes: Mapping[str, float], seconds: Mapping[str, float], predictions: Mapping[str, Predictions]) -> str:
    """Return the table and a sentence about the corpus; the arguments are those of :func:`rows`."""
    heads = ["", "kB", "time of a window, x SavedModel", "largest difference", "UAR, points (95 % interval)"]
    reference = predictions[SAVED_MODEL]
    clips, speakers = len(reference.labels), len(set(reference.speakers))
    uar = document.percent(float(point_estimates(reference, ("uar",))["uar"]))
    return (
        f"{document.table(heads, rows(kilobytes, seconds, predictions))}\n"
        f"{clips} windows of {speakers} unseen speakers. UAR of the SavedModel: {uar} %. CPU time on one core, medians "
        f"in alternation; the SavedModel needs {1000 * seconds[SAVED_MODEL]:.1f} ms.\n"
    )


def _predict(model: WindowModel, windows: Windows, labels: list[int], speakers: list[str]) -> Predictions:
    return Predictions.of(labels, np.concatenate([model.predict(*window) for window in windows]), speakers)


def _kilobytes(model_dir: str) -> float:
    graph = [Path(model_dir, "saved_model.pb"), *Path(model_dir, "variables").iterdir()]
    return sum(path.stat().st_size for path in graph) / 1000


def main() -> None:
    """Export, compare and time, and print the table."""
    parser = command.make_parser(__doc__)
    parser.add_argument("--model", default="output/serving", help="folder of pushed versions; the newest is exported")
    parser.add_argument("--rounds", type=int, default=200, help="measured rounds")
    options = parser.parse_args()
    timing.use_one_core()
    from modules.export.edge.served import ServedModel  # imports TensorFlow

    model = find_model(options.model)
    recordings = recordings_of(model, str(options.data), speakers="unseen")
    windows = windows_of(recordings, model.path)
    names = load_contract(model.path).labels
    labels, speakers = zip(*((names.index(clip.emotion), clip.speaker) for clip in recordings.clips), strict=True)
    with tempfile.TemporaryDirectory() as folder:
        paths = export_all(model, Path(folder))
        kilobytes = {SAVED_MODEL: _kilobytes(model.path)} | {
            name: path.stat().st_size / 1000 for name, path in paths.items()
        }
        models: dict[str, WindowModel] = {SAVED_MODEL: ServedModel(model.path)} | {
            name: convert.load(path, FILES[name][0]) for name, path in paths.items()
        }
        predictions = {name: _predict(each, windows, list(labels), list(speakers)) for name, each in models.items()}
        seconds = timing.median_seconds(
            {name: functools.partial(each.predict, *windows[0]) for name, each in models.items()},
            rounds=options.rounds,
            warm_up_rounds=10,
            clock=time.process_time,
        )
    command.publish({"edge": table(kilobytes, seconds, predictions)}, options.write)


if __name__ == "__main__":
    main()
