"""Typed content of ``summary.json``.

Every section but the run itself is optional, so that a run that fails in its first component has a summary too.
Durations are in seconds unless a name contains hours, shares lie between 0 and 1, and non-finite numbers are ``null``,
as JSON requires.
"""

import datetime
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from modules.common.errors import SerError
from modules.data.labels import SPLITS
from modules.data.splits import EVAL, TRAIN
from modules.demo_corpus import CORPUS_NAME as DEMO_CORPUS
from modules.reporting.metric_names import metric_name, metric_text, range_text

SCHEMA_VERSION: Final = 2


MIN_INTERVAL_SPEAKERS = 5
"""Speakers that an interval needs: with fewer, the values of the few are all that it can show."""

RANKING_TEST: Final = "correctness_speaker_ranking"
"""Acceptance test whose values are correlations, not shares."""


class SummaryVersionError(SerError, ValueError):
    """A ``summary.json`` of another version of this code."""

    code = "reporting.summary_version"


def _finite_or_none(value: Any) -> Any:
    """Return None for NaN and infinities, which JSON does not have."""
    if value is None or isinstance(value, str | bool):
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return value if isinstance(value, int) else number


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
Scalar = Annotated[bool | int | float | str | None, BeforeValidator(_finite_or_none)]


def speaker_hash(speaker: str) -> str:
    """Return the SHA-256 of a speaker's id. The hash is a pseudonym: it can be computed from the id."""
    return hashlib.sha256(speaker.encode()).hexdigest()


class Section(BaseModel):
    """Part of a file that a run writes. Unlike settings, it may hold non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Run(Section):
    """Request and outcome of a run.

    Attributes:
        command: Command line, for repeating the run.
        config: Configuration as YAML.
        next_step: Advice after a failure.
    """

    name: str
    started: datetime.datetime
    seconds: Number = None
    status: Literal["completed", "failed"]
    failed_component: str | None = None
    error: str | None = None
    next_step: str | None = None
    command: str
    config: str = ""
    span: int | None = None


class Protocol(Section):
    """How clips were split: by speaker, or at random, with test speakers in training too.

    Attributes:
        speakers: Ids of the speakers of each split, or their hashes.
    """

    kind: Literal["speaker", "random_clip"]
    seed: int | None = None
    speakers: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    def hashed(self) -> "Protocol":
        """Return a copy with hashes in place of the speakers' ids, for files that leave the pipeline with a model."""
        speakers = {split: tuple(map(speaker_hash, ids)) for split, ids in self.speakers.items()}
        return self.model_copy(update={"speakers": speakers})

    @property
    def training_speakers(self) -> frozenset[str]:
        """Speakers of training and early stopping."""
        return frozenset((*self.speakers.get(TRAIN, ()), *self.speakers.get(EVAL, ())))

    @property
    def sentence(self) -> str:
        """Meaning of the numbers of this split."""
        if self.kind == "speaker":
            return "Split by speaker: training and early stopping used no speaker of the test split."
        return (
            "Split by random clips: training used the speakers of the test split too. "
            "Expect clearly lower results on unseen speakers."
        )


class SplitData(Section):
    """Clips of one split; ``examples`` includes augmented copies."""

    split: str
    clips: int
    examples: int
    speakers: int
    hours: Number = None
    by_corpus: dict[str, int] = Field(default_factory=dict)
    by_emotion: dict[str, int] = Field(default_factory=dict)
    by_sex: dict[str, int] = Field(default_factory=dict)


class QuarantinedClip(Section):
    """An unusable recording: a short ``reason`` for counting, and the ``detail`` of this recording."""

    path: str
    reason: str
    detail: str = ""


class Duplicate(Section):
    """Two files with the same content; only ``kept`` was used."""

    kept: str
    dropped: str


