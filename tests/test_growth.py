"""Work of functions that see all recordings: it grows no faster than their number. Work is counted, not timed."""

import functools
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from benchmarks import growth_functions
from components.audio_example_gen import data_version
from modules.data.labels import EMOTIONS, LabelSettings
from modules.evaluation import chance
from modules.evaluation.acceptance import correctness
from modules.evaluation.evaluate import evaluate
from modules.evaluation.intervals import Predictions, estimate_of

CLIPS = 400
IN_PYTHON = [
    "names of the files",
    "splits",
    "splits, spans of 1,000",
    "shards",
    "duplicates, in pairs",
    "duplicates, all of one sound",
    "report of the ingestion",
]


def instructions(call: Callable[[], object]) -> int:
    """Return the number of the interpreter's instructions in a call."""
    count, outer = 0, sys.gettrace()

    def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(outer)
    return count


def require_linear(work_of: Callable[[int], float]) -> None:
    """Check that work at 2N to 4N is twice that at N to 2N; squares would give four times as much."""
    first, second, third = (work_of(factor * CLIPS) for factor in (1, 2, 4))
    assert 1.5 < (third - second) / (second - first) < 2.6


@pytest.mark.parametrize("name", IN_PYTHON)
def test_instructions_grow_with_the_recordings(name, tmp_path, monkeypatch):
    monkeypatch.setattr(growth_functions, "SPAN_CLIPS", 50)
    monkeypatch.setattr(growth_functions, "SPEAKER_CLIPS", 1)
    require_linear(lambda clips: instructions(growth_functions.FUNCTIONS[name].prepare(clips, tmp_path)))


def test_comparison_with_a_version_hashes_each_path_a_few_times(tmp_path, monkeypatch):
    hashed = 0

    class Path(str):
        def __hash__(self) -> int:
            nonlocal hashed
            hashed += 1
            return super().__hash__()

    clips = growth_functions.make_clips(CLIPS)
    version = data_version.DataVersion(
        root="", labels=LabelSettings(), clips={}, sha256={clip.path: "" for clip in clips}
    )
    monkeypatch.setattr(data_version.addresses, "files", lambda folder: [Path(f"other/{clip.path}") for clip in clips])
    data_version.compare(version, str(tmp_path))
    assert hashed < 20 * CLIPS


def predictions_of(clips: int) -> Predictions:
    recordings, labels, probabilities = growth_functions.make_predictions(clips)
    return Predictions.of(labels, probabilities, [clip.speaker for clip in recordings])


def test_slices_take_each_clip_once_per_dimension(monkeypatch):
    taken, take = [], Predictions.take
    monkeypatch.setattr(Predictions, "take", lambda self, chosen: taken.append(len(chosen)) or take(self, chosen))
    predictions = predictions_of(CLIPS)
    evaluate(predictions.labels, predictions.probabilities, predictions.speakers, classes=EMOTIONS, resamples=20)
    assert sum(taken) <= 6 * CLIPS  # by emotion and by speaker, and four coverages


def test_guessing_test_compares_each_clip_with_no_other_speaker(monkeypatch):
    compared = 0

    class Counted(np.ndarray):
        def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
            nonlocal compared
            compared += self.size
            return getattr(ufunc, method)(*(np.asarray(each) for each in inputs), **options)

    predictions = predictions_of(CLIPS)
    speakers = predictions.speakers.view(Counted)
    assert chance.p_value(Predictions(predictions.labels, predictions.probabilities, speakers), permutations=20)
    assert compared <= 10 * CLIPS


def test_shares_of_speakers_need_memory_for_each_clip_once(monkeypatch):
    monkeypatch.setattr(correctness, "estimate_of", functools.partial(estimate_of, resamples=20))
    monkeypatch.setattr(correctness.bounds, "MIN_SPEAKER_CLIPS", 1)
    monkeypatch.setattr(correctness.bounds, "MIN_SPEAKER_CLASS_CLIPS", 1)

    def peak(clips: int) -> int:
        predictions = predictions_of(clips)
        tracemalloc.start()
        try:
            list(correctness.of_speakers(predictions, EMOTIONS))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    require_linear(peak)
