"""Conversion of a pushed model to a file, and comparison of the file with the model."""

import importlib
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from modules.common.errors import SerError
from modules.common.files import write_atomically
from modules.export.edge.facts import Facts

MAX_DIFFERENCE = 1e-4
"""Largest difference of a probability that a file in single precision may have to the SavedModel."""


class Format(NamedTuple):
    """A format of files.

    Attributes:
        packages: Packages that convert and run it, by the name of the module that each installs.
        module: Module with the function ``convert`` and the class ``Model``.
    """

    packages: dict[str, str]
    module: str


FORMATS = {
    "tflite": Format({"ai_edge_litert": "ai-edge-litert"}, "modules.export.edge.tflite"),
    "onnx": Format(
        {"onnx": "onnx", "onnxruntime": "onnxruntime", "tf2onnx": "tf2onnx"}, "modules.export.edge.onnx_file"
    ),
}


class PackagesMissing(SerError):
    """Packages that convert or run a format are not installed."""

    code = "edge.packages_missing"


class OtherAnswers(SerError):
    """The converted model gives other probabilities than the SavedModel."""

    code = "edge.other_answers"


class WindowModel(Protocol):
    """A model that answers for one window."""

    def predict(self, waveform: np.ndarray, valid_samples: np.ndarray) -> np.ndarray:
        """Return the probabilities of one window, float32 ``[1, emotions]``.

        Args:
            waveform: float32 ``[1, window_samples]``.
            valid_samples: Number of its samples that are sound, int32 ``[1]``.
        """


def require_packages(form: str) -> None:
    """Require what converts and runs a format.

    Args:
        form: Key of :data:`FORMATS`.

    Raises:
        PackagesMissing: A package is not installed.
    """
    missing = [name for module, name in FORMATS[form].packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise PackagesMissing(
            f"{form} files need packages that are missing; install them: pip install {' '.join(missing)}"
        )


def export(model_dir: str, facts: Facts, form: str, out: Path) -> float:
    """Convert a model, compare the file with it on windows of noise, and publish the file by an atomic rename.

    Args:
        model_dir: Folder of the SavedModel, local or in a bucket.
        facts: Facts about the model, for the file.
        form: Key of :data:`FORMATS`.
        out: File to write or replace.

    Returns:
        The largest difference of a probability.

    Raises:
        modules.export.edge.graph.NotConvertible: The model cannot be converted.
        OtherAnswers: A file in single precision differs by more than :data:`MAX_DIFFERENCE`.
        OSError: The file cannot be written.
    """
    from modules.export.edge.graph import one_window
    from modules.export.edge.served import ServedModel

    content = importlib.import_module(FORMATS[form].module).convert(one_window(model_dir), facts)
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(out) as temporary:
        temporary.write_bytes(content)
        difference = largest_difference(load(temporary, form), ServedModel(model_dir), _noise(facts.window_samples))
        if facts.quantization == "none" and not difference <= MAX_DIFFERENCE:
            raise OtherAnswers(
                f"the {form} file differs from the model by {difference:.1e} in a probability; allowed: at most "
                f"{MAX_DIFFERENCE:.0e}. Nothing was written; report it with the versions of TensorFlow and of the "
                "packages"
            )
    return difference


def load(path: Path, form: str) -> Any:
    """Return the model of a file in its runtime: a :class:`WindowModel` with ``facts``.

    Args:
        path: File that :func:`export` wrote.
        form: Key of :data:`FORMATS`.
    """
    return importlib.import_module(FORMATS[form].module).Model(path)


def largest_difference(
    model: WindowModel, other: WindowModel, windows: Iterable[tuple[np.ndarray, np.ndarray]]
) -> float:
    """Return the largest difference between the probabilities of two models.

    Args:
        model: One model.
        other: The other one.
        windows: Arguments of :meth:`WindowModel.predict`.
    """
    return max(float(np.abs(model.predict(*window) - other.predict(*window)).max()) for window in windows)


def _noise(window_samples: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield windows of noise that is louder and softer, whole ones and parts."""
    rng = np.random.default_rng(0)
    for share in (1.0, 0.75, 0.5, 0.25):
        valid_samples = round(share * window_samples)
        waveform = np.zeros([1, window_samples], np.float32)
        loudness = 0.1 * np.abs(np.sin(np.linspace(0, 10, valid_samples)))
        waveform[0, :valid_samples] = loudness * rng.standard_normal(valid_samples)
        yield waveform, np.array([valid_samples], np.int32)
