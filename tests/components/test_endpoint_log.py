"""Requests in a BigQuery table of Vertex AI's request-response logging, which the emulator holds."""

import base64
import datetime
import io
import json

import numpy as np
import pytest
import soundfile
from google.api_core import exceptions
from google.auth import credentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import bigquery

from cli.main import main
from components.drift_monitor import endpoint_log, sources
from components.drift_monitor.endpoint_log import LoggedRecordings, Newest, recordings_of
from components.drift_monitor.errors import UnreadableSample
from modules.audio.spec import AudioSpec
from serving.client.transport.rest import to_json
from serving.wire import predict_pb2 as wire
from tests.cli.test_drift import write_recordings
from tests.fakes.bigquery import COLUMNS, PROJECT, emulator

NOW = datetime.datetime.now(datetime.UTC)


def wav(seed: int, *, gain: float = 1.0, seconds: float = 0.5) -> bytes:
    samples = gain * 0.02 * (1 + seed % 8) * np.random.default_rng(seed).normal(scale=0.5, size=int(16_000 * seconds))
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, subtype="PCM_16", format="WAV")
    return file.getvalue()


def body(*recordings: bytes, signature: str = "serving_default") -> str:
    """Return the body that the client sends to RawPredict."""
    request = wire.PredictRequest(model_spec=wire.ModelSpec(name="ser", signature_name=signature))
    request.inputs["audio"].CopyFrom(wire.TensorProto(dtype=wire.DT_STRING, string_val=recordings))
    request.inputs["audio"].tensor_shape.dim.add(size=len(recordings))
    return to_json(request).decode()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched, emulator(tmp_path_factory.mktemp("bigquery")) as url:
        patched.setenv("BIGQUERY_EMULATOR_HOST", url)
        patched.setattr("google.auth.default", lambda **_: (credentials.AnonymousCredentials(), PROJECT))
        client = bigquery.Client(project=PROJECT)
        client.create_dataset("ser")
        yield client


@pytest.fixture
def log(service, request):
    """Return a function that writes payloads to a table of the test's own, the newest first, and its address."""
    table = bigquery.Table(f"{PROJECT}.ser.{request.node.name.partition('[')[0]}", COLUMNS)
    service.create_table(table)

    def write(*payloads: str, hours: float = 0) -> str:
        rows = [
            {
                "logging_time": (NOW - datetime.timedelta(hours=hours, seconds=number)).isoformat(),
                "request_payload": [payload],
                "response_payload": ["{}"],
            }
            for number, payload in enumerate(payloads)
        ]
        assert not rows or service.insert_rows_json(table, rows) == []
        return f"bq://{table.full_table_id.replace(':', '.')}" if table.full_table_id else f"bq://{table.reference}"

    return write


def test_bodies_and_instances_have_their_recordings():
    one, two = b"one", b"two"
    assert recordings_of(body(one, two)) == [one, two]
    encoded = [{"b64": base64.b64encode(each).decode()} for each in (one, two)]
    assert recordings_of(json.dumps({"inputs": encoded})) == [one, two]
    assert recordings_of(json.dumps({"instances": [{"audio": each} for each in encoded]})) == [one, two]
    assert recordings_of(json.dumps({"audio": encoded[0]})) == recordings_of(json.dumps(encoded[0])) == [one]


@pytest.mark.parametrize(
    "payload",
    [
        *('{"instances": ["abc"]}', '{"instances": [1]}', '{"instances": {"b64": "eA=="}}', '{"instances": null}'),
        *(
            '{"inputs": "a"}',
            '{"inputs": null}',
            '{"inputs": {"audio": "eA=="}}',
            '{"inputs": [[1]]}',
            '"x"',
            "7",
            "[]",
        ),
        *('{"audio": {"b64": 5}}', '{"audio": null}', '{"b64": "\\u00e9"}', '{"signature_name": [], "inputs": []}'),
        "[" * 100_000,
    ],
    ids=lambda payload: payload[:40],
)
def test_any_other_body_of_a_caller_is_refused_as_such(payload):
    with pytest.raises((ValueError, RecursionError)):
        recordings_of(payload)


def test_the_newest_recordings_of_the_period_are_read(log):
    log(*(body(wav(number)) for number in range(4)))
    address = log(body(wav(9)), hours=72)
    assert list(LoggedRecordings(address, Newest(rows=2))) == [wav(0), wav(1)]
    assert len(list(LoggedRecordings(address, Newest(days=2)))) == 4
    assert len(list(LoggedRecordings(address, Newest()))) == 5