class Data(Section):
    """Ingested and refused recordings.

    Attributes:
        synthetic: Clips whose file has the tag of the demo corpus, wherever it lies.
    """

    splits: tuple[SplitData, ...]
    quarantined: tuple[QuarantinedClip, ...] = ()
    dropped_labels: dict[str, int] = Field(default_factory=dict)
    duplicates: tuple[Duplicate, ...] = ()
    audio_spec: dict[str, Scalar] = Field(default_factory=dict)
    audio_spec_fingerprint: str = ""
    synthetic: int = 0

    @property
    def is_synthetic(self) -> bool:
        """Whether synthetic speech is among the data."""
        return self.synthetic > 0 or DEMO_CORPUS in self.corpora

    @property
    def clips(self) -> int:
        """Clips of all splits."""
        return sum(split.clips for split in self.splits)

    @property
    def hours(self) -> float:
        """Duration of all splits."""
        return sum(split.hours or 0.0 for split in self.splits)

    @property
    def corpora(self) -> tuple[str, ...]:
        """Names of the corpora, sorted."""
        return tuple(sorted({corpus for split in self.splits for corpus in split.by_corpus}))

    @property
    def quarantined_by_reason(self) -> dict[str, int]:
        """Clips per reason, the most frequent first."""
        counts: dict[str, int] = {}
        for clip in self.quarantined:
            counts[clip.reason] = counts.get(clip.reason, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


class Training(Section):
    """Training of the model.

    Attributes:
        history: Values per epoch, by the names of Keras: ``loss``, ``val_loss``, ``accuracy``, ...
        kept_epoch: Epoch, counted from 1, whose weights the model has.
    """

    family: str
    parameters: int
    epochs_run: int
    epochs_limit: int | None = None
    kept_epoch: int | None = None
    seconds: Number = None
    history: dict[str, tuple[Number, ...]] = Field(default_factory=dict)
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)


class Trial(Section):
    """One trial of the tuner.

    Attributes:
        curve: Objective per epoch.
        first_epoch: First epoch of the curve, counted from 1; above 1 if the trial resumes an earlier one's model.
        failure: Last line of the error, if the trial failed.
    """

    name: str
    status: str
    score: Number = None
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)
    curve: tuple[Number, ...] = ()
    first_epoch: int = 1
    seconds: Number = None
    failure: str = ""


class TuningSplits(Section):
    """Sizes of the splits that trials were trained and scored on."""

    train_examples: int
    train_speakers: int
    eval_clips: int
    eval_speakers: int
    speakers_in_both: int


class Tuning(Section):
    """The tuner's search."""

    algorithm: str
    objective: str
    higher_is_better: bool
    trials: tuple[Trial, ...]
    splits: TuningSplits | None = None

    @property
    def epochs(self) -> int:
        """Epochs of all trials together."""
        return sum(len(trial.curve) for trial in self.trials)

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """Trials from the best score to the worst; those without a score last."""
        sign = -1.0 if self.higher_is_better else 1.0
        return tuple(sorted(self.trials, key=lambda t: math.inf if t.score is None else sign * t.score))


class Metric(Section):
    """Value with its interval.

    Attributes:
        source: ``predictions`` if computed from the predictions of the split, ``tfma`` if read from the Evaluator.
        resampled: Unit of the bootstrap. It is ``clips`` for a single speaker only; such an interval does not hold for
            other speakers.
    """

    name: str
    value: Number = None
    low: Number = None
    high: Number = None
    source: Literal["predictions", "tfma"] = "predictions"
    resampled: Literal["speakers", "clips"] | None = None

    @property
    def texts(self) -> tuple[str, str, str]:
        """Title, value and interval as text; the latter is empty without an interval."""
        name = self.name
        return metric_name(name).title, metric_text(self.value, name), range_text(self.low, self.high, name)


class IntervalMethod(Section):
    """Method of the intervals of an evaluation."""

    level: float
    resamples: int
    seed: int
    text: str
    caution: str | None = None


class ClassResult(Section):
    """Scores of one emotion."""

    emotion: str
    clips: int
    precision: Metric
    recall: Metric
    f1: Metric


class SliceResult(Section):
    """Metrics of the clips that share one property, with the number of their emotions."""

    dimension: str
    value: str
    clips: int
    speakers: int
    metrics: tuple[Metric, ...]
    emotions: int = 0

    def metric(self, name: str) -> Metric | None:
        """Return the metric of that name, or None."""
        return _find(self.metrics, name)


class CalibrationBin(Section):
    """Clips whose confidence lies in ``(low, high]``."""

    low: float
    high: float
    clips: int
    confidence: Number = None
    accuracy: Number = None


