from pathlib import Path

import numpy as np
import pytest

from benchmarks import augmentation
from modules.audio.spec import AudioSpec
from modules.common.arrays import ArrayOnDisk
from modules.data import examples
from modules.data.statistics import Statistics
from modules.evaluation.intervals import Predictions
from pipeline.config import load_config
from pipeline.cross_validation.corpus import Corpus
from pipeline.cross_validation.run import Plan
from tests.benchmarks.test_robustness import cells


def predictions(wrong_of: str) -> dict[str, Predictions]:
    """Return answers by condition, of which every third of one speaker is wrong."""
    labels, speakers = np.tile(np.arange(7), 8), np.repeat(["a", "b", "c", "d"], 14)
    chosen = (speakers == wrong_of) & (np.arange(56) % 3 == 0)
    answers = Predictions.of(labels, np.eye(7)[(labels + chosen) % 7], speakers.tolist())
    return dict.fromkeys(augmentation.CONDITIONS, answers)


def test_tables_have_each_condition_once_and_the_differences_to_the_first_row():
    first, second, *_ = augmentation.ROWS
    lines = augmentation.table({first: predictions("nobody"), second: predictions("a")}).split("\n")
    tables = [lines[start : start + 4] for start in range(0, len(lines) - 1, 5)]
    assert [title for table in tables for title in cells(table[0])[1:]] == list(augmentation.CONDITIONS)
    for _, _, right, other in tables:
        assert cells(right)[:2] == [f"`{first}`", "100.0 (100.0 to 100.0)"]
        assert cells(other)[0] == "and `room`"
        assert float(cells(other)[1].split()[0]) == pytest.approx(-100 * 5 / 56, abs=0.1)


def test_the_first_speakers_are_those_of_the_first_folds():
    (answers, *_) = predictions("a").values()
    assert set(augmentation.of_first_speakers(answers, 2).speakers) == {"a", "b"}


def test_the_conditions_are_those_of_the_acceptance_tests_that_are_named():
    assert len(augmentation.CONDITIONS) == 7


@pytest.mark.parametrize("row", augmentation.ROWS)
def test_every_row_is_a_configuration_with_the_plain_clips(row):
    variants = augmentation.variants_of(row)
    overrides = ["training.family=encoder_linear", f"augmentation.variants=[{', '.join(variants)}]"]
    assert load_config(overrides=overrides).augmentation.variants == variants == ("plain", *row.split(", "))


def corpus_of(variants: list[str], spec: AudioSpec) -> Corpus:
    """Return two clips of two speakers with these variants; the values of a feature tell variant and clip."""
    clips, kinds = np.repeat(["x", "y"], len(variants)), np.tile(variants, 2)
    values = np.array([float(len(kind)) + 100 * (clip == "y") for clip, kind in zip(clips, kinds, strict=True)])
    features = ArrayOnDisk.temporary((len(clips), *spec.feature_shape))
    features[:] = np.broadcast_to(values[:, None, None], features.shape).astype(np.float32)
    frames, statistics = np.full(len(clips), 3), Statistics(spec)
    statistics.add(np.asarray(features), frames, clips)
    columns = {examples.SPEAKER: clips, examples.AUGMENTATION: kinds, examples.VALID_FRAMES: frames}
    return Corpus(fingerprint="", emotions=(), outcomes=(), columns=columns, features=features, statistics=statistics)


def test_a_row_has_the_examples_of_its_variants_and_their_statistics():
    spec = load_config(overrides=["training.family=encoder_linear"]).audio
    row = augmentation.ROWS[1]
    chosen = sorted(augmentation.variants_of(row))
    whole = Plan(
        config=load_config(overrides=["training.family=encoder_linear"]),
        kind="speakers",
        corpus=corpus_of(sorted({*chosen, "shift", "a+tilt"}), spec),
        folds=(),
        folder=Path(),
    )
    planned, alone = augmentation.plan_row(whole, row), corpus_of(chosen, spec)
    assert planned.config.augmentation.variants == augmentation.variants_of(row)
    np.testing.assert_array_equal(np.asarray(planned.corpus.features), np.asarray(alone.features))
    for name, column in alone.columns.items():
        np.testing.assert_array_equal(planned.corpus.columns[name], column)
    for ours, theirs in zip(
        *(each.statistics.constants("xy", "zscore") for each in (planned.corpus, alone)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs)
    assert augmentation.plan_row(whole, augmentation.ROWS[2]).corpus.fingerprint != planned.corpus.fingerprint
