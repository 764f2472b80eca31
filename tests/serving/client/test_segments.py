"""The answer to several windows, and segments of windows that agree."""

import tracemalloc

import pytest

from modules.export.contract import NO_SPEECH, NOT_SURE
from serving.client import Segment
from serving.client.segments import Merger, segments_of, whole

WINDOW_SEC, HOP_SEC = 3.5, 1.0
PROBABILITIES = {"sad": {"sad": 0.9, "happy": 0.1}, "happy": {"sad": 0.2, "happy": 0.8}}


def window(index, emotion, *, speech=1.0, min_confidence=0.0):
    start_sec = HOP_SEC * index
    probabilities = PROBABILITIES.get(emotion, PROBABILITIES["sad"])
    return Segment(
        emotion=emotion,
        probabilities=probabilities,
        confidence=max(probabilities.values()),
        min_confidence=min_confidence,
        speech=speech,
        model_version=7,
        start_sec=start_sec,
        end_sec=start_sec + WINDOW_SEC,
    )


def merge(windows):
    return list(segments_of(windows))


def test_neighbours_that_agree_are_one_segment():
    segments = merge([window(index, emotion) for index, emotion in enumerate(["sad", "sad", "happy", "happy", "sad"])])
    assert [segment.emotion for segment in segments] == ["sad", "happy", "sad"]
    # The centres of the second and third window are 2.75 s and 3.75 s.
    assert [(segment.start_sec, segment.end_sec) for segment in segments] == [(0, 3.25), (3.25, 5.25), (5.25, 7.5)]
    assert segments[1].probabilities == pytest.approx(PROBABILITIES["happy"])
    assert {segment.model_version for segment in segments} == {7}


def test_a_segment_of_an_hour_does_not_keep_its_windows():
    merger = Merger()
    tracemalloc.start()
    for index in range(3_600):
        assert merger.add(window(index, NO_SPEECH, speech=0.0)) == []
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert merger.end()[0].end_sec == 3_599 + WINDOW_SEC
    assert peak_bytes < 50_000


def test_a_recording_without_windows_has_no_segments():
    assert merge([]) == []


def test_windows_count_as_much_as_they_hold_speech():
    answer = whole([window(0, "sad", speech=0.75), window(1, "happy", speech=0.25)])
    assert answer.probabilities == pytest.approx({"sad": 0.75 * 0.9 + 0.25 * 0.2, "happy": 0.75 * 0.1 + 0.25 * 0.8})
    assert (answer.emotion, answer.speech) == ("sad", 0.75)


def test_windows_of_a_model_without_speech_count_the_same():
    answer = whole([window(0, "sad", speech=None), window(1, "happy", speech=None)])
    assert answer.probabilities == pytest.approx({"sad": 0.55, "happy": 0.45})
    assert answer.speech is None


@pytest.mark.parametrize(("min_confidence", "emotion"), [(0.7, "sad"), (0.75, NOT_SURE)])
def test_windows_together_are_not_sure_below_the_threshold_of_the_model(min_confidence, emotion):
    windows = [
        window(0, "sad", speech=0.75, min_confidence=min_confidence),
        window(1, "happy", speech=0.25, min_confidence=min_confidence),
    ]
    answer = whole(windows)
    assert answer.emotion == emotion
    assert answer.confidence == pytest.approx(0.725)
    assert answer.min_confidence == min_confidence


def test_no_speech_in_any_window_is_no_speech():
    quiet = [window(index, NO_SPEECH, speech=0.1) for index in range(3)]
    assert whole(quiet).emotion == NO_SPEECH
    assert [segment.emotion for segment in merge(quiet)] == [NO_SPEECH]
    assert whole([*quiet, window(3, "happy")]).emotion == "happy"
