"""The DAG in Airflow's own environment: it parses, runs against the stand-ins for Google Cloud, and sends alerts."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from google.cloud import aiplatform_v1 as vertex

from modules.demo_corpus.corpus import write_corpus
from tests.deploy.airflow_runs import ADDRESSEE, DAGS, TASKS, Airflow
from tests.fakes.isolated import can_isolate
from tests.fakes.listeners import wait_for_port
from tests.fakes.mail import mailbox
from tests.fakes.storage import FakeStorage
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_runs import CustomJobs, Pipelines
from tests.paths import GOLDEN, ROOT

GOOGLE = {
    "SER_AIRFLOW_PLACE": "vertex",
    "SER__VERTEX__PROJECT": "example-project",
    "SER__VERTEX__REGION": "europe-west4",
    "SER__VERTEX__DATA": "gs://example-data/recordings",
    "SER__VERTEX__PIPELINE_ROOT": "gs://example-pipelines/runs",
    "SER__VERTEX__IMAGE": "europe-west4-docker.pkg.dev/example-project/ser/pipeline@sha256:00",
    "SER__VERTEX__SERVICE_ACCOUNT": "ser-pipeline@example-project.iam.gserviceaccount.com",
    "SER_AIRFLOW_JOB": "gs://example-pipelines/compiled/latest.json",
}
DATA = GOOGLE["SER__VERTEX__DATA"]
RUN = "gs://example-pipelines/runs/1/run"
OUTPUTS = {("RunReport", "report"): f"{RUN}/report", ("AudioExampleGen", "examples"): f"{RUN}/examples"}
FIRST = ["success", "skipped", "success", "success", "skipped", "success"]
NOTHING_NEW = ["skipped"] * len(TASKS)
STRUCTURE = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag(sys.argv[1], bundle_path=Path(sys.argv[1]))
tasks = {task.task_id: sorted(task.upstream_task_ids) for task in bag.dags["ser"].tasks} if bag.dags else {}
print("found:", json.dumps({"errors": bag.import_errors, "tasks": tasks}))
"""


def smtp(port: int) -> str:
    """Return the connection to a server of :mod:`tests.fakes.mail`."""
    return f"smtp://127.0.0.1:{port}/?disable_ssl=true&disable_tls=true&from_email=airflow%40example.com"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory) -> Airflow:
    return Airflow(tmp_path_factory.mktemp("airflow"))


@pytest.mark.parametrize("environ", [{}, GOOGLE], ids=["local", "vertex"])
def test_the_dag_parses_and_its_tasks_are_in_order(airflow, environ):
    found = json.loads(airflow.run("python", "-c", STRUCTURE, str(DAGS), **environ).rpartition("found: ")[2])
    assert found == {
        "errors": {},
        "tasks": {
            "new_recordings": [],
            "drift": ["new_recordings"],
            "train": ["drift", "new_recordings"],
            "verdict": ["train"],
            "watch": ["verdict"],
            "report": ["verdict", "watch"],
        },
    }


@dataclasses.dataclass
class GoogleCloud:
    """The stand-ins, an Airflow that uses them, and its mailbox."""

    airflow: Airflow
    pipelines: Pipelines
    jobs: CustomJobs
    storage: FakeStorage
    mails: list

    def finish(self, *, blessed: bool, version: str | None, reasons: tuple[str, ...] = ()) -> None:
        """Let the next run have this outcome."""
        summary = {
            "verdict": {"blessed": blessed, "reasons": reasons},
            "pushed": {"version": version},
            "evaluation": {"metrics": [{"name": "uar", "value": 0.6129}]},
        }
        self.storage.write_bytes(f"{RUN}/report/summary.json", json.dumps(summary).encode())


