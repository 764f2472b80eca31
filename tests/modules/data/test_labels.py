"""Label sets: emotions of a model, and what other labels become."""

import pydantic
import pytest

from modules.data.labels import EMOTIONS, LabelSettings


def test_seven_emotions_by_default_and_calm_counts_as_neutral():
    labels = LabelSettings()
    assert [labels.emotion_of(label) for label in EMOTIONS] == list(EMOTIONS)
    assert labels.emotion_of("calm") == "neutral"
    assert labels.emotion_of("boredom") is None


def test_a_label_that_is_an_emotion_of_the_model_stays():
    assert LabelSettings(emotions=(*EMOTIONS, "calm")).emotion_of("calm") == "calm"


def test_labels_are_merged_step_by_step():
    labels = LabelSettings(
        emotions=("angry", "other"), mapping={"calm": "neutral", "neutral": "other", "sad": "other", "fear": "drop"}
    )
    named = {label: labels.emotion_of(label) for label in ("angry", "calm", "neutral", "sad", "fear", "happy")}
    assert named == {"angry": "angry", "calm": "other", "neutral": "other", "sad": "other", "fear": None, "happy": None}


def test_the_emotions_that_occur_keep_their_order():
    assert LabelSettings(emotions=("sad", "happy", "angry")).occurring(["angry", "sad", "sad"]) == ("sad", "angry")


@pytest.mark.parametrize(
    "values",
    [
        {"emotions": ("angry",)},
        {"emotions": ("angry", "angry")},
        {"emotions": ("angry", "no_speech")},
        {"emotions": ("angry", "not_sure")},
        {"emotions": ("angry", "Sad")},
        {"emotions": ("angry", "")},
        {"mapping": {"calm": "joy"}},
        {"mapping": {"bored": "tired", "tired": "bored"}},
        {"mapping": {"bored": "bored"}},
        {"mapping": {"Calm": "neutral"}},
    ],
)
def test_other_label_sets_are_refused(values):
    with pytest.raises(pydantic.ValidationError):
        LabelSettings(**values)