class Coverage(Section):
    """Accuracy of a model that answers the clips with the highest confidence alone.

    Attributes:
        coverage: Share of the clips that it answers.
        min_confidence: Confidence from which it answers.
        accuracy: Accuracy of these answers; without a value if there are none.
        chosen: Whether ``min_confidence`` is that of the served model, not that of a share.
    """

    coverage: float
    min_confidence: float
    accuracy: Metric
    chosen: bool = False


class WrongPrediction(Section):
    """Clip whose predicted emotion is not its label.

    Attributes:
        path: Path relative to the folder of recordings.
        probability: Probability of the predicted emotion.
        label_probability: Probability of the label.
        check_label: Whether the label may be wrong, by :func:`modules.evaluation.errors.suspect_labels`.
    """

    path: str
    speaker: str
    emotion: str
    predicted: str
    probability: float
    label_probability: float
    check_label: bool = False


class AcceptanceCheck(Section):
    """Measured value and published bound of one check of an acceptance test.

    Attributes:
        test: Name of the test, such as ``fairness_sex``.
        name: What was measured, such as ``recall of angry, female``.
        value: Share, difference of shares, or rank correlation; its unit is one.
        bound: Published bound, which the value must not reach.
        kind: ``above`` if the value must be above the bound, ``within`` if its absolute value must be below it.
        passed: Whether the value is on the right side of the bound. The interval does not decide.
    """

    test: str
    name: str
    value: float
    low: Number = None
    high: Number = None
    bound: float
    kind: Literal["above", "within"]
    passed: bool

    @property
    def margin(self) -> float:
        """Distance of the value from the bound; negative on the wrong side."""
        return self.value - self.bound if self.kind == "above" else self.bound - abs(self.value)

    @property
    def certain(self) -> bool:
        """Whether the whole interval is on the same side of the bound as the value."""
        if self.low is None or self.high is None:
            return False
        if self.kind == "above":
            return (self.low > self.bound) == (self.high > self.bound)
        inside = max(abs(self.low), abs(self.high)) < self.bound
        return inside if self.passed else self.low >= self.bound or self.high <= -self.bound

    @property
    def texts(self) -> tuple[str, str, str]:
        """Value, interval and bound as texts; the interval is empty where it is unknown."""
        name = "" if self.test == RANKING_TEST else "uar"  # a correlation is not a percentage
        bound = metric_text(self.bound, name)
        return (
            metric_text(self.value, name),
            range_text(self.low, self.high, name),
            f"above {bound}" if self.kind == "above" else f"below {bound} either way",
        )


class SkippedTest(Section):
    """Acceptance test, or a part of it, that the data do not allow."""

    test: str
    reason: str


class Acceptance(Section):
    """Checks of the acceptance tests of ser-tests, see :mod:`modules.evaluation.acceptance`.

    Attributes:
        emotions: Emotions that were compared.
        skipped: Tests that the data do not allow.
    """

    emotions: tuple[str, ...]
    clips: int
    speakers: int
    checks: tuple[AcceptanceCheck, ...]
    skipped: tuple[SkippedTest, ...] = ()

    @property
    def tests(self) -> dict[str, tuple[AcceptanceCheck, ...]]:
        """Checks by name of the test, in their order."""
        names = dict.fromkeys(check.test for check in self.checks)
        return {name: tuple(check for check in self.checks if check.test == name) for name in names}

    @property
    def failed(self) -> tuple[AcceptanceCheck, ...]:
        """Checks that did not pass, in their order."""
        return tuple(check for check in self.checks if not check.passed)


