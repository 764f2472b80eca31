"""Leaves speakers, or a whole corpus, out of training and asks the model about them: fold after fold.

What a fold gave is a file, so a run that was stopped goes on where it was.
"""

import collections
import dataclasses
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
from pydantic import BaseModel, ConfigDict

from modules.audio.augmentation import PLAIN
from modules.common.code_fingerprint import code_fingerprint
from modules.common.digest import digest
from modules.common.files import write_whole
from modules.common.progress import Progress
from modules.data import examples, preprocessing
from modules.data.splits import EVAL, TEST, TRAIN
from modules.evaluation import evaluate
from modules.evaluation.calibration import apply_temperature
from modules.evaluation.intervals import Predictions
from modules.reporting.summary import Data, Duplicate, Evaluation, Metric, QuarantinedClip, SplitData
from modules.training import trainer
from pipeline.config import PipelineConfig
from pipeline.cross_validation import corpus as whole_corpus
from pipeline.cross_validation.corpus import Corpus, Normalise
from pipeline.cross_validation.folds import Fold, FoldsError, Kind, corpus_folds, speaker_folds

FOLDER = "cross_validation"

_SLICES = (examples.CORPUS, examples.SEX, examples.INTENSITY)
_FOLD_METRICS = ("uar", "accuracy")
_CODE = (trainer.__name__, preprocessing.__name__)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FoldResult(_Section):
    """One fold: ``probabilities`` of each test clip, tempered, ``clip_ids`` in the same order."""

    name: str
    train: tuple[str, ...]
    eval: tuple[str, ...]
    test: tuple[str, ...]
    clip_ids: tuple[str, ...]
    probabilities: tuple[tuple[float, ...], ...]
    epochs: int
    seconds: float
    parameters: int
    temperature: float


class FoldSummary(_Section):
    """One fold in the table; intervals over its own test speakers."""

    name: str
    test: tuple[str, ...]
    clips: int
    epochs: int
    seconds: float
    metrics: tuple[Metric, ...]


class CrossValidation(_Section):
    """All folds. In ``evaluation`` every clip counts once, judged by the one model that had not heard its speaker."""

    kind: Kind
    data_fingerprint: str
    folds: tuple[FoldSummary, ...]
    evaluation: Evaluation
    data: Data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be trained on what.

    Attributes:
        folder: Where each fold's result and weights are kept.
    """

    config: PipelineConfig
    kind: Kind
    corpus: Corpus
    folds: tuple[Fold, ...]
    folder: Path

    def path_of(self, fold: Fold) -> Path:
        """Of the fold's result; differs when anything that the result depends on does."""
        chosen = self.config.training
        used = chosen.model_family.hyperparameters(chosen.hyperparameters)
        settings = [chosen.model_dump(), used.model_dump(), self.config.transform.model_dump()]
        known = [settings, self.corpus.fingerprint, fold.to_json(), code_fingerprint(*_CODE)]
        return self.folder / f"{digest(known)}.json"


def run(config: PipelineConfig, *, data: Path, root: Path, folds: int, leave_corpus_out: bool) -> CrossValidation:
    """Trains and judges a model for each fold that has no result yet, and puts all results together.

    See :func:`plan` for arguments and errors.

    Raises:
        modules.training.trainer.TrainingDiverged: A loss was no longer a number.
    """
    planned = plan(config, data=data, root=root, folds=folds, leave_corpus_out=leave_corpus_out)
    return _joined(planned, list(results(planned)))


