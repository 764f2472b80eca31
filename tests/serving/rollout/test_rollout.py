"""Rollouts by version labels on a live server, while requests come in."""

import contextlib
import fcntl
import io
import itertools
import json
import shutil
import signal
import subprocess
import sys
import threading
import typing
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from cli.exits import ExitCode
from cli.main import main
from modules.data.labels import EMOTIONS
from serving.client import Client, ServingError
from serving.rollout import verdict
from serving.rollout.model_server import State
from serving.rollout.settings import WatchSettings
from serving.rollout.state import (
    CanaryExists,
    CanaryMissing,
    ConcurrentChange,
    NothingToRollBack,
    RolloutError,
    UnusableFile,
    UnusableVersion,
    VersionNotLoaded,
)
from serving.rollout.tf_serving import JOURNAL_SUFFIX, TfServingTarget
from serving.rollout.watch import Probes, SharedProbes, watch
from serving.wire import model_service_pb2 as wire

ROOT = Path(__file__).parents[3]
STABLE, GOOD, CONSTANT, FAILING, BROKEN, MISSING = "3", "4", "5", "6", "7", "99"
RECORDINGS = 24
LENIENT = {"min_requests": RECORDINGS, "min_recordings": RECORDINGS, "max_latency_ratio": 1000.0}
HEAD = "# Served in the tests.\n"


