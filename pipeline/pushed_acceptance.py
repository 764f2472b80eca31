"""Acceptance tests of a pushed model, by the answers that its server would give."""

import dataclasses
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from components.audio_example_gen.corpora import identify
from components.audio_example_gen.corpora.demographics import demographics
from modules.audio.changes import Change, Voices, changed, unchanged
from modules.audio.decoding import AudioLimits, BadAudio, Recording, decode
from modules.common import addresses
from modules.common.errors import SerError
from modules.common.progress import Progress
from modules.data.clips import Clip
from modules.data.labels import LabelSettings
from modules.data.splits import TEST
from modules.evaluation.acceptance.measure import KINDS, SEX, Kind, groups_of, of_predictions
from modules.evaluation.intervals import Predictions
from modules.export.contract import EXTRA_ASSETS, PROTOCOL_FILE, load_contract
from modules.reporting.summary import Acceptance, Protocol, speaker_hash
from serving.batch.in_process import InProcess
from serving.batch.plan import PushedModel
from serving.client import AudioError, Client

Speakers = Literal["unseen", "test", "all"]


class NothingToTest(SerError):
    """The folder has no recording of the chosen speakers."""

    code = "acceptance.no_recordings"


class Unanswered(SerError):
    """The model has no answer to a recording."""

    code = "acceptance.unanswered"


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Recordings that a model is tested on.

    Attributes:
        data: Folder of the recordings.
        clips: The recordings of the chosen speakers, ordered by clip.
        sentence: What is tested, and whether the model trained on the speakers.
    """

    data: str
    clips: tuple[Clip, ...]
    sentence: str


def recordings_of(model: PushedModel, data: str, *, speakers: Speakers) -> Recordings:
    """Return the usable recordings of the chosen speakers.

    Args:
        model: The pushed model, which has hashes of its speakers.
        data: Folder of recordings, local or in a bucket.
        speakers: Which speakers.

    Raises:
        NothingToTest: There is none, or the model's speakers are not recorded.
    """
    contract = load_contract(model.path)
    labels = LabelSettings(emotions=contract.labels)
    clips = identify(addresses.files(data), read_text=lambda path: _text(data, path), labels=labels).clips
    if not clips:
        raise NothingToTest(
            f"{data} has no recordings with an emotion of the model: {', '.join(contract.labels)}; `ser corpus scan "
            f"{data}` lists what it has"
        )
    protocol = _protocol_of(model)
    if protocol is None and speakers != "all":
        raise NothingToTest(
            f"model version {model.version} does not record its speakers ({EXTRA_ASSETS}/{PROTOCOL_FILE} is missing), "
            "so that any may have been in training; --speakers all tests it on all of them"
        )
    trained = protocol.training_speakers if protocol else frozenset()
    tested = frozenset(protocol.speakers.get(TEST, ())) if protocol else frozenset()
    wanted = {
        "unseen": lambda speaker: speaker not in trained,
        "test": lambda speaker: speaker in tested,
        "all": lambda speaker: True,
    }[speakers]
    chosen = tuple(clip for clip in clips if wanted(speaker_hash(clip.speaker)))
    if not chosen:
        raise NothingToTest(
            f"{data} has {len(clips)} recordings with an emotion of the model, and none of its speakers is {speakers}: "
            "name a folder with other speakers, or --speakers all, whose results do not hold for unseen speakers"
        )
    usable = tuple(clip for clip in chosen if _is_usable(clip, data, contract.limits))
    seen = len({clip.speaker for clip in usable if speaker_hash(clip.speaker) in trained})
    left_out = len(chosen) - len(usable)
    sentence = _sentence(usable, seen if protocol else None) + f" {left_out} unusable ones are left out." * bool(
        left_out
    )
    return Recordings(data, usable, sentence)


def _read(clip: Clip, data: str, limits: AudioLimits) -> Recording:
    return decode(addresses.read_bytes(posixpath.join(data, clip.path)), limits)


def _is_usable(clip: Clip, data: str, limits: AudioLimits) -> bool:
    try:
        _read(clip, data, limits)
    except BadAudio:
        return False
    return True


def _sentence(clips: Sequence[Clip], seen: int | None) -> str:
    speakers = len({clip.speaker for clip in clips})
    if seen is None:
        known = "the model may have trained on them: it does not record its speakers"
    elif seen:
        known = f"the model trained on {seen} of them, so the results do not hold for unseen speakers"
    else:
        known = "the model did not train on them"
    return f"{len(clips)} recordings of {speakers} speakers; {known}."


def accept(
    model: PushedModel, recordings: Recordings, *, kinds: Iterable[Kind] = KINDS, emotions: Sequence[str] | None = None
) -> Acceptance:
    """Return the tests of a model in this process.

    Args:
        model: The pushed model.
        recordings: Result of :func:`recordings_of`.
        kinds: Kinds of tests.
        emotions: Emotions to compare; all of the model by default.

    Raises:
        Unanswered: The model has no answer to a recording, as it is or changed.
    """
    answers = _Answers(model, recordings)
    clips = recordings.clips
    speakers = [clip.speaker for clip in clips]
    properties = {SEX: {clip.speaker: clip.sex for clip in clips}} | demographics(recordings.data, speakers)
    return of_predictions(
        answers.predict("as recorded", unchanged),
        answers.labels,
        groups_of(speakers, properties),
        kinds=kinds,
        emotions=emotions,
        predict=answers.predict,
    )


class _Answers:
    """Answers of a model in this process to changed recordings."""

    def __init__(self, model: PushedModel, recordings: Recordings) -> None:
        loaded = InProcess(model)
        self._recordings, self._limits = recordings, load_contract(model.path).limits
        self._client, self.labels = Client(loaded), tuple(loaded.labels)
        first = {clip.speaker: clip for clip in reversed(recordings.clips)}
        self._voices = Voices({speaker: self._read(clip) for speaker, clip in first.items()})

    def _read(self, clip: Clip) -> Recording:
        return _read(clip, self._recordings.data, self._limits)

    def predict(self, name: str, change: Change) -> Predictions:
        """Return the predictions of all recordings under a change, in the order of the clips."""
        clips = self._recordings.clips
        progress = Progress(f"Predict  {name}", total=len(clips), unit="recordings")
        rows = []
        answers = self._client.predict_each(self._sounds(change, progress))
        for clip, answer in zip(clips, answers, strict=True):
            if isinstance(answer, AudioError):
                raise Unanswered(
                    f"the model has no answer to {clip.path} ({name}): {answer}; move the recording out of the folder"
                )
            rows.append([answer.probabilities[label] for label in self.labels])
        labels = [self.labels.index(clip.emotion) for clip in clips]
        return Predictions.of(labels, np.array(rows), [clip.speaker for clip in clips])

    def _sounds(self, change: Change, progress: Progress) -> Iterator[tuple[np.ndarray, int]]:
        for clip in self._recordings.clips:
            recording = self._read(clip)
            rate_hz = recording.sample_rate_hz
            voices = self._voices.without(clip.speaker, rate_hz)
            yield changed(recording.samples, rate_hz, change, key=clip.clip_id, voices=voices)
            progress.advance()


def _protocol_of(model: PushedModel) -> Protocol | None:
    try:
        text = addresses.read_bytes(posixpath.join(model.path, EXTRA_ASSETS, PROTOCOL_FILE))
    except FileNotFoundError:
        return None
    return Protocol.model_validate_json(text)


def _text(data: str, path: str) -> str:
    return addresses.read_bytes(posixpath.join(data, path)).decode()
