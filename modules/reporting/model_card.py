"""Model card: Markdown for people, JSON for programs.

After Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from modules.audio.encoder.catalog import ENCODERS
from modules.audio.spec import AudioSpec
from modules.demo_corpus import CORPUS_NAME as DEMO_CORPUS
from modules.reporting.markdown import table
from modules.reporting.summary import Coverage, Data, Evaluation, Metric, Protocol, Section, Verdict

JSON_FILE = "model_card.json"
MARKDOWN_FILE = "model_card.md"

CommercialUse = Literal["no", "with conditions", "unknown", "yes"]

INTENDED_USE = (
    "Research on emotional speech, teaching, and trying out speech interfaces with people who know that they are being "
    "analysed and have agreed to it.",
    "Summaries over many recordings, read together with the error rates below.",
)
MUST_NOT_USE = (
    "Decisions about single people: hiring, admission, credit, insurance, policing, border control, medical or "
    "psychological diagnosis.",
    "Emotion recognition of employees at work or of students; the European Union's AI Act, article 5, forbids it "
    "outside medical and safety purposes.",
    "Listening to people without their knowledge or consent.",
    "Claims about what someone feels. The model classifies the sound of a voice only.",
)
DEMO_LIMIT = "Its data include synthetic speech: its numbers are not accuracy on human speech."
LIMITS = (
    "It was trained on acted speech, read in a studio. Spontaneous speech sounds different and is recognised worse.",
    "Languages, accents, ages and microphones that are not in the training corpora have not been tested.",
    "It has seven classes and always predicts one of them, also for mixed feelings or for none.",
    "It analyses windows of a recording, not the words and not the context. The test used the first window of each.",
)
ASSUMPTION = (
    "The adaptation assumes that the recordings of the place have about the same mixture of emotions as the training "
    "data (Schuller et al., 2010). A place where one emotion prevails loses this difference, and is answered wrongly."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """Origin and licence of a corpus."""

    title: str
    licence: str
    commercial_use: CommercialUse
    reference: str


CORPORA: dict[str, CorpusFacts] = {
    "ravdess": CorpusFacts(
        title="RAVDESS",
        licence="CC BY-NC-SA 4.0",
        commercial_use="no",
        reference="Livingstone & Russo (2018), PLoS ONE 13(5): e0196391",
    ),
    "crema-d": CorpusFacts(
        title="CREMA-D",
        licence="ODbL 1.0, contents DbCL 1.0",
        commercial_use="with conditions",
        reference="Cao et al. (2014), IEEE Transactions on Affective Computing 5(4)",
    ),
    "tess": CorpusFacts(
        title="TESS",
        licence="see the terms at its source",
        commercial_use="unknown",
        reference="Pichora-Fuller & Dupuis (2020), Toronto emotional speech set",
    ),
    "savee": CorpusFacts(
        title="SAVEE",
        licence="see the terms at its source",
        commercial_use="unknown",
        reference="Haq & Jackson (2010), in Machine Audition: Principles, Algorithms and Systems",
    ),
    "emodb": CorpusFacts(
        title="Emo-DB",
        licence="see the terms at its source",
        commercial_use="unknown",
        reference="Burkhardt et al. (2005), A database of German emotional speech, Interspeech",
    ),
    DEMO_CORPUS: CorpusFacts(
        title="Demo corpus",
        licence="synthetic speech, made by this project with espeak-ng",
        commercial_use="yes",
        reference="no recordings of people; nothing measured on it is accuracy on human speech",
    ),
}


def corpus_facts(corpus: str) -> CorpusFacts:
    """Return the facts of a corpus by its short name; the terms of a corpus without an entry are unknown."""
    unknown = "unknown to this project; see the source of the recordings"
    return CORPORA.get(corpus, CorpusFacts(title=corpus, licence=unknown, commercial_use="unknown", reference=""))


class CorpusShare(Section):
    """One corpus of the training data."""

    corpus: str
    title: str
    licence: str
    commercial_use: CommercialUse
    reference: str
    clips: int


class SliceScore(Section):
    """UAR of the test clips that share one property."""

    dimension: str
    value: str
    clips: int
    speakers: int
    uar: Metric


class Network(Section):
    """Architecture of the model; empty if the model has no description."""

    family: str | None = None
    parameters: int | None = None
    hyperparameters: dict[str, bool | int | float | str | None] = Field(default_factory=dict)


class Adapted(Section):
    """Adaptation of the model to another place by recordings without labels.

    Attributes:
        version: Number of the version that was adapted.
        date: Date of the adaptation in UTC, as in ISO 8601.
        recordings: Number of recordings with speech.
        windows: Number of their windows with speech.
        speech_sec: Duration of these windows in seconds.
    """

    version: int
    date: str
    recordings: int
    windows: int
    speech_sec: float


class ModelCard(Section):
    """Model card with the numbers of the run that trained the model."""

    name: str
    network: Network = Network()
    adapted: Adapted | None = None
    emotions: tuple[str, ...]
    audio_spec: dict[str, float | int | str]
    audio_spec_fingerprint: str
    corpora: tuple[CorpusShare, ...]
    commercial_use: CommercialUse
    clips: dict[str, int]
    speakers: dict[str, int]
    protocol: str
    metrics: tuple[Metric, ...]
    interval: str
    caution: str | None
    coverages: tuple[Coverage, ...] = ()
    slices: tuple[SliceScore, ...]
    verdict: Verdict
    intended_use: tuple[str, ...] = INTENDED_USE
    must_not_use: tuple[str, ...] = MUST_NOT_USE
    limits: tuple[str, ...]


def describe(
    *,
    name: str,
    spec: AudioSpec,
    data: Data,
    protocol: Protocol,
    evaluation: Evaluation,
    verdict: Verdict,
    network: Network | None = None,
) -> ModelCard:
    """Return the card of a model.

    Args:
        name: Name of the model.
        spec: Audio spec of the model.
        data: Data of the run.
        protocol: Splits of the run.
        evaluation: Evaluation of the model.
        verdict: Verdict of the gate.
        network: Architecture of the model.
    """
    corpora = tuple(_share(corpus, data) for corpus in data.corpora)
    return ModelCard(
        name=name,
        network=network or Network(),
        emotions=evaluation.classes,
        audio_spec=spec.describe(),
        audio_spec_fingerprint=spec.fingerprint,
        corpora=corpora,
        commercial_use=_strictest(corpora),
        clips={split.split: split.clips for split in data.splits},
        speakers={split.split: split.speakers for split in data.splits},
        protocol=protocol.sentence,
        metrics=evaluation.metrics,
        interval=evaluation.interval.text,
        caution=evaluation.interval.caution,
        coverages=evaluation.coverages,
        slices=tuple(_slices(evaluation)),
        verdict=verdict,
        limits=((DEMO_LIMIT,) if data.is_synthetic else ()) + LIMITS,
    )


def to_markdown(card: ModelCard) -> str:
    """Return the card as Markdown."""
    parts = [
        f"# Model card: {card.name}",
        f"Predicts one of {', '.join(card.emotions)} for a recording of a voice. "
        f"It analyses windows of {card.audio_spec['window_sec']:g} s at {card.audio_spec['sample_rate_hz']} Hz; "
        f"audio spec {card.audio_spec_fingerprint}.",
        *_network_text(card.network),
        *_encoder_text(card.audio_spec),
        *_adapted_text(card.adapted),
        *_listed("Intended use", card.intended_use),
        *_listed("It must not be used for", card.must_not_use),
        *_listed("Limits", card.limits),
        "## Training data",
        table(
            ("Corpus", "Clips", "Licence", "Commercial use", "Reference"),
            [(each.title, each.clips, each.licence, each.commercial_use, each.reference) for each in card.corpora],
        ),
        f"Commercial use of a model trained on all of these: **{card.commercial_use}**. This is a reading of the "
        "licences above, not legal advice.",
        table(("Split", "Clips", "Speakers"), [(name, card.clips[name], card.speakers[name]) for name in card.clips]),
        "## Results on the test split",
        card.protocol,
        table(("Metric", "Value", "Interval"), [metric.texts for metric in card.metrics]),
        f"Intervals: {card.interval}." + (f" {card.caution}" if card.caution else ""),
        *_coverages_text(card.coverages),
        table(
            ("Slice", "Clips", "Speakers", "UAR", "Interval"),
            [
                (f"{each.dimension} {each.value}", each.clips, each.speakers, *each.uar.texts[1:])
                for each in card.slices
            ],
        ),
        "## Verdict",
        _verdict_text(card.verdict),
        table(
            ("Check", "Result", "Reason"),
            [(check.name, "pass" if check.passed else "fail", check.text) for check in card.verdict.checks],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _share(corpus: str, data: Data) -> CorpusShare:
    facts = corpus_facts(corpus)
    clips = sum(split.by_corpus.get(corpus, 0) for split in data.splits)
    return CorpusShare(corpus=corpus, clips=clips, **dataclasses.asdict(facts))


def _strictest(corpora: tuple[CorpusShare, ...]) -> CommercialUse:
    order: tuple[CommercialUse, ...] = ("no", "unknown", "with conditions", "yes")
    return min((each.commercial_use for each in corpora), key=order.index, default="unknown")


def _slices(evaluation: Evaluation) -> list[SliceScore]:
    """Return UAR by slice without single speakers, since a card does not name people."""
    return [
        SliceScore(dimension=each.dimension, value=each.value, clips=each.clips, speakers=each.speakers, uar=uar)
        for each in evaluation.slices
        if each.dimension != "speaker" and (uar := each.metric("uar")) is not None
    ]


def _coverages_text(coverages: tuple[Coverage, ...]) -> tuple[str, ...]:
    if not coverages:
        return ()
    chosen = [each for each in coverages if each.chosen]
    answers = f"`not_sure` below a confidence of {chosen[0].min_confidence:.2f}" if chosen else "always an emotion"
    rows = [(f"{each.coverage:.0%}", f"{each.min_confidence:.2f}", *each.accuracy.texts[1:]) for each in coverages]
    return (
        f"The model's answer is {answers}. Accuracy of the answers of high confidence alone:",
        table(("Clips answered", "Confidence from", "Accuracy", "Interval"), rows),
    )


def _network_text(network: Network) -> tuple[str, ...]:
    if network.family is None:
        return ()
    size = f", {network.parameters:,} parameters" if network.parameters is not None else ""
    values = [
        (name, f"{value:.6g}" if isinstance(value, float) else value) for name, value in network.hyperparameters.items()
    ]
    hyperparameters = (table(("Hyperparameter", "Value"), values),) if values else ()
    return "## Model", f"A network of the family {network.family}{size}.", *hyperparameters


def _adapted_text(adapted: Adapted | None) -> tuple[str, ...]:
    if adapted is None:
        return ()
    return (
        "## Adaptation",
        f"Version {adapted.version} was adapted on {adapted.date} to another place by {adapted.recordings} recordings "
        f"without labels: {adapted.windows} windows of speech, {adapted.speech_sec:.0f} s. Their features get mean and "
        f"deviation of the training clips. {ASSUMPTION}",
        "Results and verdict below are those of the model before the adaptation, and its confidences were calibrated "
        "then. Neither was measured at the place.",
    )


def _encoder_text(audio_spec: Mapping[str, float | int | str]) -> tuple[str, ...]:
    if "encoder" not in audio_spec:
        return ()
    encoder = ENCODERS[str(audio_spec["encoder"])]
    return (f"Features come from the frozen encoder {encoder.name} ({encoder.licence} licence): {encoder.source}.",)


def _verdict_text(verdict: Verdict) -> str:
    head = "Blessed." if verdict.blessed else "Rejected: it must not be served."
    override = f" **The gate was overridden: {verdict.override}**" if verdict.override else ""
    return head + override


def _listed(title: str, sentences: tuple[str, ...]) -> tuple[str, str]:
    return f"## {title}", "\n".join(f"- {sentence}" for sentence in sentences)