def test_what_is_not_a_recording_is_counted(log):
    others = "no JSON", "[" * 100_000, '{"inputs": {"features": [[1.0]]}}', '{"instances": ["text"]}'
    address = log(body(wav(1), wav(1)), body(b"no sound"), body(wav(2), signature="timeline"), *others)
    clips = sources.read_requests(address, spec=AudioSpec())
    assert clips.served
    assert clips.sample.clips == 1
    (remark,) = clips.remarks
    assert remark.endswith(
        "left out: 5 not recordings of the signature serving_default, 1 repeated recordings, 1 unusable recordings."
    )


def test_features_are_those_of_recordings(log, tmp_path):
    """The log has what training would have: the drift of equal recordings is none."""
    folder = write_recordings(tmp_path / "recordings")
    files = sorted((tmp_path / "recordings").rglob("*.wav"))
    requests = sources.read_requests(log(*(body(file.read_bytes()) for file in files)), spec=AudioSpec())
    recordings = sources.read_recordings(folder, settings=sources.IngestSettings())
    np.testing.assert_allclose(requests.sample.values, recordings.sample.values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("gain", "status"), [(1.0, 0), (4.0, 3)])
def test_the_command_compares_a_table(service, tmp_path, capsys, gain, status):
    reference = write_recordings(tmp_path / "reference")
    table = bigquery.Table(f"{PROJECT}.ser.command{status}", COLUMNS)
    service.create_table(table)
    payloads = [*(body(wav(number, gain=gain)) for number in range(24)), "no JSON"]
    rows = [{"logging_time": NOW.isoformat(), "request_payload": [payload]} for payload in payloads]
    assert service.insert_rows_json(table, rows) == []
    with pytest.raises(SystemExit) as ended:
        main(["drift", reference, f"bq://{table.reference}", "--permutations=100", "--days=1"])
    printed = capsys.readouterr().out
    assert ended.value.code == status, printed
    assert "24 clips of unknown speakers" in printed
    assert "1 not recordings" in " ".join(printed.split())


@pytest.mark.parametrize(
    ("place", "found"),
    [
        (f"bq://{PROJECT}.ser.missing", "does not exist"),
        (f"bq://{PROJECT}.missing.requests", "does not exist"),
        ("bq://other-project.ser.requests", "does not exist"),
        ("bq://only.two", "the form is bq://PROJECT.DATASET.TABLE"),
        (f"bq://{PROJECT}.ser.a`b", "the form is bq://PROJECT.DATASET.TABLE"),
    ],
)
def test_an_unreadable_table_exits_with_2_and_the_reason(service, tmp_path, capsys, place, found):
    with pytest.raises(SystemExit) as ended:
        main(["drift", write_recordings(tmp_path / "reference"), place])
    assert ended.value.code == 2
    assert found in " ".join(capsys.readouterr().err.split())


def test_another_table_cannot_be_queried(service):
    service.create_table(bigquery.Table(f"{PROJECT}.ser.other", [bigquery.SchemaField("text", "STRING")]))
    with pytest.raises(UnreadableSample, match="cannot be queried"):
        list(LoggedRecordings(f"bq://{PROJECT}.ser.other", Newest()))


def test_a_period_without_requests_is_named(log):
    with pytest.raises(UnreadableSample, match="has no requests of the last 7 days"):
        list(LoggedRecordings(log(body(wav(1)), hours=24 * 8), Newest()))
    with pytest.raises(UnreadableSample, match="has no usable recordings"):
        sources.read_requests(log("no JSON"), spec=AudioSpec())


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (exceptions.BadRequest("Query exceeded limit for bytes billed"), "read fewer days"),
        (exceptions.Forbidden("Access Denied"), "roles/bigquery.dataViewer"),
        (DefaultCredentialsError("none were found"), "gcloud auth application-default login"),
    ],
)
def test_refusals_that_the_emulator_lacks_name_the_next_step(service, monkeypatch, error, advice):
    """The emulator limits no billed bytes and knows no permissions, so these are Google's errors without a server."""
    queries = []

    def refuse(_: bigquery.Client, sql: str, job_config: bigquery.QueryJobConfig, **how: object) -> None:
        queries.append((sql, job_config.maximum_bytes_billed))
        raise error

    monkeypatch.setattr(bigquery.Client, "query", refuse)
    with pytest.raises(UnreadableSample, match=advice):
        list(LoggedRecordings(f"bq://{PROJECT}.ser.requests", Newest()))
    ((sql, max_bytes),) = queries
    assert sql.startswith("SELECT request_payload FROM ")
    assert max_bytes == endpoint_log.MAX_BILLED_BYTES