def export_constant(folder, *, works=True):
    """A model that predicts one emotion for every recording, or one that loads and then fails every request."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="audio")])
    def serving_default(audio):
        items = tf.shape(audio)[0]
        with tf.control_dependencies([tf.debugging.Assert(works, ["out of order"])]):
            labels = tf.tile(tf.constant([EMOTIONS]), [items, 1])
        probabilities = tf.tile(tf.one_hot([0], len(EMOTIONS)), [items, 1])
        error = tf.fill([items], "")
        return {"labels": labels, "probabilities": probabilities, "emotion": labels[:, 0], "error": error}

    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": serving_default})


@pytest.fixture(scope="module")
def base(tmp_path_factory, push):
    folder = tmp_path_factory.mktemp("rollout") / "serving"
    push(folder, int(STABLE))
    push(folder, int(GOOD))
    export_constant(folder / CONSTANT)
    export_constant(folder / FAILING, works=False)
    (folder / BROKEN).mkdir()
    (folder / BROKEN / "saved_model.pb").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def models_config(base):
    """A configuration prepared for rollouts: pinned to one version, with both labels."""
    file = base.parent / "models.config"
    labels = "".join(f'version_labels {{ key: "{label}" value: {STABLE} }}\n' for label in ("stable", "canary"))
    policy = f"model_version_policy {{ specific {{ versions: {STABLE} }} }}"
    file.write_text(
        f'{HEAD}model_config_list {{ config {{ name: "ser" base_path: "{base}" model_platform: "tensorflow"\n'
        f"{policy}\n{labels}}} }}\n"
    )
    return file


@pytest.fixture(scope="module")
def server(run_server, models_config):
    running = run_server(model_config_file=models_config)
    yield running
    running.stop()


@pytest.fixture
def target(server, models_config):
    """A target that serves version 3 alone, without a journal."""
    target = TfServingTarget(server.address, models_config=models_config, load_timeout_sec=500, appear_sec=0)
    if target.state().canary:
        target.abort()
    if versions(target.state()) != (STABLE, None):
        target.start_canary(STABLE)
        target.promote()
    journal_of(models_config).unlink(missing_ok=True)
    yield target
    target.close()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, speechlike):
    folder = tmp_path_factory.mktemp("probe")
    for seed in range(RECORDINGS):
        soundfile.write(folder / f"{seed:02d}.wav", speechlike(1.0, rate_hz=16_000, seed=seed), 16_000)
    return folder


def journal_of(models_config):
    return models_config.with_name(models_config.name + JOURNAL_SUFFIX)


def versions(state):
    return tuple(deployed.version if deployed else None for deployed in (state.stable, state.canary))


class Callers:
    """Thread that sends requests without a pause, in each way in turn.

    Attributes:
        versions: Versions that answered, by way.
        errors: Way and exception of each failed request.
    """

    WAYS: typing.ClassVar = {
        "stable": {"label": "stable"},
        "canary": {"label": "canary"},
        "half": {"canary_percent": 50},
        "any": {},
    }

    def __init__(self, address, wav_bytes):
        self.versions, self.errors = {way: [] for way in self.WAYS}, []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_requests, args=(address, wav_bytes))

    def _send_requests(self, address, wav_bytes):
        with contextlib.ExitStack() as open_clients:
            clients = {
                way: open_clients.enter_context(Client(address, timeout_sec=120, **choice))
                for way, choice in self.WAYS.items()
            }
            for way in itertools.cycle(clients):
                if self._stop.is_set():
                    return
                try:
                    self.versions[way].append(str(clients[way].predict(wav_bytes).model_version))
                except ServingError as error:
                    self.errors.append((way, error))

    def since_now(self):
        """Return the versions that answer requests from now on, by way."""
        begun = {way: len(answers) for way, answers in self.versions.items()}
        while any(len(answers) < begun[way] + 4 for way, answers in self.versions.items()):
            assert not self.errors
            self._stop.wait(0.02)
        # The request in flight may still be answered by the previous version.
        return {way: set(answers[begun[way] + 1 :]) for way, answers in self.versions.items()}

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def watch_command(server, models_config, recordings, *options):
    lenient = [f"--{name.replace('_', '-')}={value}" for name, value in LENIENT.items()]
    places = ["--address", server.address, "--models-config", str(models_config), "--probe", str(recordings)]
    return ["rollout", "watch", *places, "--minutes=0", "--interval-sec=0", *lenient, *options]


def run(capsys, command):
    with pytest.raises(SystemExit) as left:
        main(command)
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


def test_a_whole_rollout_fails_no_request(server, target, models_config, recordings):
    assert target.state().stable.percent == 100
    with Callers(server.address, (recordings / "00.wav").read_bytes()) as callers:
        state = target.start_canary(GOOD)
        assert versions(state) == (STABLE, GOOD)
        assert state.canary.since is not None
        assert (state.stable.percent, state.canary.percent) == (0, 100)  # of those that do not choose
        answered = callers.since_now()
        assert (answered["stable"], answered["canary"], answered["any"]) == ({STABLE}, {GOOD}, {GOOD})
        assert answered["half"] <= {STABLE, GOOD}

        assert versions(target.promote()) == (GOOD, None)
        assert set().union(*callers.since_now().values()) == {GOOD}
        assert versions(target.rollback()) == (STABLE, None)  # loads it again
        assert set().union(*callers.since_now().values()) == {STABLE}
        target.start_canary(CONSTANT)
        assert versions(target.abort()) == (STABLE, None)
        assert set().union(*callers.since_now().values()) == {STABLE}
    assert callers.errors == []
    assert models_config.read_text().startswith(HEAD)
    records = [json.loads(line) for line in journal_of(models_config).read_text().splitlines()]
    assert [record["action"] for record in records] == ["canary", "promote", "rollback", "canary", "abort"]
    assert target.state().stable.since is not None
    with pytest.raises(NothingToRollBack):
        target.rollback()


def test_a_restarted_server_continues_the_rollout(target, models_config, run_server):
    state = target.start_canary(CONSTANT)
    again = run_server(model_config_file=models_config)
    restarted = TfServingTarget(again.address, models_config=models_config)
    assert restarted.state() == state
    assert versions(state) == (STABLE, CONSTANT)
    restarted.close()
    again.stop()


def test_a_refused_change_changes_nothing(server, target, models_config):
    before = models_config.read_text(), server.server._manager.model("ser").config
    for change in (target.promote, target.abort):
        with pytest.raises(CanaryMissing):
            change()
    with pytest.raises(NothingToRollBack):
        target.rollback()
    for version, kind, value in (
        (MISSING, VersionNotLoaded, MISSING),
        (BROKEN, VersionNotLoaded, r"7 .*saved_model\.pb"),
        (STABLE, UnusableVersion, STABLE),
        ("newest", UnusableVersion, "'newest'"),
    ):
        with pytest.raises(kind, match=value):
            target.start_canary(version)
    with pytest.raises(UnusableVersion):
        target.start_canary(GOOD, stable=CONSTANT)
    with journal_of(models_config).open("a") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        with pytest.raises(ConcurrentChange):
            target.start_canary(CONSTANT)
    assert versions(target.state()) == (STABLE, None)
    assert (models_config.read_text(), server.server._manager.model("ser").config) == before
    assert sorted(file.name for file in models_config.parent.glob(".models.config*")) == []
    assert journal_of(models_config).read_text() == ""


def test_a_second_canary_is_refused(target, models_config):
    target.start_canary(CONSTANT)
    before = models_config.read_text()
    with pytest.raises(CanaryExists, match=CONSTANT):
        target.start_canary(FAILING)
    assert versions(target.state()) == (STABLE, CONSTANT)
    assert models_config.read_text() == before
    assert versions(target.rollback()) == (STABLE, None)


def test_a_file_that_cannot_be_replaced_changes_nothing(target, models_config, monkeypatch):
    """As for a file that is itself a mount, which a test cannot make; so the call is refused."""

    def busy(self, target):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    with pytest.raises(UnusableFile, match="Device or resource busy"):
        target.start_canary(CONSTANT)
    monkeypatch.undo()
    assert versions(target.state()) == (STABLE, None)


def test_the_first_rollout_from_the_production_file(run_server, base, tmp_path):
    """From the production file, with the base path of this machine."""
    for version in (CONSTANT, FAILING):
        shutil.copytree(base / version, tmp_path / "serving" / version)
    file = tmp_path / "models.config"
    shutil.copy(ROOT / "serving/config/models.config", file)
    running = run_server(model_config_file=file, model_base_path=tmp_path / "serving")
    target = TfServingTarget(running.address, models_config=file, model_base_path=tmp_path / "serving")
    try:
        assert versions(target.state()) == (FAILING, None)
        with pytest.raises(UnusableVersion, match=FAILING):
            target.start_canary(FAILING)
        assert versions(target.start_canary(FAILING, stable=CONSTANT)) == (CONSTANT, FAILING)
        assert versions(target.abort()) == (CONSTANT, None)
        text = file.read_text()
        assert 'base_path: "/models/ser"' in text
        assert text.startswith("# Models, in TF Serving's format")
    finally:
        target.close()
        running.stop()


def test_an_equal_canary_is_promoted(server, target, models_config, recordings, capsys):
    target.start_canary(GOOD)
    code, out, _ = run(capsys, watch_command(server, models_config, recordings, "--json"))
    report = json.loads(out)
    assert (code, report["outcome"], report["stable"]["version"], report["canary"]) == (0, "promoted", GOOD, None)
    checks = {check["code"]: check for check in report["checks"]}
    assert checks[verdict.CANARY_REQUESTS]["value"] == RECORDINGS
    assert checks[verdict.PROBABILITIES_DRIFT]["value"] == pytest.approx(0, abs=1e-6)
    assert all(check["passed"] for check in checks.values())


def test_a_watch_of_a_version_begins_its_trial_and_ends_where_it_is_stable(
    server, target, models_config, recordings, capsys
):
    command = watch_command(server, models_config, recordings, "--json", f"--version={GOOD}")
    code, out, _ = run(capsys, command)
    assert (code, json.loads(out)["outcome"]) == (0, "promoted")
    changes = journal_of(models_config).read_text()
    code, out, _ = run(capsys, command)
    repeated = json.loads(out)
    assert (code, repeated["stable"]["version"], repeated["canary"]) == (0, GOOD, None)
    assert "outcome" not in repeated
    assert journal_of(models_config).read_text() == changes


def test_a_canary_with_one_emotion_is_rolled_back(server, target, models_config, recordings, capsys):
    target.start_canary(CONSTANT)
    code, out, _ = run(capsys, watch_command(server, models_config, recordings, "--json"))
    assert code == ExitCode.DIFFERENT
    assert versions(target.state()) == (STABLE, None)
    failed = {check["code"] for check in json.loads(out)["checks"] if check["passed"] is False}
    assert verdict.PROBABILITIES_DRIFT in failed


def test_a_failing_canary_is_rolled_back_at_once(server, target, recordings):
    target.start_canary(FAILING)
    wavs = {file.name: file.read_bytes() for file in sorted(recordings.iterdir())}
    settings = WatchSettings(min_requests=1000)
    with Client(server.address, label="stable") as stable, Client(server.address, label="canary") as canary:
        watched = watch(target, Probes(stable, canary, wavs), settings, minutes=60, interval_sec=0)
    assert watched.outcome == "rolled back"
    assert versions(watched.state) == versions(target.state()) == (STABLE, None)
    (failed,) = [check for check in watched.verdict.checks if check.passed is False]
    assert failed.code == verdict.ERROR_RATE
    assert failed.value == 1


def test_too_few_requests_decide_nothing(server, target, models_config, recordings, capsys):
    target.start_canary(CONSTANT)
    code, out, _ = run(capsys, watch_command(server, models_config, recordings, "--min-requests=1000"))
    assert code == ExitCode.UNDECIDED
    assert "; 1000 " in out
    assert versions(target.state()) == (STABLE, CONSTANT)


def test_a_rollout_that_another_process_ended_is_kept(server, target, recordings):
    target.start_canary(CONSTANT)
    wavs = {file.name: file.read_bytes() for file in sorted(recordings.iterdir())}

    def abort(stable, canary):
        if canary.requests == RECORDINGS:
            target.abort()

    with Client(server.address, label="stable") as stable, Client(server.address, label="canary") as canary:
        probes = Probes(stable, canary, wavs)
        watched = watch(
            target, probes, WatchSettings(**LENIENT, max_prediction_drift=1), minutes=0, interval_sec=0, progress=abort
        )
    assert watched.verdict.outcome == "promote"
    assert watched.outcome == "undecided"
    assert watched.note
    assert versions(target.state()) == (STABLE, None)


def test_a_target_that_splits_the_traffic_is_watched(server, target, recordings):
    """As on Vertex AI: the caller does not choose the version, and the answer names it."""
    wavs = {file.name: file.read_bytes() for file in sorted(recordings.iterdir())[:4]}
    settings = WatchSettings(min_requests=8, min_recordings=4, max_latency_ratio=1000.0)
    for canary, outcome in ((CONSTANT, "rolled back"), (FAILING, "rolled back")):
        target.start_canary(canary)
        with Client(server.address, canary_percent=50) as client:
            probes = SharedProbes(client, STABLE, canary, wavs)
            probes.min_rounds = 80  # each version gets each recording, except with a probability of 1e-5
            watched = watch(target, probes, settings, minutes=0, interval_sec=0)
        assert watched.outcome == outcome
        assert versions(watched.state) == (STABLE, None)
    with Client(server.address) as client, pytest.raises(RolloutError, match=r"version 3 .*\(1 and 2\)"):
        SharedProbes(client, "1", "2", wavs).observe()


def test_bad_audio_counts_for_neither_version(server, target, recordings):
    target.start_canary(GOOD)
    wavs = {file.name: file.read_bytes() for file in sorted(recordings.iterdir())[:3]}
    short = io.BytesIO()
    soundfile.write(short, np.ones(10), 16_000, format="WAV")
    wavs["short.wav"] = short.getvalue()
    with Client(server.address, label="stable") as stable, Client(server.address, label="canary") as canary:
        probes = Probes(stable, canary, wavs)
        for _ in wavs:
            tallies = probes.observe()
    assert [(tally.requests, tally.errors) for tally in tallies] == [(3, 0)] * 2
    with Client(server.address, canary_percent=50) as client:
        shared = SharedProbes(client, STABLE, GOOD, {"short.wav": short.getvalue()})
        assert [tally.requests for tally in shared.observe()] == [0, 0]


def test_an_interrupted_watch_changes_nothing(server, target, models_config, recordings):
    target.start_canary(CONSTANT)
    # The last --minutes wins.
    words = watch_command(server, models_config, recordings, "--minutes=60", "--interval-sec=0.01")
    # Where these tests run in the background, the signal is ignored, and children inherit that.
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{handler}; from cli.main import main; main({words!r})"
    watching = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert "stable: " in watching.stderr.readline()  # progress
    watching.send_signal(signal.SIGINT)
    error = watching.communicate(timeout=60)[1]
    assert watching.returncode == ExitCode.UNDECIDED
    assert error.splitlines()[-1].startswith("ser: ")
    assert versions(target.state()) == (STABLE, CONSTANT)


def test_status_as_a_table_and_as_json(server, target, models_config, capsys):
    target.start_canary(CONSTANT)
    place = ["--address", server.address, "--models-config", str(models_config)]
    code, out, _ = run(capsys, ["rollout", "status", *place, "--json"])
    assert code == 0
    assert json.loads(out)["canary"]["version"] == CONSTANT
    code, out, _ = run(capsys, ["rollout", "status", *place])
    assert "canary" in out
    assert CONSTANT in out
    code, out, error = run(capsys, ["rollout", "canary", FAILING, *place])
    assert code == 1
    assert server.address in error
    assert error.count("\n") == 1


def test_our_messages_are_tf_servings():
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_management_pb2
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name="ser").version_labels["canary"] = 4
    ours = wire.ReloadConfigRequest(config=config.SerializeToString())
    assert model_management_pb2.ReloadConfigRequest.FromString(ours.SerializeToString()).config == config
    refused = model_management_pb2.ReloadConfigResponse()
    refused.status.error_code, refused.status.error_message = 9, "no"
    assert wire.ReloadConfigResponse.FromString(refused.SerializeToString()).status.error_code == 9
    theirs = get_model_status_pb2.GetModelStatusResponse()
    theirs.model_version_status.add(version=4, state=30).status.error_message = "why"
    (status,) = wire.GetModelStatusResponse.FromString(theirs.SerializeToString()).model_version_status
    assert (status.version, status.state, status.status.error_message) == (4, State.AVAILABLE, "why")
    described = get_model_status_pb2.ModelVersionStatus.State.items()
    assert dict(State.items()) == dict(described)
    request = wire.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.version_label = "canary"
    read = get_model_metadata_pb2.GetModelMetadataRequest.FromString(request.SerializeToString())
    assert (read.model_spec.version_label, list(read.metadata_field)) == ("canary", ["signature_def"])
