"""Cross-validation: each fold trains a model without some speakers or a corpus, and evaluates it on them.

Each fold's result is a file, so an interrupted run continues with the next fold.
"""

import collections
import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from pydantic import Field

from modules.audio.augmentation import PLAIN
from modules.common import live_line
from modules.common.code_fingerprint import code_fingerprint
from modules.common.digest import digest
from modules.common.files import write_whole
from modules.common.progress import Progress
from modules.data import examples, preprocessing
from modules.data.clips import Clip
from modules.data.splits import EVAL, TEST, TRAIN
from modules.evaluation import evaluate, predictions_table
from modules.evaluation.acceptance.measure import SEX, of_predictions
from modules.evaluation.calibration import apply_temperature
from modules.evaluation.errors import wrong_predictions
from modules.evaluation.intervals import Predictions
from modules.reporting.summary import Data, Duplicate, Evaluation, Metric, QuarantinedClip, Section, SplitData
from modules.training import trainer
from pipeline.config import PipelineConfig
from pipeline.cross_validation import corpus as whole_corpus
from pipeline.cross_validation.corpus import Corpus, Normalise
from pipeline.cross_validation.folds import Fold, FoldsError, Kind, corpus_folds, protocol_folds, speaker_folds
from pipeline.cross_validation.protocols.catalog import EvaluationProtocol, folds_digest

FOLDER = "cross_validation"

_FOLD_METRICS = ("uar", "accuracy")
_CODE = (trainer.__name__, preprocessing.__name__)


class FoldResult(Section):
    """Result of a fold.

    Attributes:
        name: Name of the fold.
        train: Speakers of the training data.
        eval: Speakers for early stopping and calibration.
        test: Test speakers.
        clip_ids: Ids of the test clips.
        probabilities: Calibrated probabilities of shape ``[clips, emotions]``, in the order of ``clip_ids``.
        epochs: Epochs that were trained.
        seconds: Duration of training and prediction.
        parameters: Number of parameters of the model.
        temperature: Temperature that calibrates the model.
    """

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


class FoldSummary(Section):
    """Row of a fold in the table; the intervals resample its test speakers."""

    name: str
    eval: tuple[str, ...]
    test: tuple[str, ...]
    clips: int
    epochs: int
    seconds: float
    metrics: tuple[Metric, ...]


class NamedProtocol(Section):
    """Protocol that was asked for by name.

    Attributes:
        recordings: Number of recordings of its corpus; None if it is not of one corpus.
    """

    name: str
    title: str
    source: str
    recordings: int | None