@pytest.fixture
def google(tmp_path) -> Iterator[GoogleCloud]:
    if not can_isolate():
        pytest.skip("unshare --net is not allowed here, and jobs of Vertex AI need a network of their own")
    with contextlib.ExitStack() as stack:
        storage = stack.enter_context(FakeStorage(tmp_path, "example-data", "example-pipelines"))
        image = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        jobs = CustomJobs(tmp_path, image | storage.environ, storage.sockets)
        pipelines = Pipelines()
        pipelines.outputs = OUTPUTS
        fake = stack.enter_context(FakeVertex(tmp_path, {"pipeline_service": pipelines, "job_service": jobs}))
        storage.route(fake.https_ports)
        port, mails = stack.enter_context(mailbox())
        connections = {
            "AIRFLOW_CONN_SMTP_DEFAULT": smtp(port),
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": "google-cloud-platform://",
        }
        environ = {**GOOGLE, **fake.environ, **storage.environ, **connections}
        storage.write_bytes(GOOGLE["SER_AIRFLOW_JOB"], (GOLDEN / "vertex_pipeline.json").read_bytes())
        yield GoogleCloud(Airflow(tmp_path / "airflow", **environ), pipelines, jobs, storage, mails)


def test_new_recordings_start_one_run_on_vertex_ai_after_a_failed_one(google):
    google.storage.write_bytes(f"{DATA}/Actor_01/a.wav", b"a")
    google.pipelines.progress = (vertex.PipelineState.PIPELINE_STATE_FAILED,)
    failed = google.airflow.test()
    assert failed.order == ["success", "skipped", "failed", *["upstream_failed"] * 3], failed.log
    assert [mail["Subject"] for mail in google.mails] == ["ser: train failed"]

    google.pipelines.progress = (vertex.PipelineState.PIPELINE_STATE_SUCCEEDED,)
    google.finish(blessed=True, version="1795901000")
    first = google.airflow.test()
    assert first.order == FIRST, first.log
    name, again = google.pipelines.jobs
    assert (name[-2:], again) == ("-1", f"{name[:-1]}2")
    job = google.pipelines.jobs[again]
    assert job.service_account == GOOGLE["SER__VERTEX__SERVICE_ACCOUNT"]
    assert job.labels["started_by"] == "airflow", "pipeline/vertex/new_recordings.py looks for these runs"
    assert job.runtime_config.failure_policy == vertex.PipelineFailurePolicy.PIPELINE_FAILURE_POLICY_FAIL_FAST
    assert job.runtime_config.gcs_output_directory == GOOGLE["SER__VERTEX__PIPELINE_ROOT"]
    assert first.lines == [
        "the model was blessed, UAR 61.3 %, version 1795901000 was pushed",
        f"report: {RUN}/report/report.html",
        "drift: not compared",
        "not watched",
    ]
    assert google.airflow.test().order == NOTHING_NEW
    assert list(google.pipelines.jobs) == [name, again]
    assert len(google.mails) == 1


@pytest.mark.slow
def test_drift_is_reported_or_stops_the_run(google, tmp_path):
    """`ser drift` compares real recordings, in a CustomJob."""
    write_corpus(tmp_path / "same", clips=24 * 7, seed=0)
    shutil.copytree(tmp_path / "same", tmp_path / "telephone")
    for file in (tmp_path / "telephone").rglob("*.wav"):
        samples, rate_hz = soundfile.read(file, dtype="float32")
        soundfile.write(file, np.clip(soxr.resample(samples, rate_hz, 8000), -1, 1), 8000)
    google.storage.upload(tmp_path / "same", f"{RUN}/examples")
    google.storage.upload(tmp_path / "same", "gs://example-data/same")
    google.storage.upload(tmp_path / "telephone", DATA)
    last = {"fingerprint": "of other inputs", "examples": f"{RUN}/examples"}
    google.airflow.run("airflow", "variables", "set", "ser_last_run", json.dumps(last))

    stopped = google.airflow.test(stop_on_drift=True)
    assert stopped.order == ["success", "failed", *["upstream_failed"] * 4], stopped.log
    assert not google.pipelines.jobs
    google.finish(blessed=False, version=None, reasons=("UAR 0.13 < 0.3",))
    rejected = google.airflow.test()
    assert rejected.order == ["success", "success", "success", "success", "skipped", "success"], rejected.log
    assert "the recordings drifted" in rejected.lines
    assert "UAR 0.13 < 0.3" in rejected.lines
    assert [mail["Subject"] for mail in google.mails] == ["ser: drift failed", "ser: the model was rejected"]
    assert google.airflow.test().order == NOTHING_NEW

    google.finish(blessed=True, version="1795901000")
    assert "no drift" in google.airflow.test(data="gs://example-data/same").lines
    google.storage.expire(f"{RUN}/examples", days=0)
    google.storage.write_bytes(f"{DATA}/Actor_01/a.wav", b"a")
    expired = google.airflow.test()
    assert expired.order == FIRST, expired.log
    assert len(google.pipelines.jobs) == 3


