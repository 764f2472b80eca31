"""``ser batch --out bq://...``: Beam's sink loads the files of the bucket into tables of the emulator."""

import collections
import shutil
from pathlib import Path

import pytest
import soundfile
from apache_beam.io.gcp.internal.clients.bigquery import bigquery_v2_client
from google.cloud import bigquery

from cli.exits import ExitCode
from modules.audio.decoding import AudioCode
from modules.data.labels import EMOTIONS
from tests.commands import ser
from tests.fakes.bigquery import PROJECT, emulator
from tests.fakes.storage import FakeStorage, Object

TABLE = f"{PROJECT}.ser.calls"
OUT = f"bq://{TABLE}"
TEMP = "--temp_location=gs://data/temp"
GOOD = 6


class MirroredStorage(FakeStorage):
    """Cloud Storage whose objects are also files below ``mirror``, where the emulator of BigQuery reads ``gs://``."""

    mirror: Path

    def _keep(self, bucket: str, name: str, path: Path) -> Object:
        if not name.endswith("/"):
            file = self.mirror / bucket / name
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, file)
        return super()._keep(bucket, name, path)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mirror")


@pytest.fixture(scope="module")
def url(tmp_path_factory, mirror):
    """URL of the emulator."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BQEMU_GCS_LOCAL_ROOT", str(mirror))
        with emulator(tmp_path_factory.mktemp("emulator")) as url:
            yield url


@pytest.fixture
def bucket(tmp_path, mirror, monkeypatch):
    with MirroredStorage(tmp_path, "data") as served:
        served.mirror = mirror
        for name, value in served.environ.items():
            monkeypatch.setenv(name, value)
        yield served


@pytest.fixture
def service(url, bucket, monkeypatch) -> bigquery.Client:
    """The emulator with an empty data set, reached by Google's and Beam's clients."""
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    monkeypatch.setattr(bigquery_v2_client.BigqueryV2, "BASE_URL", f"{url}/bigquery/v2/")
    client = bigquery.Client(project=PROJECT)
    client.delete_dataset("ser", delete_contents=True, not_found_ok=True)
    client.create_dataset("ser")
    return client


@pytest.fixture
def recordings(tmp_path, speechlike) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(GOOD):
        soundfile.write(folder / f"{number}.wav", speechlike(1, seed=number), 48_000)
    (folder / "text.wav").write_bytes(b"no sound")
    (folder / "caf\udce9.wav").write_bytes(b"no sound")
    return folder


def rows(service: bigquery.Client, table: str) -> list[dict]:
    return [dict(row) for row in service.query(f"SELECT * FROM `{table}` ORDER BY file").result()]


def test_each_recording_has_one_row_after_every_start(service, bucket, recordings, base, capsys):
    words = ["batch", recordings, "--out", OUT, "--model-base-path", base, "--recordings-per-file", "3", "--", TEMP]
    ended = ser(capsys, *words)
    assert ended.code == ExitCode.PARTLY, ended.text
    assert f"8 recordings: {GOOD} with an answer, in {OUT}, 2 with an error, in {OUT}_errors" in ended.text

    answers = rows(service, TABLE)
    assert [row["file"] for row in answers] == [str(recordings / f"{number}.wav") for number in range(GOOD)]
    assert list(answers[0]) == ["file", "emotion", *EMOTIONS, "speech", "model_version"]
    assert {row["model_version"] for row in answers} == {3}
    assert all(sum(row[emotion] for emotion in EMOTIONS) == pytest.approx(1, abs=1e-5) for row in answers)
    errors = rows(service, f"{TABLE}_errors")
    assert collections.Counter(Path(row["file"]).name for row in errors) == {"text.wav": 1, "caf\ufffd.wav": 1}
    assert {row["error"] for row in errors} == {AudioCode.UNREADABLE}

    assert ser(capsys, *words)[0] == ExitCode.PARTLY
    assert rows(service, TABLE) == answers
    assert rows(service, f"{TABLE}_errors") == errors


def test_a_failed_load_is_repeated_without_scoring(service, bucket, mirror, recordings, base, capsys, tmp_path):
    words = ["batch", recordings, "--out", OUT, "--model-base-path", base, "--", TEMP]
    bucket.mirror = tmp_path / "elsewhere"  # the load job does not find its files
    ended = ser(capsys, *words)
    assert ended.code == ExitCode.FAILED, ended.text
    assert "8 of 8 recordings are finished; run the same command again to continue" in ended.text
    results = f"gs://data/temp/ser-batch/{TABLE}/results/000000.jsonl"
    generation = bucket.object(results).generation

    bucket.mirror = mirror
    assert ser(capsys, *words)[0] == ExitCode.PARTLY
    assert bucket.object(results).generation == generation
    assert [row["file"] for row in rows(service, TABLE)] == [
        str(recordings / f"{number}.wav") for number in range(GOOD)
    ]


@pytest.mark.parametrize("name", ["calls", "calls_errors"])
def test_rows_of_something_else_are_kept(service, bucket, recordings, base, capsys, name):
    table = bigquery.Table(f"{PROJECT}.ser.{name}", [bigquery.SchemaField("file", "STRING")])
    service.create_table(table)
    assert service.insert_rows_json(table, [{"file": "theirs.wav"}]) == []
    ended = ser(capsys, "batch", recordings, "--out", OUT, "--model-base-path", base, "--", TEMP)
    assert ended.code == ExitCode.REFUSED, ended.text
    assert f"bq://{table.reference} has 1 rows" in ended.text
    assert rows(service, f"{PROJECT}.ser.{name}") == [{"file": "theirs.wav"}]
    assert bucket.addresses("gs://data/temp") == []


@pytest.mark.parametrize(
    ("out", "words", "found"),
    [
        ("bq://only.two", ["--", TEMP], "the form is bq://PROJECT.DATASET.TABLE"),
        (OUT, ["--format", "csv", "--", TEMP], "--format csv is for files"),
        (OUT, [], "--temp_location is missing"),
        (OUT, ["--", "--temp_location"], "--temp_location is missing"),
        (OUT, ["--", "--temp_location", "/tmp"], "--temp_location is /tmp"),
        (f"bq://{PROJECT}.other.calls", ["--", TEMP], "does not exist; create it first"),
    ],
)
def test_what_cannot_be_loaded_is_refused_before_anything_is_written(
    service, bucket, recordings, base, capsys, out, words, found
):
    ended = ser(capsys, "batch", recordings, "--out", out, "--model-base-path", base, *words)
    assert ended.code == ExitCode.REFUSED, ended.text
    assert found in " ".join(ended.text.split())
    assert bucket.addresses("gs://data/temp") == []
