"""A stand-in for Cloud Dataflow and the bucket that it stages in, over HTTP on loopback.

The contract that is imitated, as Beam's DataflowRunner uses it (REST, ``v1b3``, and Cloud Storage's JSON API):

* ``POST …/jobs`` names a staged pipeline in ``environment.sdkPipelineOptions`` or the worker's
  ``pipeline_url``, gets an id and is queued. ``GET …/jobs/<id>`` tells the state, ``…/messages`` what happened,
  ``…/metrics`` what was counted.
* Workers run the staged pipeline in the image that its environment names. Here a process of this machine runs it, with
  the Python SDK harness in a process of its own, as in a container: nothing is shared with the submitter but the files,
  and their network is their own.

A client reaches it with ``--dataflow_endpoint=<endpoint> --no_auth`` and ``STORAGE_EMULATOR_HOST=<endpoint>``.
"""

import base64
import contextlib
import dataclasses
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import Any

import google_crc32c

from tests.fakes import isolated

_LOOPBACK = "127.0.0.1"
_JOBS = re.compile(r"^/v1b3/projects/([^/]+)/locations/([^/]+)/jobs(?:/([^/]+))?(?:/(\w+))?$")
_OBJECT = re.compile(r"^(/upload)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?$")


@dataclasses.dataclass
class Job:
    """A job as it was submitted, and how it goes."""

    id: str
    submitted: dict[str, Any]
    pipeline: bytes
    state: str = "JOB_STATE_RUNNING"
    log: str = ""


class FakeDataflow:
    """Runs jobs in worker processes; a context manager.

    Attributes:
        jobs: By id.
        objects: What lies in buckets, by ``bucket/name``.
        endpoint: ``http://localhost:<port>``.
    """

    def __init__(self, folder: Path) -> None:
        self.jobs: dict[str, Job] = {}
        self.objects: dict[str, bytes] = {}
        self.endpoint = ""
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
        """What a client is told beside the arguments of production."""
        return [f"--dataflow_endpoint={self.endpoint}", "--no_auth"]

    @property
    def environ(self) -> dict[str, str]:
        """For the processes of clients."""
        return {"STORAGE_EMULATOR_HOST": self.endpoint}

    def submit(self, submitted: dict[str, Any]) -> Job:
        """Takes a job and starts its worker."""
        options = submitted["environment"]["sdkPipelineOptions"]["options"]
        staged = f"{options['staging_location'].removeprefix('gs://')}/pipeline.pb"
        job = Job(id=f"job-{len(self.jobs) + 1}", submitted=submitted, pipeline=self.objects[staged])
        self.jobs[job.id] = job
        threading.Thread(target=self._work, args=(job,), daemon=True).start()
        return job

    def _work(self, job: Job) -> None:
        staged = self._folder / f"{job.id}.pb"
        staged.write_bytes(job.pipeline)
        environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environ |= {"TF_USE_LEGACY_KERAS": "0", "TF_CPP_MIN_LOG_LEVEL": "2"}
        worker = [sys.executable, str(Path(__file__).with_name("dataflow_worker.py")), str(staged)]
        finished = subprocess.run(
            isolated.command([{"command": worker, "environ": {}}], staged.with_suffix(".json")),
            cwd=self._folder, env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        job.log = finished.stdout + finished.stderr
        job.state = "JOB_STATE_FAILED" if finished.returncode else "JOB_STATE_DONE"

    def describe(self, job: Job) -> dict[str, Any]:
        """A job as the service tells it."""
        named = {key: job.submitted[key] for key in ("name", "type", "clientRequestId") if key in job.submitted}
        return {**named, "id": job.id, "currentState": job.state}


class _Handler(http.server.BaseHTTPRequestHandler):
    fake: FakeDataflow
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def log_message(self, *_: Any) -> None:
        pass

    def _route(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        given = dict(urllib.parse.parse_qsl(query))
        if jobs := _JOBS.match(path):
            self._jobs(method, jobs.group(3), jobs.group(4), body)
        elif stored := _OBJECT.match(path):
            name = urllib.parse.unquote(stored.group(3)) if stored.group(3) else given.get("name")
            self._storage(method, stored.group(2), name, given, body)
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

    def _storage(self, method: str, bucket: str, name: str | None, given: dict[str, str], body: bytes) -> None:
        """Uploads are resumable ones, in one or several parts."""
        key = f"{bucket}/{name}"
        if method == "GET" and name is None:
            self._answer(200, {"kind": "storage#bucket", "name": bucket, "location": "EUROPE-WEST4"})
        elif method == "GET" and key not in self.fake.objects:
            self._answer(404, {"error": {"code": 404, "message": f"no object {key}"}})
        elif method == "GET":
            self._answer(200, self._metadata(bucket, name))
        elif method == "POST" and given.get("uploadType") == "resumable":
            name = name or json.loads(body)["name"]
            self.fake.objects[f"{bucket}/{name}"] = b""
            location = f"{self.fake.endpoint}/upload/storage/v1/b/{bucket}/o?{urllib.parse.urlencode({'name': name})}"
            self._answer(200, {}, {"Location": location})
        elif method == "PUT":
            self.fake.objects[key] += body
            whole = not self.headers.get("Content-Range", "").endswith("/*")
            received = {"Range": f"bytes=0-{len(self.fake.objects[key]) - 1}"}
            self._answer(200 if whole else 308, self._metadata(bucket, name), {} if whole else received)
        else:
            self._answer(400, {"error": {"code": 400, "message": f"{method} {self.path}"}})

    def _metadata(self, bucket: str, name: str) -> dict[str, Any]:
        content = self.fake.objects[f"{bucket}/{name}"]
        checksum = google_crc32c.Checksum(content).digest()
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "size": str(len(content)),
            "generation": "1",
            "crc32c": base64.b64encode(checksum).decode(),
        }

    def _answer(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
