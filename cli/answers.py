"""Answers to recordings as text, JSON or CSV."""

import csv
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from rich.bar import Bar
from rich.table import Table

from cli import terminal
from cli.recordings import Unusable
from modules.export.contract import NO_SPEECH

if TYPE_CHECKING:
    from serving.client import Prediction, Segment

_BAR_WIDTH = 30
_TIMES = ("start_sec", "end_sec")


class Output(Protocol):
    """Form of the answers on standard output."""

    def answer(self, name: str, predictions: "Sequence[Prediction | Segment]") -> None:
        """Print the answer to a recording.

        Args:
            name: Name of the recording.
            predictions: Its prediction, or those of its windows or segments.
        """

    def failed(self, recording: Unusable) -> None:
        """Print a recording that has no answer; its message goes to standard error, too.

        Args:
            recording: The recording.
        """

    def end(self) -> None:
        """Print what waits for a later answer."""


class Text:
    """Lines and bars for people."""

    def __init__(self, *, bars: bool) -> None:
        """Choose the length of an answer.

        Args:
            bars: Whether each answer has a bar for each emotion.
        """
        self._bars = bars

    def answer(self, name: str, predictions: "Sequence[Prediction | Segment]") -> None:
        """See :meth:`Output.answer`."""
        segments = _segments(predictions)
        if segments:
            terminal.print_line(name)
            terminal.console().print(_timeline_table(segments))
            return
        for prediction in predictions:
            version = "" if prediction.model_version is None else f", model version {prediction.model_version}"
            terminal.print_line(f"{name}: {prediction.emotion}{version}")
            if self._bars and prediction.emotion != NO_SPEECH:
                terminal.console().print(_bar_table(prediction))

    def failed(self, recording: Unusable) -> None:
        """See :meth:`Output.failed`."""

    def end(self) -> None:
        """See :meth:`Output.end`."""


class Json:
    """One object for each recording and line."""

    def answer(self, name: str, predictions: "Sequence[Prediction | Segment]") -> None:
        """See :meth:`Output.answer`."""
        print(json.dumps({"file": name} | _plain(predictions)), flush=True)

    def failed(self, recording: Unusable) -> None:
        """See :meth:`Output.failed`."""
        error = {"code": recording.code, "message": recording.message}
        print(json.dumps({"file": recording.name, "error": error}), flush=True)

    def end(self) -> None:
        """See :meth:`Output.end`."""


class Csv:
    """One row for each recording, window or segment. The first answer has the names of the columns."""

    def __init__(self, *, times: bool) -> None:
        """Choose the columns.

        Args:
            times: Whether rows have a start and an end.
        """
        self._times = _TIMES if times else ()
        self._writer: csv.DictWriter[str] | None = None
        self._waiting: list[Unusable] = []

    def answer(self, name: str, predictions: "Sequence[Prediction | Segment]") -> None:
        """See :meth:`Output.answer`."""
        for prediction in predictions:
            if self._writer is None:
                self._writer = self._begin(prediction.probabilities)
            probabilities = {emotion: f"{value:.6f}" for emotion, value in prediction.probabilities.items()}
            speech = {} if prediction.speech is None else {"speech": f"{prediction.speech:.6f}"}
            self._writer.writerow({"file": name} | dataclasses.asdict(prediction) | probabilities | speech)

    def failed(self, recording: Unusable) -> None:
        """See :meth:`Output.failed`."""
        if self._writer is None:
            self._waiting.append(recording)
        else:
            self._writer.writerow(_error_row(recording))

    def end(self) -> None:
        """See :meth:`Output.end`."""
        if self._writer is None:
            self._begin(())

    def _begin(self, emotions: Iterable[str]) -> "csv.DictWriter[str]":
        names = ["file", *self._times, "emotion", *emotions, "speech", "model_version", "error", "message"]
        writer = csv.DictWriter(sys.stdout, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(_error_row, self._waiting))
        return writer


def print_live(segment: "Segment", *, as_json: bool) -> None:
    """Print a part of live sound at once.

    Args:
        segment: The part.
        as_json: Whether it is a JSON object.
    """
    if as_json:
        print(json.dumps(dataclasses.asdict(segment)), flush=True)
        return
    times = f"{segment.start_sec:9.1f} to {segment.end_sec:9.1f} s"
    print(f"{times}  {segment.emotion:<12} {_probability_of_answer(segment):6.1%}", flush=True)


def _error_row(recording: Unusable) -> dict[str, str]:
    return {"file": recording.name, "error": recording.code, "message": recording.message}


def _segments(predictions: "Sequence[Prediction | Segment]") -> "list[Segment]":
    from serving.client import Segment

    return [prediction for prediction in predictions if isinstance(prediction, Segment)]


def _plain(predictions: "Sequence[Prediction | Segment]") -> dict[str, object]:
    segments = _segments(predictions)
    if segments or not predictions:
        return {"segments": [dataclasses.asdict(segment) for segment in segments]}
    return dataclasses.asdict(predictions[0])


def _bar_table(prediction: "Prediction") -> Table:
    table = Table(box=None)
    for column in ("emotion", "", "probability"):
        table.add_column(column, justify="right" if column == "probability" else "left")
    for emotion, probability in _most_probable_first(prediction.probabilities):
        style = "bold" if emotion == prediction.emotion else ""
        table.add_row(emotion, Bar(1.0, 0.0, probability, width=_BAR_WIDTH), f"{probability:.1%}", style=style)
    return table


def _timeline_table(segments: "Iterable[Segment]") -> Table:
    table = Table(box=None)
    for column in ("from (s)", "to (s)", "emotion", "", "probability"):
        table.add_column(column, justify="left" if column in ("emotion", "") else "right")
    for segment in segments:
        probability = _probability_of_answer(segment)
        times = (f"{segment.start_sec:.1f}", f"{segment.end_sec:.1f}")
        table.add_row(*times, segment.emotion, Bar(1.0, 0.0, probability, width=_BAR_WIDTH), f"{probability:.1%}")
    return table


def _probability_of_answer(prediction: "Prediction") -> float:
    return 1 - (prediction.speech or 0) if prediction.emotion == NO_SPEECH else prediction.confidence


def _most_probable_first(probabilities: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    yield from sorted(probabilities.items(), key=lambda item: -item[1])
