"""Table of what a model predicted for each test clip."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modules.data import examples

PREDICTIONS_FILE = "predictions.csv"
"""Name of the file next to a report."""

_DESCRIPTION = (examples.CLIP_ID, examples.CORPUS, examples.SPEAKER, examples.SEX, examples.INTENSITY)
_NUMBERS = (examples.WINDOW_SEC, examples.SPEECH)


def to_csv(
    column: Callable[[str], Sequence[Any]],
    emotion_ids: np.ndarray,
    probabilities: np.ndarray,
    *,
    classes: Sequence[str],
    **more: Sequence[str],
) -> str:
    """Return a row for each clip: description, window, emotion, predicted emotion and probability of each emotion.

    Args:
        column: Function that returns a column of the examples, texts or numbers, by its name.
        emotion_ids: Indices into ``classes``, int ``[clips]``.
        probabilities: Predictions, float ``[clips, emotions]``.
        classes: Names of the emotions.
        **more: Further columns by title, ``[clips]`` each.

    Returns:
        Comma-separated values with a row of titles, numbers with six decimals. ``window_sec`` is the start of the
        analysed window in the recording, ``speech`` the probability that it holds speech.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_DESCRIPTION, *_NUMBERS, *more, "emotion", "predicted", *classes])
    numbers = [[f"{value:.6f}" for value in column(name)] for name in _NUMBERS]
    described = zip(*map(column, _DESCRIPTION), *numbers, *more.values(), strict=True)
    for description, emotion_id, row in zip(described, emotion_ids, probabilities, strict=True):
        predicted = classes[int(np.argmax(row))] if np.isfinite(row).all() else ""
        writer.writerow([*description, classes[emotion_id], predicted, *(f"{value:.6f}" for value in row)])
    return text.getvalue()
