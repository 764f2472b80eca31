"""The stand-in for Cloud Storage with the clients of the pipeline, each in a process of its own."""

import base64
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import google_crc32c
import pytest

from tests.fakes import isolated
from tests.fakes.storage import FakeStorage

# TensorFlow uploads in one part, Beam in parts of 16 MiB.
LARGE_BYTES = 40 * 2**20

TENSORFLOW = """
    import json, os, tensorflow as tf
    gfile = tf.io.gfile
    results = {}
    with gfile.GFile("gs://data/a/b/new.txt", "w") as file:
        file.write("written")
    with gfile.GFile("gs://data/a/large", "wb") as file:
        file.write(b"0123456789abcdef" * (LARGE_BYTES // 16))
    with gfile.GFile("gs://data/a/large", "rb") as file:
        file.seek(LARGE_BYTES - 3)
        results["end"] = file.read().decode()
    results["read"] = gfile.GFile("gs://data/a/b/new.txt").read()
    results["exists"] = [gfile.exists(f"gs://data/a/{name}") for name in ("b", "b/new.txt", "absent")]
    results["is_folder"] = [gfile.isdir(f"gs://data/a/{name}") for name in ("b", "b/new.txt", "absent")]
    results["glob"] = sorted(gfile.glob("gs://data/a/*/*"))
    results["listed"] = sorted(gfile.listdir("gs://data/a"))
    gfile.makedirs("gs://data/empty")
    gfile.copy("gs://data/a/b/new.txt", "gs://data/c/copied.txt")
    gfile.rename("gs://data/a", "gs://data/renamed")
    results["renamed"] = sorted(gfile.glob("gs://data/renamed/*"))
    gfile.rmtree("gs://data/renamed/b")
    try:
        gfile.GFile("gs://elsewhere/x").read()
    except tf.errors.NotFoundError as error:
        results["no_bucket"] = type(error).__name__
    print(json.dumps(results))
"""

BEAM = """
    import json
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.io.gcp import gcsio
    results = {}
    with FileSystems.create("gs://data/beam/large") as file:
        for _ in range(LARGE_BYTES // 2**20):
            file.write(b"x" * 2**20)
    with FileSystems.create("gs://data/beam/small") as file:
        file.write(b"small")
    with FileSystems.open("gs://data/beam/large") as file:
        results["read"] = len(file.read())
    (match,) = FileSystems.match(["gs://data/beam/*"])
    results["matched"] = {one.path: one.size_in_bytes for one in match.metadata_list}
    FileSystems.rename(["gs://data/beam/small"], ["gs://data/beam/moved"])
    FileSystems.copy(["gs://data/beam/moved"], ["gs://data/beam/again"])
    results["batch"] = gcsio.GcsIO().copy_batch([("gs://data/beam/absent", "gs://data/beam/x")])[0][2]
    FileSystems.delete(["gs://data/beam/moved"])
    results["checksum"] = FileSystems.checksum("gs://data/beam/again")
    results["exists"] = [FileSystems.exists(f"gs://data/beam/{name}") for name in ("again", "moved")]
    print(json.dumps(results))
"""


@pytest.fixture
def storage(tmp_path):
    with FakeStorage(tmp_path, "data") as served:
        yield served


def run(storage: FakeStorage, script: str, command: list[str] | None = None) -> dict:
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | storage.environ
    text = f"LARGE_BYTES = {LARGE_BYTES}\n" + textwrap.dedent(script)
    command = command or [sys.executable, "-c", text]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_tensorflow_reads_writes_lists_renames_and_deletes(storage):
    storage.failures.extend([503])  # the client retries
    results = run(storage, TENSORFLOW)
    assert results == {
        "end": "def",
        "read": "written",
        "exists": [True, True, False],
        "is_folder": [True, False, False],
        "glob": ["gs://data/a/b/new.txt"],
        "listed": ["b/", "large"],
        "renamed": ["gs://data/renamed/b", "gs://data/renamed/large"],
        "no_bucket": "NotFoundError",
    }
    assert storage.addresses("gs://data/") == [
        "gs://data/c/copied.txt", "gs://data/empty/", "gs://data/renamed/large",
    ]  # fmt: skip
    assert storage.object("gs://data/renamed/large").size_bytes == LARGE_BYTES


def test_beam_writes_in_parts_copies_and_deletes_in_batches(storage):
    results = run(storage, BEAM)
    small = base64.b64encode(google_crc32c.Checksum(b"small").digest()).decode()
    assert results == {
        "read": LARGE_BYTES,
        "matched": {"gs://data/beam/large": LARGE_BYTES, "gs://data/beam/small": 5},
        "batch": 404,
        "checksum": small,
        "exists": [True, False],
    }
    assert storage.read_bytes("gs://data/beam/again") == b"small"


def test_a_denied_permission_is_an_error(storage):
    storage.denied.add("storage.buckets.get")
    results = run(
        storage,
        """
        import json, tensorflow as tf
        try:
            tf.io.gfile.makedirs("gs://data/folder")
        except tf.errors.PermissionDeniedError as error:
            print(json.dumps(error.message))
        """,
    )
    assert "storage.buckets.get" in results
    assert ("storage.buckets.get", "gs://data/") in storage.calls


@pytest.mark.skipif(not isolated.can_isolate(), reason="no network namespace for this user (unshare --net)")
def test_processes_in_another_network_reach_it(storage, tmp_path):
    storage.write_bytes("gs://data/hello", b"hello")
    script = "import json, tensorflow as tf; print(json.dumps(tf.io.gfile.GFile('gs://data/hello').read()))"
    process = {"command": [sys.executable, "-c", script], "environ": {}}
    assert run(storage, "", isolated.command([process], tmp_path / "process.json", storage.sockets)) == "hello"


def test_old_objects_expire(storage, tmp_path):
    (tmp_path / "local" / "runs").mkdir(parents=True)
    (tmp_path / "local" / "runs" / "1").write_text("first")
    (tmp_path / "local" / "runs" / "2").write_text("second")
    storage.upload(tmp_path / "local", "gs://data/kept")
    storage.age("gs://data/kept/runs/1", days=91)
    assert storage.expire("gs://data/kept/", days=90) == ["gs://data/kept/runs/1"]
    storage.write_bytes("gs://data/kept/", b"")
    storage.write_bytes("gs://data/kept/empty/", b"")
    storage.download("gs://data/kept", tmp_path / "copy")
    assert [path.name for path in Path(tmp_path / "copy" / "runs").iterdir()] == ["2"]