TRAINING = """
augmentation: {variants: [plain]}
gate: {min_adjusted_uar: 0, min_slice_adjusted_uar: 0, max_uar_loss: 1}
training: {family: attentive_crnn, epochs: EPOCHS}
"""
SERVED = """model_config_list { config { name: "ser" base_path: "BASE" model_platform: "tensorflow"
model_version_policy { specific { versions: VERSION } }
version_labels { key: "stable" value: VERSION } version_labels { key: "canary" value: VERSION } } }
"""


@contextlib.contextmanager
def server(models_config: Path, port: int) -> Iterator[str]:
    command = [sys.executable, "-m", "serving.server", "--model-config-file", models_config, "--port", str(port)]
    with subprocess.Popen([*command, "--rest-api-port=0", "--end-with-parent"], cwd=ROOT) as process:
        wait_for_port(port, process)
        yield f"127.0.0.1:{port}"
        process.terminate()


@pytest.mark.slow
def test_on_one_machine_a_canary_is_watched_until_it_is_decided(demo_data, tmp_path, unused_tcp_port):
    """The pipeline, the server and `ser rollout watch` are the real ones."""
    root, config, models_config = (tmp_path / name for name in ("output", "training.yaml", "models.config"))
    with mailbox() as (port, mails):
        programs = {"SER_PROGRAMS": str(Path(sys.executable).parent), "AIRFLOW_CONN_SMTP_DEFAULT": smtp(port)}
        airflow = Airflow(tmp_path / "airflow", **programs)
        places = {"data": str(demo_data), "root": str(root), "config": str(config)}
        config.write_text(TRAINING.replace("EPOCHS", "6"))
        first = airflow.test(**places)
        assert first.order == FIRST, first.log
        (stable,) = (path.name for path in (root / "serving").iterdir())
        models_config.write_text(SERVED.replace("VERSION", stable).replace("BASE", f"{root}/serving"))
        config.write_text(TRAINING.replace("EPOCHS", "8"))
        with server(models_config, unused_tcp_port) as address:
            places |= {"address": address, "models_config": str(models_config), "watch_min": 0}
            few, enough = demo_data / "Actor_01", tmp_path / "probe"  # a watch needs 100 requests
            shutil.copytree(demo_data, enough, ignore=shutil.ignore_patterns("Actor_1*", "Actor_2*"))
            undecided = airflow.test(**places, probe=str(few))
            assert undecided.order == [*["success"] * 4, "failed", "upstream_failed"], undecided.log
            decided = airflow.test(**places, probe=str(enough))
            assert decided.order == ["success"] * 6, decided.log
    assert "no drift" in decided.lines
    assert decided.lines[-1] in ("the version is stable", "the canary was rolled back")
    assert mails[0]["Subject"] == "ser: watch failed"
    assert len(list((root / "serving").iterdir())) == 2, "the second start trained nothing"


def test_an_alert_arrives_as_a_mail(airflow):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from ser_airflow import alerts; "
        "alerts.send([sys.argv[2]], {}, subject='ser: the model was rejected', lines=['UAR 0.13 < 0.3', 'report: r'])"
    )
    with mailbox() as (port, mails):
        airflow.run("python", "-c", code, str(DAGS), ADDRESSEE, AIRFLOW_CONN_SMTP_DEFAULT=smtp(port))
    (mail,) = mails
    assert (mail["Subject"], mail["To"]) == ("ser: the model was rejected", ADDRESSEE)
    (part,) = mail.iter_parts()
    assert "UAR 0.13 &lt; 0.3<br>" in part.get_content()


def test_the_airflow_runner_of_tfx_needs_a_module_that_supported_airflow_lacks(airflow):
    code = "import importlib.util as u; print(u.find_spec('airflow.operators.python_operator'))"
    assert airflow.run("python", "-c", code).splitlines()[-1] == "None"
    runner = importlib.util.find_spec("tfx.orchestration.airflow")
    component = Path(runner.submodule_search_locations[0], "airflow_component.py").read_text()
    assert "from airflow.operators import python_operator" in component
