"""The typed content of ``summary.json``.

Every section is optional but the run itself: a run that fails in its first component has a summary too.
Durations are in seconds unless a name says hours, shares lie between 0 and 1, and a number that is not finite is
``null``, so that any JSON reader takes the file.
"""

import datetime
import json
import math
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from modules.data.labels import SPLITS
from modules.data.splits import EVAL, TRAIN
from modules.reporting.metric_names import metric_name

SCHEMA_VERSION: Final = 1
DEMO_CORPUS = "demo"


class SummaryVersionError(ValueError):
    """A ``summary.json`` was written by another version of this code."""


def _finite_or_none(value: Any) -> Any:
    """NumPy's and Python's NaN and infinities have no JSON; they become None."""
    if value is None or isinstance(value, str | bool):
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return value if isinstance(value, int) else number


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
Scalar = Annotated[bool | int | float | str | None, BeforeValidator(_finite_or_none)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Run(_Section):
    """What was asked for and how it ended.

    Attributes:
        command: As typed, to be repeated.
        config: The configuration as the user would write it, YAML.
        next_step: What a person should do about a failure.
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


class Protocol(_Section):
    """How clips were split: by speaker, or clip by clip at random (test voices were heard in training)."""

    kind: Literal["speaker", "random_clip"]
    seed: int | None = None
    speakers: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @property
    def heard(self) -> frozenset[str]:
        """Who was heard in training or in early stopping."""
        return frozenset((*self.speakers.get(TRAIN, ()), *self.speakers.get(EVAL, ())))

    @property
    def sentence(self) -> str:
        """What the numbers of this split stand for, for a reader who does not know the protocol."""
        if self.kind == "speaker":
            return "Split by speaker: nobody in the test split was heard in training or early stopping."
        return (
            "Split by random clips: the voices of the test split were heard in training too. "
            "Expect clearly less on new voices."
        )


class SplitData(_Section):
    """One split's clips; ``examples`` also counts augmented copies."""

    split: str
    clips: int
    examples: int
    speakers: int
    hours: Number = None
    by_corpus: dict[str, int] = Field(default_factory=dict)
    by_emotion: dict[str, int] = Field(default_factory=dict)
    by_sex: dict[str, int] = Field(default_factory=dict)


class QuarantinedClip(_Section):
    """A recording that was set aside: a short ``reason`` to count by, and the ``detail`` of this one."""

    path: str
    reason: str
    detail: str = ""


class Duplicate(_Section):
    """Two files with the same content, of which one was used."""

    kept: str
    dropped: str


class Data(_Section):
    """What was ingested, and what was not."""

    splits: tuple[SplitData, ...]
    quarantined: tuple[QuarantinedClip, ...] = ()
    dropped_labels: dict[str, int] = Field(default_factory=dict)
    duplicates: tuple[Duplicate, ...] = ()
    audio_spec: dict[str, Scalar] = Field(default_factory=dict)
    audio_spec_fingerprint: str = ""

    @property
    def clips(self) -> int:
        return sum(split.clips for split in self.splits)

    @property
    def hours(self) -> float:
        return sum(split.hours or 0.0 for split in self.splits)

    @property
    def corpora(self) -> tuple[str, ...]:
        return tuple(sorted({corpus for split in self.splits for corpus in split.by_corpus}))

    @property
    def quarantined_by_reason(self) -> dict[str, int]:
        """Clips per reason, the most frequent first."""
        counts: dict[str, int] = {}
        for clip in self.quarantined:
            counts[clip.reason] = counts.get(clip.reason, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


class Training(_Section):
    """How the model was fitted.

    Attributes:
        history: Per epoch, by Keras's names: ``loss``, ``val_loss``, ``accuracy``, ...
        kept_epoch: Counted from 1: the epoch whose weights the model has.
    """

    family: str
    parameters: int
    epochs_run: int
    epochs_limit: int | None = None
    kept_epoch: int | None = None
    seconds: Number = None
    history: dict[str, tuple[Number, ...]] = Field(default_factory=dict)
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)


class Trial(_Section):
    """One setting that the tuner tried.

    Attributes:
        curve: The objective per epoch.
        first_epoch: Of the curve, counted from 1; above 1 where it goes on with an earlier trial's model.
        failure: The last line of what went wrong, where something did.
    """

    name: str
    status: str
    score: Number = None
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)
    curve: tuple[Number, ...] = ()
    first_epoch: int = 1
    seconds: Number = None
    failure: str = ""


class JudgedOn(_Section):
    """What trials were trained on and what they were judged on."""

    train_examples: int
    train_speakers: int
    eval_clips: int
    eval_speakers: int
    speakers_in_both: int


class Tuning(_Section):
    """The tuner's search."""

    algorithm: str
    objective: str
    higher_is_better: bool
    trials: tuple[Trial, ...]
    judged_on: JudgedOn | None = None

    @property
    def epochs(self) -> int:
        """That all trials took together."""
        return sum(len(trial.curve) for trial in self.trials)

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """Trials from the best score to the worst; those without a score last."""
        sign = -1.0 if self.higher_is_better else 1.0
        return tuple(sorted(self.trials, key=lambda t: math.inf if t.score is None else sign * t.score))


