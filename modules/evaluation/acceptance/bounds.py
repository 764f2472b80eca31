"""Names and published bounds of the tests. Light to import: the configuration reads it."""

from typing import Final, Literal, get_args

from modules.reporting.summary import RANKING_TEST

CORRECTNESS_CLASSIFICATION: Final = "correctness_classification"
CORRECTNESS_DISTRIBUTION: Final = "correctness_distribution"
CORRECTNESS_SPEAKER_AVERAGE: Final = "correctness_speaker_average"
CORRECTNESS_SPEAKER_RANKING: Final = RANKING_TEST
FAIRNESS_SEX: Final = "fairness_sex"
BACKGROUND_NOISE: Final = "robustness_background_noise"
LOW_QUALITY_PHONE: Final = "robustness_low_quality_phone"
SIMULATED_RECORDING_CONDITION: Final = "robustness_simulated_recording_condition"
SMALL_CHANGES: Final = "robustness_small_changes"
SPECTRAL_TILT: Final = "robustness_spectral_tilt"

PredictionTest = Literal[
    "correctness_classification",
    "correctness_distribution",
    "correctness_speaker_average",
    "correctness_speaker_ranking",
    "fairness_sex",
]
"""Tests of the predictions of a split. Others need changed recordings, or more about the speakers."""

PREDICTION_TESTS: tuple[str, ...] = get_args(PredictionTest)
PUBLISHED_EMOTIONS = ("angry", "happy", "neutral", "sad")

SCORE_ABOVE = 0.5
CLASS_SHARE_WITHIN = 0.15
SPEAKER_SHARE_WITHIN = 0.1
SPEAKER_RHO_ABOVE = 0.7
MIN_SPEAKER_CLIPS, MIN_SPEAKER_CLASS_CLIPS = 10, 8
"""Clips of a speaker, and of each class of a speaker, in the two tests of speakers."""

UNCHANGED_ABOVE = {
    BACKGROUND_NOISE: 0.9,
    LOW_QUALITY_PHONE: 0.5,
    SIMULATED_RECORDING_CONDITION: 0.8,
    SMALL_CHANGES: 0.95,
    SPECTRAL_TILT: 0.8,
}
"""Share of predictions that stay."""

UAR_CHANGE_ABOVE = {BACKGROUND_NOISE: -0.05, LOW_QUALITY_PHONE: -0.05, SPECTRAL_TILT: -0.02}


GROUP_UAR_WITHIN = 0.075
TWO_GROUPS_WITHIN = {"recall": 0.175, "precision": 0.075}
MORE_GROUPS_WITHIN = {"recall": 0.225, "precision": 0.1}
"""Largest differences between a group of speakers and all groups: those published for sex, two groups, and for pitch,
three groups. They are the largest differences of a random model in 1000 simulations with 1000 clips a group."""