class CrossValidation(Section):
    """Results of all folds.

    Attributes:
        folds_sha256: SHA-256 of the test speakers, see :func:`folds_digest`.
        protocol: The named protocol, if there was one.
        family: Model family.
        encoder: Pretrained encoder; None if there is none.
        finetune_blocks: Number of its blocks that are trained with the head.
        refit: Whether each fold's model is trained on its eval speakers, too, after these calibrated it.
        parameters: Number of parameters of each model, without those of the frozen encoder.
        evaluation: Metrics over all clips, each predicted by the model of its test fold.
        predictions: These predictions as comma-separated values, in a file of their own.
    """

    kind: Kind
    protocol: NamedProtocol | None
    folds_sha256: str
    family: str
    encoder: str | None
    finetune_blocks: int
    refit: bool
    parameters: int
    data_fingerprint: str
    folds: tuple[FoldSummary, ...]
    evaluation: Evaluation
    data: Data
    predictions: str = Field(exclude=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Folds of a corpus and the configuration of their models.

    Attributes:
        config: Configuration.
        kind: ``speakers`` or ``corpus``, whichever each fold leaves out.
        corpus: All examples.
        folds: The folds.
        folder: Folder of each fold's result and weights.
        protocol: The named protocol that the folds are of, if any.
    """

    config: PipelineConfig
    kind: Kind
    corpus: Corpus
    folds: tuple[Fold, ...]
    folder: Path
    protocol: EvaluationProtocol | None = None

    def path_of(self, fold: Fold) -> Path:
        """Return the path of a fold's result, whose name is a digest of everything that the result depends on.

        Args:
            fold: The fold.
        """
        chosen = self.config.training
        used = chosen.model_family.hyperparameters(chosen.hyperparameters)
        settings = [chosen.model_dump(exclude={"memory_mib"}), used.model_dump(), self.config.transform.model_dump()]
        content = [settings, self.corpus.fingerprint, fold.to_json(), code_fingerprint(*_CODE)]
        return self.folder / f"{digest(content)}.json"


def run(
    config: PipelineConfig,
    *,
    data: Path,
    root: Path,
    folds: int,
    leave_corpus_out: bool,
    protocol: EvaluationProtocol | None = None,
) -> CrossValidation:
    """Train and evaluate a model for each fold without a result, and combine all results.

    Args:
        config: Configuration.
        data: See :func:`plan`.
        root: The same.
        folds: The same.
        leave_corpus_out: The same.
        protocol: The same.

    Returns:
        Metrics over all folds and of each.

    Raises:
        FoldsError: The recordings cannot be split into such folds.
        modules.training.trainer.TrainingDiverged: A loss was not finite.
    """
    planned = plan(config, data=data, root=root, folds=folds, leave_corpus_out=leave_corpus_out, protocol=protocol)
    return _combine(planned, list(results(planned)))


def plan(
    config: PipelineConfig,
    *,
    data: Path,
    root: Path,
    folds: int = 6,
    leave_corpus_out: bool = False,
    protocol: EvaluationProtocol | None = None,
) -> Plan:
    """Read the recordings, ingest them if that has not been done, and assign their speakers to folds.

    Args:
        config: Configuration, with the emotions of the protocol.
        data: Folder of recordings.
        root: Output folder; ingested examples and results go below ``root/cross_validation``.
        folds: Number of folds, if speakers are left out.
        leave_corpus_out: Whether each fold leaves out a corpus instead.
        protocol: A named protocol, whose folds are used instead.

    Returns:
        The folds with their examples.

    Raises:
        FoldsError: The recordings cannot be split into such folds.
    """
    if "{" in config.ingest.pattern:
        raise FoldsError(
            f"ingest.pattern is {config.ingest.pattern}, and a cross-validation does not read spans. Give the folder "
            "of one span as --data and a pattern without {SPAN}, such as --set 'ingest.pattern=*/*'"
        )

    def assign(clips: Sequence[Clip]) -> tuple[Fold, ...]:
        if not clips:
            raise FoldsError(f"{data} has no usable recordings; `ser corpus scan {data}` lists the reasons")
        if protocol:
            return tuple(protocol_folds(clips, protocol, config.splits))
        if leave_corpus_out:
            return tuple(corpus_folds(clips, config.splits))
        return tuple(speaker_folds(clips, folds, config.splits))

    folder = root / FOLDER
    assign(whole_corpus.identified(config, data=data))  # refuses before the ingestion, which takes minutes
    corpus = whole_corpus.load(config, data=data, folder=folder / "examples")
    leaves_corpus_out = protocol.folds == "each corpus" if protocol else leave_corpus_out
    return Plan(
        config=config,
        kind="corpus" if leaves_corpus_out else "speakers",
        corpus=corpus,
        folds=assign([outcome.clip for outcome in corpus.outcomes if outcome.used]),
        folder=folder / "folds",
        protocol=protocol,
    )


def results(planned: Plan) -> Iterator[FoldResult]:
    """Yield the result of each fold, from its file or from training.

    Args:
        planned: The folds.
    """
    planned.folder.mkdir(parents=True, exist_ok=True)
    progress = Progress("Folds", total=len(planned.folds), unit="folds", every_sec=0)
    for fold in planned.folds:
        path = planned.path_of(fold)
        if not path.exists():
            live_line.keep(f"Fold     {fold.name}")
            write_whole(path, _train_and_predict(planned, fold).model_dump_json())
        progress.advance()
        yield FoldResult.model_validate_json(path.read_text())


def normaliser_of(planned: Plan, fold: Fold) -> Normalise:
    """Return the normalisation with constants of the fold's training examples.

    Args:
        planned: All folds.
        fold: The fold.
    """
    return whole_corpus.normaliser(planned.config, planned.corpus, fold.train)


def trained_model(planned: Plan, fold: Fold) -> keras.Model:
    """Return the model of a fold. Its probabilities are not calibrated.

    Args:
        planned: All folds.
        fold: The fold; it must have a result.
    """
    classes = len(planned.corpus.emotions)
    model = trainer.build_model(planned.config.training, planned.config.audio, classes=classes)
    model.load_weights(_weights_of(planned, fold))
    return model


def predict(
    planned: Plan, fold: Fold, speakers: Sequence[str], *, normalise: Normalise | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions of a fold's model for the recordings of some speakers.

    Args:
        planned: All folds.
        fold: The fold; it must have a result.
        speakers: Ids of the speakers.
        normalise: Normalisation in place of the fold's own.

    Returns:
        Positions of the recordings among the corpus's examples, int64 of shape ``[recordings]``, and probabilities that
        are not calibrated, float32 of shape ``[recordings, emotions]``.
    """
    positions = planned.corpus.of(speakers, plain=True)
    normalise = normalise or normaliser_of(planned, fold)
    max_bytes = planned.config.training.max_bytes
    split = whole_corpus.split(planned.corpus, normalise, positions, max_bytes=max_bytes)
    return positions, trainer.predict(trained_model(planned, fold), split)


def predictions(planned: Plan, fold_results: Sequence[FoldResult]) -> Predictions:
    """Return the predictions for the test clips of some folds, ordered by clip.

    Args:
        planned: All folds.
        fold_results: Results of the folds.
    """
    position_of = _position_of(planned.corpus)
    rows = sorted(
        (clip, row) for result in fold_results for clip, row in zip(result.clip_ids, result.probabilities, strict=True)
    )
    columns, chosen = planned.corpus.columns, [position_of[clip] for clip, _ in rows]
    return Predictions.of(
        columns[examples.EMOTION_ID][chosen],
        np.array([row for _, row in rows]),
        columns[examples.SPEAKER][chosen].tolist(),
    )


def _weights_of(planned: Plan, fold: Fold) -> Path:
    return planned.path_of(fold).with_suffix(".weights.h5")


def _train_and_predict(planned: Plan, fold: Fold) -> FoldResult:
    started_sec = time.monotonic()
    config, corpus = planned.config, planned.corpus
    keras.backend.clear_session()  # releases the memory of the previous fold's model
    positions = {
        TRAIN: corpus.of(fold.train, plain=False),
        EVAL: corpus.of(fold.eval, plain=True),
        TEST: corpus.of(fold.test, plain=True),
    }
    normalise = normaliser_of(planned, fold)
    splits = {
        name: whole_corpus.split(corpus, normalise, chosen, max_bytes=config.training.max_bytes)
        for name, chosen in positions.items()
    }
    trained = trainer.train_model(config.training, config.audio, splits[TRAIN], splits[EVAL])
    probabilities = trainer.predict(trained.model, splits[TEST])
    trained.model.save_weights(_weights_of(planned, fold))
    return FoldResult(
        name=fold.name,
        train=fold.train,
        eval=fold.eval,
        test=fold.test,
        clip_ids=tuple(corpus.columns[examples.CLIP_ID][positions[TEST]].tolist()),
        probabilities=tuple(tuple(row) for row in apply_temperature(probabilities, trained.temperature).tolist()),
        epochs=len(trained.history["loss"]),
        seconds=time.monotonic() - started_sec,
        parameters=trained.model.count_params(),
        temperature=trained.temperature,
    )


def _position_of(corpus: Corpus) -> dict[str, int]:
    """Return the position of each recording's plain example, by clip id."""
    copies = corpus.columns[examples.AUGMENTATION]
    return {clip: index for index, clip in enumerate(corpus.columns[examples.CLIP_ID]) if copies[index] == PLAIN}


def _combine(planned: Plan, fold_results: Sequence[FoldResult]) -> CrossValidation:
    corpus, position_of, audio = planned.corpus, _position_of(planned.corpus), planned.config.audio
    tested = [[position_of[clip] for clip in result.clip_ids] for result in fold_results]
    probabilities = [np.array(result.probabilities) for result in fold_results]
    names = [result.name for result, chosen in zip(fold_results, tested, strict=True) for _ in chosen]
    positions, all_probabilities = list(itertools.chain(*tested)), np.concatenate(probabilities)
    labels = corpus.columns[examples.EMOTION_ID][positions]

    def column(name: str) -> list[Any]:
        return corpus.columns[name][positions].tolist()

    evaluation = _evaluate(corpus, positions, all_probabilities, {"fold": names})
    return CrossValidation(
        kind=planned.kind,
        protocol=_named(planned.protocol) if planned.protocol else None,
        folds_sha256=folds_digest([fold.test for fold in planned.folds]),
        family=planned.config.training.family,
        encoder=audio.encoder if audio.feature_family == "encoder" else None,
        finetune_blocks=planned.config.training.finetune_blocks,
        refit=planned.config.training.refit,
        parameters=fold_results[0].parameters,
        data_fingerprint=corpus.fingerprint,
        folds=tuple(
            FoldSummary(
                name=result.name,
                eval=result.eval,
                test=result.test,
                clips=len(chosen),
                epochs=result.epochs,
                seconds=result.seconds,
                metrics=_fold_metrics(_evaluate(corpus, chosen, rows)),
            )
            for result, chosen, rows in zip(fold_results, tested, probabilities, strict=True)
        ),
        evaluation=evaluation.model_copy(
            update={
                "errors": wrong_predictions(column, labels, all_probabilities, classes=corpus.emotions),
                "acceptance": of_predictions(
                    Predictions.of(labels, all_probabilities, column(examples.SPEAKER)),
                    corpus.emotions,
                    {SEX: column(examples.SEX)},
                ),
            }
        ),
        data=_data(corpus),
        predictions=predictions_table.to_csv(column, labels, all_probabilities, classes=corpus.emotions, fold=names),
    )


def _named(protocol: EvaluationProtocol) -> NamedProtocol:
    return NamedProtocol(**{name: getattr(protocol, name) for name in NamedProtocol.model_fields})


def _data(corpus: Corpus) -> Data:
    """Describe the data as a single split, since every clip is tested once."""
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
        synthetic=sum(outcome.synthetic for outcome in used),
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


def _evaluate(
    corpus: Corpus, positions: list[int], probabilities: np.ndarray, more_slices: dict[str, list[str]] | None = None
) -> Evaluation:
    columns = {name: values[positions] for name, values in corpus.columns.items()}
    slices = evaluate.clip_slices(lambda name: columns[name].tolist(), columns[examples.DURATION_SEC])
    return evaluate.evaluate(
        columns[examples.EMOTION_ID],
        probabilities,
        columns[examples.SPEAKER].tolist(),
        classes=corpus.emotions,
        slices=slices | (more_slices or {}),
    )


def _fold_metrics(evaluation: Evaluation) -> tuple[Metric, ...]:
    return tuple(metric for metric in evaluation.metrics if metric.name in _FOLD_METRICS)