def plan(config: PipelineConfig, *, data: Path, root: Path, folds: int = 6, leave_corpus_out: bool = False) -> Plan:
    """Reads the recordings, ingesting them where that has not been done, and deals their speakers to folds.

    Args:
        data: Folder of recordings.
        root: Ingested examples and results go below ``root/cross_validation``.
        folds: How many, where speakers are left out.
        leave_corpus_out: Leaves one corpus out of each fold instead.

    Raises:
        FoldsError: The recordings do not make such folds.
    """
    if "{" in config.ingest.pattern:
        raise FoldsError(
            f"ingest.pattern is {config.ingest.pattern}: a cross-validation reads no spans. Name the folder of one "
            "with --data and give a pattern without {SPAN}, such as --set 'ingest.pattern=*/*'"
        )
    folder = root / FOLDER
    corpus = whole_corpus.load(config, data=data, folder=folder / "examples")
    clips = [outcome.clip for outcome in corpus.outcomes if outcome.used]
    if not clips:
        raise FoldsError(f"{data} holds no recording that can be used")
    dealt = corpus_folds(clips, config.splits) if leave_corpus_out else speaker_folds(clips, folds, config.splits)
    kind: Kind = "corpus" if leave_corpus_out else "speakers"
    return Plan(config=config, kind=kind, corpus=corpus, folds=tuple(dealt), folder=folder / "folds")


def results(planned: Plan) -> Iterator[FoldResult]:
    """Of one fold after the other, from its file or from training."""
    planned.folder.mkdir(parents=True, exist_ok=True)
    progress = Progress("Folds", total=len(planned.folds), unit="folds", every_sec=0)
    for fold in planned.folds:
        path = planned.path_of(fold)
        if not path.exists():
            print(f"Fold     {fold.name}", file=sys.stderr, flush=True)
            write_whole(path, _train_and_ask(planned, fold).model_dump_json())
        progress.advance()
        yield FoldResult.model_validate_json(path.read_text())


def normaliser_of(planned: Plan, fold: Fold) -> Normalise:
    """The normalisation that the fold's training clips make."""
    train = planned.corpus.of(fold.train, plain=False)
    return whole_corpus.normaliser(planned.config, planned.corpus, train, planned.folder.parent / "normalisation")


def trained_model(planned: Plan, fold: Fold) -> keras.Model:
    """The model behind the result of a fold; its answers have still to be tempered."""
    model = trainer.build_model(planned.config.training, planned.config.audio)
    model.load_weights(_weights_of(planned, fold))
    return model