class Metric(_Section):
    """A value with its interval.

    Attributes:
        source: ``predictions``: computed here from the split's predictions; ``tfma``: read from the Evaluator.
        resampled: What the interval's bootstrap drew. ``clips`` only where there is a single speaker: such an
            interval says nothing about other speakers.
    """

    name: str
    value: Number = None
    low: Number = None
    high: Number = None
    source: Literal["predictions", "tfma"] = "predictions"
    resampled: Literal["speakers", "clips"] | None = None


class IntervalMethod(_Section):
    """How every interval of an evaluation was made."""

    level: float
    resamples: int
    seed: int
    text: str
    caution: str | None = None


class ClassResult(_Section):
    """One emotion among the rest."""

    emotion: str
    clips: int
    precision: Metric
    recall: Metric
    f1: Metric


class SliceResult(_Section):
    """The metrics of the clips that share one property."""

    dimension: str
    value: str
    clips: int
    speakers: int
    metrics: tuple[Metric, ...]

    def metric(self, name: str) -> Metric | None:
        return _find(self.metrics, name)


class CalibrationBin(_Section):
    """Clips whose confidence lies in ``(low, high]``."""

    low: float
    high: float
    clips: int
    confidence: Number = None
    accuracy: Number = None


class Evaluation(_Section):
    """How the model does on one split.

    Attributes:
        classes: The order of the rows (true) and columns (predicted) of ``confusion``.
        non_finite_predictions: Clips whose probabilities are not numbers; above 0 nothing else is computed.
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
    non_finite_predictions: int = 0

    def metric(self, name: str, source: str = "predictions") -> Metric | None:
        return _find(self.metrics, name, source)

    @property
    def chance(self) -> float | None:
        """UAR of guessing: one over the emotions that occur in this split."""
        present = sum(1 for result in self.per_class if result.clips)
        return 1 / present if present else None


class Check(_Section):
    """One condition of the gate, in numbers and in words."""

    name: str
    passed: bool
    text: str
    value: Number = None
    bound: Number = None


class Verdict(_Section):
    """The gate's decision.

    Attributes:
        reasons: Why, in sentences; for a blessed model what it was blessed for.
        override: Who overrode the gate and why, where someone did.
    """

    blessed: bool
    checks: tuple[Check, ...] = ()
    reasons: tuple[str, ...] = ()
    override: str | None = None


class Difference(_Section):
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


class Baseline(_Section):
    """Comparison with the blessed model that was there before.

    Attributes:
        heard: Test speakers whom it was trained on; they take no part.
    """

    name: str
    split: str
    clips: int
    speakers: int
    differences: tuple[Difference, ...]
    heard: tuple[str, ...] = ()


class Push(_Section):
    """Where the model went, or why it did not. ``ask`` are commands that put a question to the pushed model.

    Attributes:
        endpoint: Address of the endpoint that it was deployed to, where it was.
    """

    version: str | None = None
    path: str | None = None
    endpoint: str | None = None
    reason: str | None = None
    ask: tuple[str, ...] = ()


class Component(_Section):
    """One node of the pipeline."""

    name: str
    seconds: Number
    state: Literal["ran", "cached", "failed", "skipped"]


class Lineage(_Section):
    """What would have to be the same to get the same model."""

    config_fingerprint: str
    code_version: str
    python: str
    packages: dict[str, str] = Field(default_factory=dict)
    data_span: int | None = None
    data_fingerprint: str | None = None


class Bounded(_Section):
    """A statistic and the largest value that chance explains."""

    value: Number
    threshold: Number

    @property
    def drifted(self) -> bool:
        return self.value is not None and self.threshold is not None and self.value > self.threshold


class DriftedFeature(_Section):
    """One feature before and now; see :class:`modules.drift.report.FeatureDrift`."""

    name: str
    ks: Bounded
    reference_median: Number = None
    current_median: Number = None


class Drift(_Section):
    """New data, or requests, against the data that the blessed baseline was trained on.

    Attributes:
        not_compared: Why there is nothing else here, where there is not.
        features: The most drifted first; of many the first ones.
        feature_count: How many were compared.
        reference_labels: Share of each emotion; empty where labels are not known.
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


class Logged(_Section):
    """Where parameters and metrics were logged, to be compared with other runs'.

    Attributes:
        error: Why they were not, where they were not. The run goes on all the same.
    """

    where: str
    address: str | None = None
    error: str | None = None


class RunSummary(_Section):
    """Everything a run says about itself."""

    schema_version: Literal[1] = SCHEMA_VERSION
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

    @property
    def demo(self) -> bool:
        """Whether synthetic speech is among the data: its numbers are not accuracy on human speech."""
        return self.data is not None and DEMO_CORPUS in self.data.corpora

    def to_json(self) -> str:
        """Indented JSON; numbers are finite or null."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunSummary":
        """Reads what :meth:`to_json` wrote.

        Raises:
            SummaryVersionError: It was written in another schema version.
            pydantic.ValidationError: A field is missing, unknown or of the wrong type.
        """
        content = json.loads(text)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise SummaryVersionError(
                f"summary has schema_version {version!r}; this code reads {SCHEMA_VERSION}. "
                "Read it with the version that wrote it, or repeat the run."
            )
        return cls.model_validate_json(text)


def split_order(split: str) -> tuple[int, str]:
    """Sort key: train, eval, test, then any other by name."""
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)


def _find(metrics: tuple[Metric, ...], name: str, source: str = "predictions") -> Metric | None:
    return next((metric for metric in metrics if metric.name == name and metric.source == source), None)
