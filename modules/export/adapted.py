"""Adaptation of a pushed model: scale and offset of its normalised features, from recordings without labels."""

import datetime
import functools
import posixpath
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from modules.audio import frontend
from modules.audio.decoding import AudioLimits, BadAudio, Recording, decode
from modules.audio.spec import AudioSpec
from modules.common import addresses
from modules.common.errors import SerError
from modules.common.progress import Progress
from modules.data.adaptation import Adaptation
from modules.data.preprocessing import Constants
from modules.data.statistics import Statistics
from modules.export import manifest
from modules.export.contract import EXTRA_ASSETS, STATISTICS_FILE, Contract
from modules.reporting import model_card

LEAST_WINDOWS = 30
"""Fewest windows with speech: the standard error of a mean over 30 is 0.18 deviations, that of a deviation 13 %."""

LISTED = 5
"""Recordings that are listed with the reason why they are not used."""

_BLOCK_WINDOWS = 32  # the spectra of a long recording's windows need much memory
_PLACE = "place"


class NotAdaptable(SerError, ValueError):
    """A model that cannot be adapted."""

    code = "adaptation.model"


class TooLittleSpeech(SerError, ValueError):
    """The recordings of the place have too few windows with speech."""

    code = "adaptation.too_little_speech"


class Place(NamedTuple):
    """Recordings of a place.

    Attributes:
        constants: Mean and deviation of the normalised features of all windows with speech.
        recordings: Number of recordings with speech.
        windows: Number of windows with speech.
        speech_sec: Duration of these windows in seconds.
        unused: Reason for each recording that is not used, by its address.
    """

    constants: Constants
    recordings: int
    windows: int
    speech_sec: float
    unused: dict[str, str]


def training_constants(model_dir: str, contract: Contract) -> Constants:
    """Return mean and deviation of the normalised features of plain training clips.

    Args:
        model_dir: Folder of the SavedModel, local or in a bucket.
        contract: Contract of the SavedModel.

    Raises:
        NotAdaptable: The model has none, or it answers ``not_sure`` below a confidence, whose error rate was measured
            at the place of the training.
    """
    if contract.limits.min_confidence:
        raise NotAdaptable(
            f"{model_dir} answers not_sure below a confidence of {contract.limits.min_confidence:g}, which was chosen "
            "for the recordings of the training and keeps no error rate elsewhere; train and push a model without "
            "training.max_error and limits.min_confidence"
        )
    try:
        text = addresses.read_bytes(posixpath.join(model_dir, EXTRA_ASSETS, STATISTICS_FILE)).decode()
    except FileNotFoundError as error:
        raise NotAdaptable(
            f"{model_dir} has no {EXTRA_ASSETS}/{STATISTICS_FILE}: it was exported by an earlier release, or trained "
            "without plain clips; train it with plain among augmentation.variants, and push it again"
        ) from error
    return Constants.from_json(text)


def measure(recordings: Sequence[str], model: Any, contract: Contract) -> Place:
    """Return mean and deviation of the features of recordings, normalised as the model does.

    Args:
        recordings: Addresses of the recordings, local or in a bucket; of several with the same sound one is used.
        model: The loaded SavedModel.
        contract: Its contract.

    Raises:
        TooLittleSpeech: Fewer than :data:`LEAST_WINDOWS` windows have speech.
    """
    spec = contract.audio_spec
    extract, statistics = _extractor(spec), Statistics(spec)
    progress = Progress("ser adapt", total=len(recordings), unit="recordings")
    unused: dict[str, str] = {}
    samples: list[int] = []
    for address, recording in _decoded(recordings, contract.limits):
        blocks = [] if isinstance(recording, str) else list(extract(recording))
        if not blocks:
            unused[address] = recording if isinstance(recording, str) else "has no speech"
        for features, valid_frames, valid_samples in blocks:
            normalised = model.normalise(features, valid_frames).numpy()
            statistics.add(normalised, valid_frames, np.full(len(normalised), _PLACE))
            samples += valid_samples.tolist()
        progress.advance()
    speech_sec = sum(samples) / spec.sample_rate_hz
    if len(samples) < LEAST_WINDOWS:
        raise TooLittleSpeech(_too_little(recordings, unused, len(samples), speech_sec, spec))
    constants = statistics.constants([_PLACE], "zscore")
    return Place(constants, len(recordings) - len(unused), len(samples), speech_sec, unused)


