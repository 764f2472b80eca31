"""Beam pipeline of a batch: each element is a shard."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils import shared

from modules.common import addresses
from modules.common.progress import Progress
from modules.export.contract import load_contract
from serving.batch.in_process import InProcess
from serving.batch.plan import Output, Plan, PushedModel, Shards
from serving.batch.table_sink import LoadTables
from serving.batch.tables import ENCODERS, error_row, json_lines, result_row
from serving.beam_workers import ending_with_lost_workers
from serving.client import AudioError, Client

_POLL_SEC = 2.0


def score(plan: Plan, beam_args: Sequence[str] = ()) -> None:
    """Score the recordings of all shards that are not finished, and print the progress.

    Args:
        plan: The batch.
        beam_args: Arguments of Beam; by default its local runner uses a thread for each core.
    """
    options = PipelineOptions([*_local_args(), *beam_args])
    with ending_with_lost_workers(), _progress(plan), beam.Pipeline(options=options) as pipeline:
        shards = (
            pipeline
            | "Shards" >> beam.Create(range(len(plan.shards)))
            | "Spread" >> beam.Reshuffle()
            | "Score" >> beam.ParDo(ScoreShard(plan.model, plan.output))
        )
        if plan.output.table:
            _ = shards | LoadTables(plan.output, plan.output.table, load_contract(plan.model.path).labels)


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """What the threads of a process share."""

    client: Client
    labels: Sequence[str]
    shards: Shards


class ScoreShard(beam.DoFn):
    """Beam function that writes the results of a shard, unless they are there, and returns the shard's number.

    It writes the files itself: Beam's sinks write when the whole pipeline has ended, so an interrupted one would have
    no results.
    """

    def __init__(self, model: PushedModel, output: Output) -> None:
        """Store the addresses.

        Args:
            model: The model that answers.
            output: Folder of results.
        """
        self._model, self._output = model, output
        self._shared = shared.Shared()
        self._answered = beam.metrics.Metrics.counter("batch", "recordings_with_an_answer")
        self._failed = beam.metrics.Metrics.counter("batch", "recordings_with_an_error")

    def setup(self) -> None:
        """Load the model, once for all threads of the process."""
        self._loaded = self._shared.acquire(self._load)

    def _load(self) -> _Loaded:
        model = InProcess(self._model)
        return _Loaded(Client(model), model.labels, self._output.read_shards())

    def process(self, number: int) -> list[int]:
        """Write the files of a shard.

        Args:
            number: Number of the shard.
        """
        if not self._output.is_finished(number):
            self._write(number)
        return [number]

    def _write(self, number: int) -> None:
        recordings = self._loaded.shards[number]
        results, errors = [], []
        for name, answer in zip(recordings, self._loaded.client.predict_each(recordings), strict=True):
            if isinstance(answer, AudioError):
                errors.append(error_row(name, answer))
            else:
                results.append(result_row(name, answer))
        if errors:
            addresses.write_bytes(self._output.errors_file(number), json_lines(errors))
        content = ENCODERS[self._output.form](results, self._loaded.labels)
        addresses.write_bytes(self._output.results_file(number), content)
        self._answered.inc(len(results))
        self._failed.inc(len(errors))


def _local_args() -> list[str]:
    """Return arguments that later ones override."""
    return [
        "--runner=FnApiRunner",
        "--direct_running_mode=multi_threading",
        f"--direct_num_workers={len(os.sched_getaffinity(0))}",
    ]


@contextlib.contextmanager
def _progress(plan: Plan) -> Iterator[None]:
    """Print how many recordings have results, by the files: that works wherever the workers are."""
    progress, ended = Progress("ser batch", total=plan.recordings, unit="recordings"), threading.Event()
    counted = 0

    def count() -> None:
        nonlocal counted
        finished = plan.finished_recordings()
        if finished > counted:
            progress.advance(finished - counted)
            counted = finished

    def watch() -> None:
        while not ended.wait(_POLL_SEC):
            with contextlib.suppress(OSError):  # of a bucket, for a moment
                count()

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    count()
