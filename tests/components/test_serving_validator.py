"""Validation by a server in a child process, of a model that a run trained and of damaged ones."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tfx.types import standard_artifacts

from components.artifacts import VALIDATED_FILE
from components.serving_validator.executor import CODE, Executor, validate
from components.serving_validator.requests import TOLERANCE, largest_difference, request
from modules.export.manifest import Manifest, require_same
from serving.server.command import CannotServe
from serving.server.subprocess_server import served
from tests.exports import export_with_keras_variables


@pytest.fixture(scope="module")
def artifacts(local_run) -> Path:
    return local_run.root / "artifacts"


@pytest.fixture
def model_uri(artifacts, tmp_path) -> Path:
    """Copy of the run's model, which tests damage."""
    uri = tmp_path / "model"
    shutil.copytree(min((artifacts / "Trainer" / "model").iterdir()), uri)
    return uri


def bless(model_uri: Path, artifacts: Path, folder: Path):
    examples, model, blessing = (
        standard_artifacts.Examples(),
        standard_artifacts.Model(),
        standard_artifacts.InfraBlessing(),
    )
    examples.uri = str(min((artifacts / "AudioExampleGen" / "examples").iterdir()))
    examples.split_names = json.dumps(["train", "eval", "test"])
    model.uri, blessing.uri = str(model_uri), str(folder / "blessing")
    Executor().Do(
        {"model": [model], "examples": [examples]}, {"blessing": [blessing]}, {"split": "test", "timeout_sec": 120.0}
    )
    return blessing, json.loads((folder / "blessing" / "serving_check.json").read_text())


def processes_of(path: Path) -> list[int]:
    """Return ids of other processes with ``path`` in their command."""
    process_ids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:  # the process has ended
            continue
        if str(path).encode() in command and int(process.name) != os.getpid():
            process_ids.append(int(process.name))
    return process_ids


def test_a_model_that_answers_is_blessed_for_the_pusher(model_uri, artifacts, tmp_path):
    blessing, check = bless(model_uri, artifacts, tmp_path)
    assert blessing.get_int_custom_property("blessed") == 1
    assert (tmp_path / "blessing" / "INFRA_BLESSED").exists()
    validated = Manifest.model_validate_json((tmp_path / "blessing" / VALIDATED_FILE).read_bytes())
    require_same(str(model_uri / "Format-Serving"), validated)
    # Five signatures by the model's own requests, one batch of examples, four recordings alone and together.
    assert re.findall(r"\d+", check["text"]) == ["11"]
    assert 0 <= check["value"] <= TOLERANCE


def test_an_unloadable_model_is_refused(model_uri, artifacts, tmp_path):
    (model_uri / "Format-Serving" / "variables" / "variables.index").write_bytes(b"torn")
    blessing, check = bless(model_uri, artifacts, tmp_path)
    assert blessing.get_int_custom_property("blessed") == 0
    assert (tmp_path / "blessing" / "INFRA_NOT_BLESSED").exists()
    assert check["code"] == CODE
    assert check["value"] is None


def test_a_model_that_lacks_variables_is_refused_by_their_name(artifacts, tmp_path):
    """Such a model loads, and answers in Python's eager loader; TF Serving's does not restore the variables."""
    model = export_with_keras_variables(tmp_path)
    model.rename(tmp_path / "Format-Serving")
    blessing, check = bless(tmp_path, artifacts, tmp_path)
    assert blessing.get_int_custom_property("blessed") == 0
    assert [path.name for path in (tmp_path / "blessing").glob("INFRA_*")] == ["INFRA_NOT_BLESSED"]
    assert not check["passed"]
    assert re.search(r"Could not find variable \w+/\w+", check["text"]), check["text"]


def test_an_answer_that_is_an_error_is_a_reason(model_uri):
    requests = [request("examples", examples=[b"not an example"])]
    check = validate(str(model_uri / "Format-Serving"), requests, timeout_sec=120)
    assert not check.passed
    assert "INVALID_ARGUMENT" in check.text


def test_no_server_outlives_the_validation(model_uri, tmp_path):
    base = tmp_path / "serving"
    base.mkdir()
    (model_uri / "Format-Serving").rename(base / "1")
    with pytest.raises(CannotServe, match=r"0\.5 s"), served(str(base), timeout_sec=0.5):
        pass
    assert not processes_of(base)

    code = (
        "from serving.server.subprocess_server import served\n"
        f"with served({str(base)!r}, timeout_sec=120): print('up', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as asker:
        assert asker.stdout.readline() == b"up\n"
        assert len(processes_of(base)) == 2
        asker.send_signal(signal.SIGKILL)
    deadline_sec = time.monotonic() + 60
    while processes_of(base) and time.monotonic() < deadline_sec:
        time.sleep(0.05)
    assert not processes_of(base)


def test_the_largest_difference_of_answers():
    ours = {"probabilities": np.array([[0.2, 0.8]], np.float32), "emotion": np.array([b"sad"], object)}
    assert largest_difference(ours, ours) == 0
    moved = ours | {"probabilities": np.array([[0.25, 0.75]], np.float32)}
    assert largest_difference(ours, moved) == pytest.approx(0.05, abs=1e-6)
    for other in (
        ours | {"emotion": np.array([b"happy"], object)},
        ours | {"probabilities": np.array([[0.2, np.nan]], np.float32)},
        ours | {"probabilities": np.array([0.2, 0.8], np.float32)},
        {"emotion": ours["emotion"]},
    ):
        assert largest_difference(ours, other) == np.inf
