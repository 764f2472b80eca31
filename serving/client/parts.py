"""Recordings cut into requests: several short ones in one, and a long one in many."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import soundfile

from modules.audio.decoding import AudioCode
from serving.client.errors import AudioError, UnexpectedAnswer
from serving.client.predictions import Prediction, Segment, errors, predictions, windows_of
from serving.client.recordings import Audio, bytes_per_frame, name_of, read_wav, reusable, to_wav
from serving.wire import predict_pb2 as wire

WAV_HEADER_BYTES = 64
CHUNK_SEC = 30.0

LONGEST_WHOLE_SEC = 120.0
"""Longer recordings are sent in parts. The embedded server's default limit; TF Serving has none of its own."""

_BATCH_ITEMS = 16
_FOR_PARTS = (AudioCode.TOO_LONG, AudioCode.TOO_LARGE)


class Item(NamedTuple):
    """A recording to send.

    Attributes:
        name: Name in messages.
        audio: The recording.
    """

    name: str
    audio: Audio


class Batch:
    """Recordings for one request, some of which the client cannot read, or has to send in parts.

    Attributes:
        wavs: The WAV files to send; empty when there are none.
    """

    def __init__(self) -> None:
        self.wavs: list[bytes] = []
        self._items: list[tuple[Item, AudioError | None]] = []

    def add(self, item: Item, wav: bytes | AudioError) -> None:
        """Add a recording.

        Args:
            item: The recording.
            wav: The encoded WAV file, or why it is not sent.
        """
        if isinstance(wav, AudioError):
            self._items.append((item, wav))
        else:
            self._items.append((item, None))
            self.wavs.append(wav)

    def has_room(self, wav: bytes | AudioError, *, max_bytes: int) -> bool:
        """Return whether a further recording fits; the first always does.

        Args:
            wav: The encoded WAV file, or why it is not sent.
            max_bytes: Largest size of all files together.
        """
        if isinstance(wav, AudioError) or not self.wavs:
            return True
        return len(self.wavs) < _BATCH_ITEMS and sum(map(len, self.wavs)) + len(wav) <= max_bytes

    def answers(self, response: wire.PredictResponse | None) -> Iterator[tuple[Item, Prediction | AudioError]]:
        """Yield each recording with its prediction or error, in order.

        Args:
            response: The response to :attr:`wavs`; ``None`` when nothing was sent.
        """
        sent = [item.name for item, error in self._items if error is None]
        answered = iter(predictions(response, sent) if response else ())
        for item, error in self._items:
            yield item, error or next(answered)


def batches(recordings: Iterable[Audio], *, channel: int | None, max_bytes: int) -> Iterator[Batch]:
    """Yield consecutive batches.

    Args:
        recordings: The recordings to send.
        channel: Number of the channel to use, from 1; ``None`` for the mean of all.
        max_bytes: Largest size of the files of a batch.
    """
    batch = Batch()
    for audio in recordings:
        item, wav = _encoded(audio, channel, max_bytes)
        if not batch.has_room(wav, max_bytes=max_bytes):
            yield batch
            batch = Batch()
        batch.add(item, wav)
    yield batch


def _encoded(audio: Audio, channel: int | None, max_bytes: int) -> tuple[Item, bytes | AudioError]:
    name = name_of(audio)
    try:
        audio = reusable(audio)
        return Item(name, audio), to_wav(audio, channel=channel, max_sec=LONGEST_WHOLE_SEC, max_bytes=max_bytes)
    except AudioError as error:
        return Item(name, audio), error


def needs_parts(answer: Prediction | AudioError) -> bool:
    """Return whether the recording is too long or too large for one request.

    Args:
        answer: Its answer so far.
    """
    return isinstance(answer, AudioError) and answer.code in _FOR_PARTS


class Timeline:
    """A long recording, cut into requests whose responses join into one timeline.

    The model decides about windows and the step between them: they are evenly spaced, except that the last one is
    moved back to end with the chunk. That window of every chunk but the last is dropped, and the next chunk starts at
    the regular start of that window. Of a chunk that is too long for the model, the first half is sent.
    """

    def __init__(self, sound: soundfile.SoundFile, name: str, *, max_bytes: int) -> None:
        bytes_per_sec = bytes_per_frame(sound) * sound.samplerate
        chunk_sec = min(CHUNK_SEC, (max_bytes - WAV_HEADER_BYTES) / bytes_per_sec)
        self._sound = sound
        self._name = name
        self._chunk_frames = int(chunk_sec * sound.samplerate)
        self._start_frame = 0

    def next_chunk(self) -> bytes | None:
        """Return the WAV bytes to send next, or ``None`` after the last.

        Raises:
            AudioError: The recording is damaged.
        """
        if self._start_frame >= self._sound.frames:
            return None
        return read_wav(self._sound, start_frame=self._start_frame, frames=self._chunk_frames)

    def accept(self, response: wire.PredictResponse) -> list[Segment]:
        """Return the segments that the response to the last chunk adds.

        Args:
            response: Response of the ``timeline`` signature to the last chunk.

        Raises:
            AudioError: The model cannot use the recording.
            UnexpectedAnswer: The response is not that of a ``timeline`` signature, or has too few windows.
        """
        (error,) = errors(response, [self._name])
        if error:
            if error.code != AudioCode.TOO_LONG or self._chunk_frames <= 1:
                raise error
            self._chunk_frames //= 2
            return []
        rate_hz = self._sound.samplerate
        new = windows_of(response, offset_sec=self._start_frame / rate_hz)
        if self._start_frame + self._chunk_frames >= self._sound.frames:
            self._start_frame = self._sound.frames
            return new
        if len(new) < 3:
            raise UnexpectedAnswer(
                f"the model's timeline has {len(new)} windows in {self._chunk_frames / rate_hz:.1f} s, the most that "
                "this address and model take at once; 3 are needed to go on. Resample the recording to a lower rate."
            )
        step_sec = new[1].start_sec - new[0].start_sec
        window_sec = new[0].end_sec - new[0].start_sec
        last_start = self._sound.frames - round(window_sec * rate_hz)
        self._start_frame = min(round((new[-2].start_sec + step_sec) * rate_hz), last_start)
        return new[:-1]
