"""The client, blocking and for asyncio."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from serving.client.errors import AudioError
from serving.client.live import LiveTimeline, grid_of, probe
from serving.client.parts import Item, Timeline, batches, needs_parts
from serving.client.predictions import ModelChoice, Prediction, Segment, prediction_or_raise
from serving.client.recordings import Audio, name_of, open_long
from serving.client.segments import Merger, segments_of, whole
from serving.client.transport import DEFAULT_ADDRESS, Transport, connect, connect_async
from serving.wire import predict_pb2 as wire

DEFAULT_MODEL = "ser"
DEFAULT_TIMEOUT_SEC = 10.0

_BATCH_SIGNATURE = "serving_default"
_TIMELINE_SIGNATURE = "timeline"


class Client:
    """Client of one model. Use as a context manager, or call :meth:`close`; may be shared by threads.

    Args:
        address: Address of the server, see :mod:`serving.client.transport`, or a transport of one's own.
        model: Name of the served model.
        version: Version to use instead of the newest.
        label: Label of the version to use, such as ``canary``.
        canary_percent: Share of the requests to send to the label ``canary``, at random; ``stable`` gets the others.
        timeout_sec: Deadline of each request, retries included.
        ca_file: Certificates in PEM to trust over TLS, in place of the system's.

    Raises:
        AddressError: The address has none of the known forms.
    """

    def __init__(
        self,
        address: str | Transport = DEFAULT_ADDRESS,
        *,
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        label: str | None = None,
        canary_percent: float | None = None,
        timeout_sec: float = DEFAULT_TIMEOUT_SEC,
        ca_file: Path | None = None,
    ) -> None:
        self._model = ModelChoice(name=model, version=version, label=label, canary_percent=canary_percent)
        self._timeout_sec = timeout_sec
        self._transport = connect(address, ca_file=ca_file) if isinstance(address, str) else address

    def predict(self, audio: Audio, *, channel: int | None = None) -> Prediction:
        """Return the emotion in one recording of any length, the mean of its windows by how much speech each holds.

        Args:
            audio: A file, the bytes of one, or samples with their rate in Hz.
            channel: Number of the channel to use, from 1; the mean of all channels by default.

        Raises:
            AudioError: The recording cannot be used.
            RequestFailed: The server refused, or did not answer.
        """
        return self.predict_batch([audio], channel=channel)[0]

    def predict_batch(self, recordings: Iterable[Audio], *, channel: int | None = None) -> list[Prediction]:
        """Return the predictions of many recordings, sent in few requests, in the same order.

        Args:
            recordings: Files, bytes of files, or samples with their rate in Hz.
            channel: See :meth:`predict`.

        Raises:
            AudioError: One of the recordings cannot be used; :meth:`predict_each` returns the answers to the others.
            RequestFailed: The server refused, or did not answer.
        """
        return [prediction_or_raise(answer) for answer in self._answers(recordings, channel)]

    def predict_each(self, recordings: Iterable[Audio], *, channel: int | None = None) -> list[Prediction | AudioError]:
        """Return the prediction of each recording, or the AudioError of an unusable one, in the same order.

        Args:
            recordings: Files, bytes of files, or samples with their rate in Hz.
            channel: See :meth:`predict`.

        Raises:
            RequestFailed: The server refused, or did not answer.
        """
        return list(self._answers(recordings, channel))

    def _answers(self, recordings: Iterable[Audio], channel: int | None) -> Iterator[Prediction | AudioError]:
        for batch in batches(recordings, channel=channel, max_bytes=self._transport.max_request_bytes):
            response = self._send(_BATCH_SIGNATURE, batch.wavs) if batch.wavs else None
            for item, answer in batch.answers(response):
                yield self._whole(item, channel) if needs_parts(answer) else answer

    def _whole(self, item: Item, channel: int | None) -> Prediction | AudioError:
        """Return the answer to a recording that is sent in parts."""
        try:
            return whole(list(self._windows(item, channel)))
        except AudioError as error:
            return error

    def timeline(self, audio: Audio, *, channel: int | None = None) -> Iterator[Segment]:
        """Yield the emotion of each window of a recording of any length, as the responses arrive.

        Args:
            audio: A file, the bytes of one, or samples with their rate in Hz.
            channel: See :meth:`predict`.

        Raises:
            AudioError: The recording cannot be used.
            RequestFailed: The server refused, or did not answer.
        """
        return self._windows(Item(name_of(audio), audio), channel)

    def segments(self, audio: Audio, *, channel: int | None = None) -> Iterator[Segment]:
        """Yield the parts of a recording of any length that have one emotion, as they become final.

        Args:
            audio: A file, the bytes of one, or samples with their rate in Hz.
            channel: See :meth:`predict`.

        Raises:
            AudioError: The recording cannot be used.
            RequestFailed: The server refused, or did not answer.
        """
        return segments_of(self.timeline(audio, channel=channel))

    def live(self, chunks: Iterable[np.ndarray], sample_rate_hz: int) -> Iterator[Segment]:
        """Yield the windows of sound that is still going on, each as soon as it is complete.

        They are those that :meth:`timeline` yields for a file with the same samples.
        :func:`serving.client.segments_of` joins those that agree.

        Args:
            chunks: Samples as they arrive, ``[samples]`` or ``[samples, channels]``, floating point in ±1 or int16.
            sample_rate_hz: Their rate in hertz.

        Raises:
            AudioError: The samples cannot be used.
            RequestFailed: The server refused, or did not answer.
        """
        timeline = LiveTimeline(grid_of(self._send(_TIMELINE_SIGNATURE, [probe()])), sample_rate_hz)
        for chunk in chunks:
            timeline.add(chunk)
            yield from self._complete(timeline)
        yield from self._complete(timeline, ended=True)

    def _complete(self, timeline: LiveTimeline, *, ended: bool = False) -> Iterator[Segment]:
        while (window := timeline.next_window(ended=ended)) is not None:
            start, wav = window
            yield timeline.accept(start, self._send(_TIMELINE_SIGNATURE, [wav]))

    def _windows(self, item: Item, channel: int | None) -> Iterator[Segment]:
        with open_long(item.audio, channel=channel) as sound:
            timeline = Timeline(sound, item.name, max_bytes=self._transport.max_request_bytes)
            while (chunk := timeline.next_chunk()) is not None:
                yield from timeline.accept(self._send(_TIMELINE_SIGNATURE, [chunk]))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, signature: str, wavs: list[bytes]) -> wire.PredictResponse:
        return self._transport.predict(self._model.request(signature, wavs), timeout_sec=self._timeout_sec)


class AsyncClient:
    """:class:`Client` for an event loop; arguments, answers and errors are the same."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        label: str | None = None,
        canary_percent: float | None = None,
        timeout_sec: float = DEFAULT_TIMEOUT_SEC,
        ca_file: Path | None = None,
    ) -> None:
        self._model = ModelChoice(name=model, version=version, label=label, canary_percent=canary_percent)
        self._timeout_sec = timeout_sec
        self._transport = connect_async(address, ca_file=ca_file)

    async def predict(self, audio: Audio, *, channel: int | None = None) -> Prediction:
        """See :meth:`Client.predict`."""
        return (await self.predict_batch([audio], channel=channel))[0]

    async def predict_batch(self, recordings: Iterable[Audio], *, channel: int | None = None) -> list[Prediction]:
        """See :meth:`Client.predict_batch`."""
        return [prediction_or_raise(answer) async for answer in self._answers(recordings, channel)]

    async def predict_each(
        self, recordings: Iterable[Audio], *, channel: int | None = None
    ) -> list[Prediction | AudioError]:
        """See :meth:`Client.predict_each`."""
        return [answer async for answer in self._answers(recordings, channel)]

    async def _answers(
        self, recordings: Iterable[Audio], channel: int | None
    ) -> AsyncIterator[Prediction | AudioError]:
        for batch in batches(recordings, channel=channel, max_bytes=self._transport.max_request_bytes):
            response = await self._send(_BATCH_SIGNATURE, batch.wavs) if batch.wavs else None
            for item, answer in batch.answers(response):
                yield await self._whole(item, channel) if needs_parts(answer) else answer

    async def _whole(self, item: Item, channel: int | None) -> Prediction | AudioError:
        try:
            return whole([window async for window in self._windows(item, channel)])
        except AudioError as error:
            return error

    def timeline(self, audio: Audio, *, channel: int | None = None) -> AsyncIterator[Segment]:
        """See :meth:`Client.timeline`."""
        return self._windows(Item(name_of(audio), audio), channel)

    async def segments(self, audio: Audio, *, channel: int | None = None) -> AsyncIterator[Segment]:
        """See :meth:`Client.segments`."""
        merger = Merger()
        async for window in self.timeline(audio, channel=channel):
            for segment in merger.add(window):
                yield segment
        for segment in merger.end():
            yield segment

    async def live(self, chunks: AsyncIterable[np.ndarray], sample_rate_hz: int) -> AsyncIterator[Segment]:
        """See :meth:`Client.live`."""
        timeline = LiveTimeline(grid_of(await self._send(_TIMELINE_SIGNATURE, [probe()])), sample_rate_hz)
        async for chunk in chunks:
            timeline.add(chunk)
            async for window in self._complete(timeline):
                yield window
        async for window in self._complete(timeline, ended=True):
            yield window

    async def _complete(self, timeline: LiveTimeline, *, ended: bool = False) -> AsyncIterator[Segment]:
        while (window := timeline.next_window(ended=ended)) is not None:
            start, wav = window
            yield timeline.accept(start, await self._send(_TIMELINE_SIGNATURE, [wav]))

    async def _windows(self, item: Item, channel: int | None) -> AsyncIterator[Segment]:
        with open_long(item.audio, channel=channel) as sound:
            timeline = Timeline(sound, item.name, max_bytes=self._transport.max_request_bytes)
            while (chunk := timeline.next_chunk()) is not None:
                for window in timeline.accept(await self._send(_TIMELINE_SIGNATURE, [chunk])):
                    yield window

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, signature: str, wavs: list[bytes]) -> wire.PredictResponse:
        return await self._transport.predict(self._model.request(signature, wavs), timeout_sec=self._timeout_sec)
