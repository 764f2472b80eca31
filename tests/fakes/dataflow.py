"""A stand-in for Cloud Dataflow, over HTTP on loopback.

The contract that is imitated, as Beam's DataflowRunner uses it (REST, ``v1b3``):

* ``POST …/jobs`` names a staged pipeline in ``environment.sdkPipelineOptions`` or the worker's
  ``pipeline_url``, gets an id and is queued. ``GET …/jobs/<id>`` returns the state, ``…/messages`` the
  log, ``…/metrics`` the counters.
* Workers run the staged pipeline in the image that its environment names. Here a process of this machine runs it, with
  the Python SDK harness in a process of its own, as in a container: nothing is shared with the submitter but the
  buckets (:mod:`tests.fakes.storage`), and their network is their own.

A client reaches it with ``--dataflow_endpoint=<endpoint>``.
"""

import contextlib
import dataclasses
import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fakes import isolated
from tests.fakes.storage import FakeStorage

_LOOPBACK = "127.0.0.1"
_JOBS = re.compile(r"^/v1b3/projects/([^/]+)/locations/([^/]+)/jobs(?:/([^/]+))?(?:/(\w+))?$")


@dataclasses.dataclass
class Job:
    """A submitted job and its state."""

    id: str
    submitted: dict[str, Any]
    pipeline: bytes
    state: str = "JOB_STATE_RUNNING"
    log: str = ""


class FakeDataflow:
    """Server that runs jobs in worker processes; a context manager.

    Attributes:
        jobs: By id.
        endpoint: ``http://localhost:<port>``.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], storage: FakeStorage) -> None:
        """Take a folder for the workers' files, the environment of the image, and the buckets."""
        self.jobs: dict[str, Job] = {}
        self.endpoint = ""
        self._environ = {**environ, **storage.environ}
        self._storage = storage
        self._folder = folder
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "FakeDataflow":
        handler = type("Handler", (_Handler,), {"fake": self})
        server = self._stack.enter_context(http.server.ThreadingHTTPServer((_LOOPBACK, 0), handler))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.shutdown)
        self.endpoint = f"http://localhost:{server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def beam_args(self) -> list[str]:
        """Arguments of a client in addition to those of production."""
        return [f"--dataflow_endpoint={self.endpoint}"]

    def submit(self, submitted: dict[str, Any]) -> Job:
        """Accept a job and start its worker."""
        options = submitted["environment"]["sdkPipelineOptions"]["options"]
        pipeline = self._storage.read_bytes(f"{options['staging_location']}/pipeline.pb")
        job = Job(id=f"job-{len(self.jobs) + 1}", submitted=submitted, pipeline=pipeline)
        self.jobs[job.id] = job
        threading.Thread(target=self._work, args=(job,), daemon=True).start()
        return job

    def _work(self, job: Job) -> None:
        staged = self._folder / f"{job.id}.pb"
        staged.write_bytes(job.pipeline)
        worker = [sys.executable, str(Path(__file__).with_name("dataflow_worker.py")), str(staged)]
        finished = subprocess.run(
            isolated.command(
                [{"command": worker, "environ": {}}], staged.with_suffix(".json"), self._storage.sockets
            ),
            cwd=self._folder, env=self._environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        job.log = finished.stdout + finished.stderr
        job.state = "JOB_STATE_FAILED" if finished.returncode else "JOB_STATE_DONE"

    def describe(self, job: Job) -> dict[str, Any]:
        """Return a job as the service describes it."""
        named = {key: job.submitted[key] for key in ("name", "type", "clientRequestId") if key in job.submitted}
        return {**named, "id": job.id, "currentState": job.state}


class _Handler(http.server.BaseHTTPRequestHandler):
    fake: FakeDataflow
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def log_message(self, *_: Any) -> None:
        pass

    def _route(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        if jobs := _JOBS.match(path):
            self._jobs(method, jobs.group(3), jobs.group(4), body)
        else:
            self._answer(404, {"error": {"code": 404, "message": f"{method} {path}"}})

    def _jobs(self, method: str, job_id: str | None, part: str | None, body: bytes) -> None:
        if method == "POST" and job_id is None:
            self._answer(200, self.fake.describe(self.fake.submit(json.loads(body))))
        elif job_id not in self.fake.jobs:
            self._answer(404, {"error": {"code": 404, "message": f"no job {job_id}"}})
        elif part == "messages":
            self._answer(200, {"jobMessages": []})
        elif part == "metrics":
            self._answer(200, {"metrics": []})
        else:
            self._answer(200, self.fake.describe(self.fake.jobs[job_id]))

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