def ask(
    planned: Plan, fold: Fold, speakers: Sequence[str], *, normalise: Normalise | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What the fold's model says about speakers.

    Args:
        normalise: In place of the fold's own.

    Returns:
        Positions of their recordings among the corpus's examples, and ``[recordings, emotions]``, not yet tempered.
    """
    positions = planned.corpus.of(speakers, plain=True)
    asked = whole_corpus.split(planned.corpus, normalise or normaliser_of(planned, fold), positions)
    return positions, trained_model(planned, fold).predict(asked.inputs, batch_size=256, verbose=0)


def predictions(planned: Plan, found: Sequence[FoldResult]) -> Predictions:
    """Of every clip, by the one model that had not heard its speaker; ordered by clip."""
    position_of = _position_of(planned.corpus)
    answers = sorted(
        (clip, row) for result in found for clip, row in zip(result.clip_ids, result.probabilities, strict=True)
    )
    columns, chosen = planned.corpus.columns, [position_of[clip] for clip, _ in answers]
    return Predictions.of(
        columns[examples.EMOTION_ID][chosen],
        np.array([row for _, row in answers]),
        columns[examples.SPEAKER][chosen].tolist(),
    )


def _weights_of(planned: Plan, fold: Fold) -> Path:
    return planned.path_of(fold).with_suffix(".weights.h5")


def _train_and_ask(planned: Plan, fold: Fold) -> FoldResult:
    started_sec = time.monotonic()
    config, corpus = planned.config, planned.corpus
    keras.backend.clear_session()  # or each fold would keep the former models' memory
    positions = {
        TRAIN: corpus.of(fold.train, plain=False),
        EVAL: corpus.of(fold.eval, plain=True),
        TEST: corpus.of(fold.test, plain=True),
    }
    normalise = normaliser_of(planned, fold)
    splits = {name: whole_corpus.split(corpus, normalise, chosen) for name, chosen in positions.items()}
    trained = trainer.train_model(config.training, config.audio, splits[TRAIN], splits[EVAL])
    answers = trained.model.predict(splits[TEST].inputs, batch_size=256, verbose=0)
    trained.model.save_weights(_weights_of(planned, fold))
    return FoldResult(
        name=fold.name,
        train=fold.train,
        eval=fold.eval,
        test=fold.test,
        clip_ids=tuple(corpus.columns[examples.CLIP_ID][positions[TEST]].tolist()),
        probabilities=tuple(tuple(row) for row in apply_temperature(answers, trained.temperature).tolist()),
        epochs=len(trained.history["loss"]),
        seconds=time.monotonic() - started_sec,
        parameters=trained.model.count_params(),
        temperature=trained.temperature,
    )


def _position_of(corpus: Corpus) -> dict[str, int]:
    """Where each recording itself, not an augmented copy, is among the examples."""
    copies = corpus.columns[examples.AUGMENTATION]
    return {clip: index for index, clip in enumerate(corpus.columns[examples.CLIP_ID]) if copies[index] == PLAIN}


def _joined(planned: Plan, results: Sequence[FoldResult]) -> CrossValidation:
    corpus, position_of = planned.corpus, _position_of(planned.corpus)
    tested = [[position_of[clip] for clip in result.clip_ids] for result in results]
    answers = [np.array(result.probabilities) for result in results]
    names = [result.name for result, chosen in zip(results, tested, strict=True) for _ in chosen]
    return CrossValidation(
        kind=planned.kind,
        data_fingerprint=corpus.fingerprint,
        folds=tuple(
            FoldSummary(
                name=result.name,
                test=result.test,
                clips=len(chosen),
                epochs=result.epochs,
                seconds=result.seconds,
                metrics=_fold_metrics(_evaluated(corpus, chosen, rows)),
            )
            for result, chosen, rows in zip(results, tested, answers, strict=True)
        ),
        evaluation=_evaluated(corpus, list(itertools.chain(*tested)), np.concatenate(answers), {"fold": names}),
        data=_data(corpus),
    )


def _data(corpus: Corpus) -> Data:
    """As of a single split, since every clip is tested once."""
    used = [outcome for outcome in corpus.outcomes if outcome.used]
    clips = [outcome.clip for outcome in used]
    return Data(
        splits=(
            SplitData(
                split="all folds",
                clips=len(used),
                examples=sum(outcome.examples for outcome in used),
                speakers=len({clip.speaker for clip in clips}),
                hours=sum(outcome.duration_sec for outcome in used) / 3600,
                by_corpus=collections.Counter(clip.corpus for clip in clips),
                by_emotion=collections.Counter(clip.emotion for clip in clips),
                by_sex=collections.Counter(clip.sex for clip in clips),
            ),
        ),
        quarantined=tuple(
            QuarantinedClip(path=outcome.clip.path, reason=outcome.reason)
            for outcome in corpus.outcomes
            if outcome.reason
        ),
        duplicates=tuple(
            Duplicate(kept=outcome.duplicate_of, dropped=outcome.clip.path)
            for outcome in corpus.outcomes
            if outcome.duplicate_of
        ),
    )


def _evaluated(
    corpus: Corpus, positions: list[int], probabilities: np.ndarray, more: dict[str, list[str]] | None = None
) -> Evaluation:
    columns = {name: values[positions] for name, values in corpus.columns.items()}
    slices = {name: columns[name].tolist() for name in _SLICES}
    slices["length"] = [evaluate.length_slice(float(sec)) for sec in columns[examples.DURATION_SEC]]
    return evaluate.evaluate(
        columns[examples.EMOTION_ID],
        probabilities,
        columns[examples.SPEAKER].tolist(),
        slices=slices | (more or {}),
    )


def _fold_metrics(evaluation: Evaluation) -> tuple[Metric, ...]:
    return tuple(metric for metric in evaluation.metrics if metric.name in _FOLD_METRICS)
