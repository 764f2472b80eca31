"""Worker processes of Beam's local runner, ``--direct_running_mode=multi_processing``.

Beam 2.77 waits for the response of a killed worker process forever. It ends the pipeline when a worker container ends
(``DockerSdkWorkerHandler.watch_container``); this module does the same for processes.
"""

import contextlib
import logging
import threading
import time

import grpc
import psutil
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability import local_job_service
from apache_beam.runners.portability.fn_api_runner import worker_handlers

_POLL_SEC = 0.2
_STREAM_LOG = "apache_beam.runners.worker.data_plane"


def end_with_lost_workers() -> None:
    """Let each later pipeline of this process fail when one of its worker processes ends before the pipeline."""
    worker_handlers.WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(_Worker)
    # The broken streams of a lost worker would print tracebacks before the error.
    logging.getLogger(_STREAM_LOG).setLevel(logging.CRITICAL)
    threading.excepthook = _except_broken_streams


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
        """Close the streams, which may be broken."""
        with contextlib.suppress(grpc.RpcError):
            super().close()

    def _run(self) -> None:
        try:
            self.worker.run()
        except RuntimeError as error:
            if not self._is_closed():
                self._end_pipeline(
                    f"a worker process of Beam's local runner was lost: {error}; 137 is a killed process, such as "
                    "for lack of memory"
                )

    def _end_pipeline(self, reason: str) -> None:
        """Respond to all requests with the error of the first lost worker, until the runner closes this one."""
        reason = vars(self._grpc_server).setdefault("lost_worker", reason)
        self._kill_others()  # the runner would wait until they have finished their work
        while not self._is_closed():
            for future in list(self.control_conn._futures_by_id.values()):
                if not future.is_done():
                    future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=future.instruction_id, error=reason))
            time.sleep(_POLL_SEC)

    def _kill_others(self) -> None:
        """Kill the worker processes of the same pipeline. Beam starts each by a shell, which may be its parent."""
        for process in psutil.Process().children(recursive=True):
            try:
                if self.control_address in process.environ().get("CONTROL_API_SERVICE_DESCRIPTOR", ""):
                    process.kill()
            except psutil.Error:  # it has ended
                continue

    def _is_closed(self) -> bool:
        return self.control_conn._state == worker_handlers.BeamFnControlServicer.DONE_STATE