class Evaluation(Section):
    """Evaluation of the model on one split.

    Attributes:
        errors: Wrong predictions, in the order of :func:`modules.evaluation.errors.wrong_predictions`; a long list is
            cut.
        coverages: Accuracy at some coverages, the largest first; the served model's own is the last.
        classes: Order of the rows (true) and columns (predicted) of ``confusion``.
        non_finite_predictions: Clips with non-finite probabilities; above 0, no metric is computed.
        guessing_p_value: Probability that guesses are as good, by :func:`modules.evaluation.chance.p_value`; None
            without metrics, or if each speaker has one emotion alone.
        acceptance: Acceptance tests that need no changed recordings; None without metrics.
    """

    split: str
    clips: int
    speakers: int
    classes: tuple[str, ...]
    interval: IntervalMethod
    metrics: tuple[Metric, ...] = ()
    per_class: tuple[ClassResult, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    slices: tuple[SliceResult, ...] = ()
    calibration: tuple[CalibrationBin, ...] = ()
    coverages: tuple[Coverage, ...] = ()
    non_finite_predictions: int = 0
    guessing_p_value: float | None = None
    errors: tuple[WrongPrediction, ...] = ()
    acceptance: Acceptance | None = None

    def metric(self, name: str, source: str = "predictions") -> Metric | None:
        """Return the metric of that name and source, or None."""
        return _find(self.metrics, name, source)

    @property
    def interval_known(self) -> bool:
        """Whether the split has enough speakers for an interval that holds for other speakers."""
        return self.speakers >= MIN_INTERVAL_SPEAKERS

    @property
    def wrong(self) -> int:
        """Number of wrong predictions."""
        right = sum(row[index] for index, row in enumerate(self.confusion))
        return sum(map(sum, self.confusion)) - right

    @property
    def chance(self) -> float | None:
        """UAR of guessing: one over the number of emotions in this split; None without metrics."""
        present = sum(any(row) for row in self.confusion)
        return 1 / present if present else None

    def chance_in(self, where: Sequence[tuple[str, str]]) -> float | None:
        """Return the UAR of guessing in a slice; that of the whole split where the slice is not evaluated.

        Args:
            where: Pairs of a dimension and its value; empty for the whole split.
        """
        emotions = [part.emotions for part in self.slices if [(part.dimension, part.value)] == list(where)]
        return 1 / emotions[0] if emotions and emotions[0] else self.chance


class Check(Section):
    """One condition of the gate.

    Attributes:
        code: Stable identifier, such as ``gate.uar``.
        name: Name for people.
        text: Result in a sentence.
        value: Measured value.
        bound: Limit of the value.
    """

    code: str
    name: str
    passed: bool
    text: str
    value: Number = None
    bound: Number = None


class Verdict(Section):
    """The gate's decision.

    Attributes:
        reasons: Reasons in sentences.
        override: Person and reason of an override; None without one.
    """

    blessed: bool
    checks: tuple[Check, ...] = ()
    reasons: tuple[str, ...] = ()
    override: str | None = None


class Difference(Section):
    """Candidate minus baseline on the same clips."""

    name: str
    candidate: Number
    baseline: Number
    difference: Number
    low: Number = None
    high: Number = None

    @property
    def direction(self) -> Literal["better", "worse", "tie"]:
        """``tie`` unless the whole interval lies on one side of zero."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "tie"
        return "better" if (self.low > 0) == metric_name(self.name).higher_is_better else "worse"


class Baseline(Section):
    """Comparison with the previous blessed model.

    Attributes:
        excluded_speakers: Test speakers that the baseline was trained on; the comparison leaves them out.
    """

    name: str
    split: str
    clips: int
    speakers: int
    differences: tuple[Difference, ...]
    excluded_speakers: tuple[str, ...] = ()

    @property
    def interval_known(self) -> bool:
        """Whether the clips have enough speakers for an interval that holds for other speakers."""
        return self.speakers >= MIN_INTERVAL_SPEAKERS

    def difference(self, name: str) -> Difference | None:
        """Return the difference of the metric of that name, or None."""
        return next((each for each in self.differences if each.name == name), None)


class Push(Section):
    """Destination of the model, or the reason why it was not pushed.

    Attributes:
        endpoint: Address of the endpoint that it was deployed to, if any.
        commands: Commands that use the pushed model.
    """

    version: str | None = None
    path: str | None = None
    endpoint: str | None = None
    reason: str | None = None
    commands: tuple[str, ...] = ()


class PastRun(Section):
    """Result of an earlier run of the same output folder.

    Attributes:
        id: Name of its folder below ``runs/``.
        speakers: Speakers of the test split.
    """

    id: str
    started: datetime.datetime
    family: str | None = None
    speakers: int = 0
    uar: Number = None
    low: Number = None
    high: Number = None
    blessed: bool = False
    version: str | None = None

    @property
    def value(self) -> float | None:
        """The UAR, as a metric has it."""
        return self.uar

    @property
    def interval_known(self) -> bool:
        """Whether the test split had enough speakers for an interval that holds for other speakers."""
        return self.speakers >= MIN_INTERVAL_SPEAKERS


class Component(Section):
    """One node of the pipeline."""

    name: str
    seconds: Number
    state: Literal["ran", "cached", "failed", "skipped"]


class Lineage(Section):
    """Inputs that determine the model."""

    config_fingerprint: str
    code_version: str
    python: str
    packages: dict[str, str] = Field(default_factory=dict)
    data_span: int | None = None
    data_fingerprint: str | None = None


class Bounded(Section):
    """Statistic and the largest value that chance explains."""

    value: Number
    threshold: Number

    @property
    def drifted(self) -> bool:
        """Whether the value exceeds the threshold."""
        return self.value is not None and self.threshold is not None and self.value > self.threshold


class DriftedFeature(Section):
    """One feature before and now; see :class:`modules.drift.report.FeatureDrift`."""

    name: str
    ks: Bounded
    reference_median: Number = None
    current_median: Number = None


class Drift(Section):
    """New data, or requests, against the data that the blessed baseline was trained on.

    Attributes:
        not_compared: Reason why the data were not compared; None if they were.
        features: The most drifted features, in descending order.
        feature_count: Number of compared features.
        reference_labels: Share of each emotion; empty if labels are unknown.
    """

    what: str
    reference: str = ""
    current: str = ""
    not_compared: str | None = None
    drifted: bool = False
    reasons: tuple[str, ...] = ()
    p_value: Number = None
    false_alarm_rate: Number = None
    reference_clips: int = 0
    reference_speakers: int | None = None
    current_clips: int = 0
    current_speakers: int | None = None
    mean_ks: Bounded | None = None
    features: tuple[DriftedFeature, ...] = ()
    feature_count: int = 0
    reference_labels: dict[str, Number] = Field(default_factory=dict)
    current_labels: dict[str, Number] = Field(default_factory=dict)


class Logged(Section):
    """Place of the logged parameters and metrics.

    Attributes:
        error: Reason why they could not be logged, which does not fail the run; None if they were.
    """

    where: str
    address: str | None = None
    error: str | None = None


class RunSummary(Section):
    """Summary of a run.

    Attributes:
        history: Earlier runs of the same output folder, the oldest first.
        model_card: Address of the model card in Markdown.
        training_logs: Folder of the training's logs, for TensorBoard.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    run: Run
    protocol: Protocol | None = None
    data: Data | None = None
    training: Training | None = None
    tuning: Tuning | None = None
    evaluation: Evaluation | None = None
    verdict: Verdict | None = None
    baseline: Baseline | None = None
    drift: tuple[Drift, ...] = ()
    pushed: Push | None = None
    components: tuple[Component, ...] = ()
    lineage: Lineage | None = None
    logged: tuple[Logged, ...] = ()
    history: tuple[PastRun, ...] = ()
    model_card: str | None = None
    training_logs: str | None = None

    @property
    def demo(self) -> bool:
        """Whether the data include synthetic speech, so that the numbers are not accuracy on human speech."""
        return self.data is not None and self.data.is_synthetic

    def to_json(self) -> str:
        """Return indented JSON; numbers are finite or null."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunSummary":
        """Return the summary that :meth:`to_json` wrote.

        Args:
            text: Content of ``summary.json``.

        Raises:
            SummaryVersionError: The text has another schema version.
            pydantic.ValidationError: A field is missing, unknown or of the wrong type.
        """
        content = json.loads(text)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise SummaryVersionError(
                f"schema_version is {version!r}; allowed: {SCHEMA_VERSION}. Read the summary with the version of the "
                "code that wrote it, or repeat the run"
            )
        return cls.model_validate_json(text)


def split_order(split: str) -> tuple[int, str]:
    """Return the sort key of a split: train, eval, test, then others by name."""
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)


def _find(metrics: tuple[Metric, ...], name: str, source: str = "predictions") -> Metric | None:
    return next((metric for metric in metrics if metric.name == name and metric.source == source), None)
