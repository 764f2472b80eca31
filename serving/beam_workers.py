"""Worker processes of Beam's local runner, ``--direct_running_mode=multi_processing``.

Beam 2.77 waits for the response of a killed worker process forever. It ends the pipeline when a worker container ends
(``DockerSdkWorkerHandler.watch_container``); this module does the same for processes.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

import grpc
import psutil
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability import local_job_service
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from modules.common.errors import SerError

_POLL_SEC = 0.2
_STREAM_LOG = "apache_beam.runners.worker.data_plane"


class LostWorker(SerError):
    """A worker process ended before the pipeline."""

    code = "beam.lost_worker"


_lost: list[str] = []


@contextlib.contextmanager
def ending_with_lost_workers() -> Iterator[None]:
    """End the pipelines in the context when one of their worker processes ends before them.

    Raises:
        LostWorker: A worker process ended, for example by a signal.
    """
    worker_handlers.WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(_Worker)
    # The broken streams of a lost worker would print tracebacks before the error.
    logging.getLogger(_STREAM_LOG).setLevel(logging.CRITICAL)
    threading.excepthook = _except_broken_streams
    _lost.clear()
    try:
        yield
    except Exception as error:  # Beam raises any kind for a lost worker; without one the error goes on as it is
        if _lost:
            raise LostWorker(
                f"a worker process of Beam's local runner was lost: {_lost[0]}. 137 is a killed process, such as for "
                "lack of memory; use fewer workers then"
            ) from error
        raise


def _except_broken_streams(error: threading.ExceptHookArgs) -> None:
    if not issubclass(error.exc_type, grpc.RpcError):
        threading.__excepthook__(error)


class _Worker(worker_handlers.SubprocessSdkWorkerHandler):
    """Worker process whose end is the response to all requests."""

    def start_worker(self) -> None:
        """Start the process, and a thread that waits for its end."""
        self.worker = local_job_service.SubprocessSdkWorker(
            self._worker_command_line, self.control_address, self.provision_info, self.worker_id
        )
        self.worker_thread = threading.Thread(name="run_worker", target=self._run)
        self.worker_thread.start()

    def close(self) -> None:
        """Close the streams, which may be broken, and wait for the process."""
        with contextlib.suppress(grpc.RpcError):
            super().close()
        self.stop_worker()

    def _run(self) -> None:
        try:
            self.worker.run()
        except RuntimeError as error:
            _lost.append(str(error))
            self._kill_others()  # the runner would wait until they have finished their work
            self._respond(_lost[0])

    def _respond(self, error: str) -> None:
        """Respond to all requests with an error, until the runner closes this worker."""
        while self.control_conn._state != worker_handlers.BeamFnControlServicer.DONE_STATE:
            for future in list(self.control_conn._futures_by_id.values()):
                if not future.is_done():
                    future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=future.instruction_id, error=error))
            time.sleep(_POLL_SEC)

    def _kill_others(self) -> None:
        """Kill the worker processes of the same pipeline. Beam starts each by a shell, which may be its parent."""
        for process in psutil.Process().children(recursive=True):
            try:
                if self.control_address in process.environ().get("CONTROL_API_SERVICE_DESCRIPTOR", ""):
                    process.kill()
            except psutil.Error:  # it has ended
                continue
