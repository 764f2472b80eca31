"""Reuse of fold results: which settings invalidate them."""

import dataclasses
import shlex
from pathlib import Path

import numpy as np
import pytest

from modules.common.arrays import ArrayOnDisk
from modules.data import examples
from modules.data.clips import Clip
from modules.data.labels import EMOTIONS
from modules.data.statistics import Statistics
from pipeline.config import load_config
from pipeline.cross_validation import run as cross_validation
from pipeline.cross_validation.corpus import Corpus
from pipeline.cross_validation.folds import FoldsError, speaker_folds
from pipeline.cross_validation.run import FoldResult, Plan
from tests.original import ORIGINAL_AUDIO, ORIGINAL_SPLITS

OTHER_CODE = "0" * 64


class Trained(Exception):
    """Raised in place of training."""


@pytest.fixture
def planned(tmp_path) -> Plan:
    """Three folds of a corpus that has no examples yet."""
    clips = [Clip(path=f"{number}.wav", corpus="toy", emotion="sad", speaker=f"toy-{number:02}") for number in range(9)]
    columns = {name: np.array([], np.str_) for name in (examples.SPEAKER, examples.AUGMENTATION)}
    empty = Corpus(
        fingerprint="toy",
        emotions=EMOTIONS,
        outcomes=(),
        columns=columns,
        features=ArrayOnDisk.temporary((0, *ORIGINAL_AUDIO.feature_shape)),
        statistics=Statistics(ORIGINAL_AUDIO),
    )
    return Plan(
        config=load_config(overrides=["training.family=original_cnn"]),
        kind="speakers",
        corpus=empty,
        folds=tuple(speaker_folds(clips, 3, ORIGINAL_SPLITS)),
        folder=tmp_path / "folds",
    )


@pytest.fixture
def finished(planned, monkeypatch) -> Plan:
    """Plan with a result for every fold."""
    planned.folder.mkdir()
    for number, fold in enumerate(planned.folds):
        result = FoldResult(
            **dataclasses.asdict(fold), clip_ids=(f"toy/{number}",), probabilities=((1.0, 0, 0, 0, 0, 0, 0),),
            epochs=1, seconds=1.0, parameters=1, temperature=1.0,
        )  # fmt: skip
        planned.path_of(fold).write_text(result.model_dump_json())

    def train(*_: object) -> None:
        raise Trained

    monkeypatch.setattr(cross_validation.trainer, "train_model", train)
    monkeypatch.setattr(cross_validation, "normaliser_of", train)
    return planned


def paths(planned: Plan) -> set[Path]:
    return {planned.path_of(fold) for fold in planned.folds}


def changed(planned: Plan, *overrides: str) -> Plan:
    return dataclasses.replace(planned, config=load_config(overrides=["training.family=original_cnn", *overrides]))


def test_results_of_an_unchanged_plan_are_reused(finished):
    fold_results = list(cross_validation.results(finished))
    assert [result.clip_ids for result in fold_results] == [("toy/0",), ("toy/1",), ("toy/2",)]
    assert [result.name for result in fold_results] == [fold.name for fold in finished.folds]
    again = changed(finished)
    assert paths(again) == paths(finished)
    assert list(cross_validation.results(again)) == fold_results


def test_results_of_other_code_are_not_reused(finished, monkeypatch):
    before = paths(finished)
    monkeypatch.setattr(cross_validation, "code_fingerprint", lambda *modules: OTHER_CODE)
    assert not before & paths(finished)
    with pytest.raises(Trained):
        list(cross_validation.results(finished))


@pytest.mark.parametrize(
    "override",
    [
        "training.seed=7",
        "training.epochs=3",
        "training.hyperparameters={filters: 4}",
        "transform.normalisation=minmax",
    ],
)
def test_a_changed_setting_changes_the_paths(planned, override):
    assert not paths(planned) & paths(changed(planned, override))


def test_changed_recordings_or_speakers_change_the_paths(planned):
    others = dataclasses.replace(planned.corpus, fingerprint="other")
    assert not paths(planned) & paths(dataclasses.replace(planned, corpus=others))
    first = planned.folds[0]
    swapped = dataclasses.replace(first, train=(*first.train[1:], first.eval[0]), eval=(first.train[0],))
    assert planned.path_of(swapped) not in paths(planned)
    assert len(paths(planned)) == 3


def test_spans_are_refused_with_a_usable_override(tmp_path):
    spans = load_config(overrides=["ingest.pattern=span-{SPAN}/*"])
    with pytest.raises(FoldsError) as refused:
        cross_validation.plan(spans, data=tmp_path, root=tmp_path)
    _, override = shlex.split(str(refused.value).partition("such as ")[2])
    assert load_config(overrides=[override]).ingest.pattern == "*/*"


def test_settings_of_other_steps_keep_the_paths(planned):
    same = changed(planned, "gate.min_adjusted_uar=0.9", "tuner.enabled=true", "training.memory_mib=1")
    assert paths(same) == paths(planned)