def save(model: Any, model_dir: str, version: int, out_dir: str, place: Place, source: Constants) -> None:
    """Write a copy of a model that is adapted to a place; an earlier adaptation of the model is replaced.

    Args:
        model: The loaded SavedModel of ``model_dir``; its variables of the adaptation are set.
        model_dir: Folder of the SavedModel, local or in a bucket.
        version: Number of the model's version, for the model card.
        out_dir: Local folder to write, without a manifest.
        place: Recordings of the place.
        source: Constants of :func:`training_constants`.
    """
    adaptation = Adaptation.between(place.constants, source)
    model.adaptation_scale.assign(adaptation.scale)
    model.adaptation_offset.assign(adaptation.offset)
    tf.saved_model.save(model, out_dir, signatures=dict(model.signatures))
    for path in addresses.files(model_dir):
        if path.startswith(f"{EXTRA_ASSETS}/") and path not in (manifest.MANIFEST_FILE, manifest.SIGNATURE_FILE):
            addresses.write_bytes(posixpath.join(out_dir, path), addresses.read_bytes(posixpath.join(model_dir, path)))
    _describe(posixpath.join(out_dir, EXTRA_ASSETS), version, place)


def _describe(folder: str, version: int, place: Place) -> None:
    """Add the adaptation to the model card; a model that the pipeline did not evaluate has none."""
    json_file = posixpath.join(folder, model_card.JSON_FILE)
    try:
        card = model_card.ModelCard.model_validate_json(addresses.read_bytes(json_file))
    except FileNotFoundError:
        return
    adapted = model_card.Adapted(
        version=version,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        recordings=place.recordings,
        windows=place.windows,
        speech_sec=place.speech_sec,
    )
    card = card.model_copy(update={"adapted": adapted})
    addresses.write_bytes(json_file, card.model_dump_json(indent=1).encode())
    addresses.write_bytes(posixpath.join(folder, model_card.MARKDOWN_FILE), model_card.to_markdown(card).encode())


def _too_little(
    recordings: Sequence[str], unused: dict[str, str], windows: int, speech_sec: float, spec: AudioSpec
) -> str:
    reasons = [f"{address}: {reason}" for address, reason in unused.items()]
    return "\n".join(
        [
            f"{len(recordings) - len(unused)} of {len(recordings)} recordings have speech: {windows} windows, "
            f"{speech_sec:.0f} s; needed are at least {LEAST_WINDOWS} windows of up to {spec.window_sec:g} s. Add "
            "recordings of the place",
            *reasons[:LISTED],
        ]
    )


def _decoded(recordings: Sequence[str], limits: AudioLimits) -> Iterator[tuple[str, Recording | str]]:
    """Yield address and sound of each recording, or the reason why it is not used."""
    first_with: dict[str, str] = {}
    for address in recordings:
        try:
            recording = decode(addresses.read_bytes(address, max_bytes=limits.max_bytes + 1), limits)
        except (BadAudio, OSError) as error:
            yield address, str(error)
            continue
        first = first_with.setdefault(recording.digest, address)
        yield address, recording if first == address else f"has the sound of {first}"


Extracted = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Features float32 ``[windows, *feature_shape]``, valid frames and valid samples, integer ``[windows]``."""


@functools.cache
def _extractor(spec: AudioSpec) -> Callable[[Recording], Iterator[Extracted]]:
    """Return a function that yields blocks of a recording's windows with speech, of those that a server analyses."""
    cut = tf.function(
        lambda waveform, rate_hz: frontend.windows_of_waveform(waveform, rate_hz, spec),
        input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int64)],
    )
    analyse = tf.function(
        lambda windows, valid_samples: frontend.analyse(windows, valid_samples, spec),
        input_signature=[tf.TensorSpec([None, spec.window_samples], tf.float32), tf.TensorSpec([None], tf.int32)],
    )

    def extract(recording: Recording) -> Iterator[Extracted]:
        windows, valid_samples = cut(recording.samples, np.int64(recording.sample_rate_hz))
        for start in range(0, len(windows), _BLOCK_WINDOWS):
            block = slice(start, start + _BLOCK_WINDOWS)
            features, valid_frames, speech = analyse(windows[block], valid_samples[block])
            with_speech = speech.numpy() >= frontend.HOLDS_SPEECH
            if with_speech.any():
                yield tuple(values.numpy()[with_speech] for values in (features, valid_frames, valid_samples[block]))

    return extract
