"""New versions, labels and configurations while requests come in."""

import shutil
import threading
import time

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc

from modules.export import manifest
from modules.export.contract import EXTRA_ASSETS, WARMUP_FILE
from modules.export.manifest import SignatureError
from serving.client import Client, InvalidRequest, ServingError
from serving.server import manager
from serving.server.manager import load_warm
from serving.server.servable import Servable
from tests.keys import write_keys

State = get_model_status_pb2.ModelVersionStatus.State


@pytest.fixture(scope="module")
def model_base(tmp_path_factory, push):
    """A folder of versions, as the Pusher leaves it, with version 1."""
    base = tmp_path_factory.mktemp("versions") / "serving"
    push(base, 1)
    return base


@pytest.fixture(scope="module")
def server(run_server, model_base):
    running = run_server(model_base_path=model_base)
    yield running
    running.stop()


@pytest.fixture
def newest(server):
    """The newest version when the test begins; the tests share a server because loading takes long."""
    return max(version for version, (state, _) in states(server).items() if state == "AVAILABLE")


def states(server):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "ser"
    with server.channel() as channel:
        answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request)
    return {status.version: (State.Name(status.state), status.status) for status in answer.model_version_status}


def wait_for(condition, timeout_sec=120):
    deadline = time.monotonic() + timeout_sec
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.05)


def reload(server, **model):
    request = model_management_pb2.ReloadConfigRequest()
    config = request.config.model_config_list.config.add(model_platform="tensorflow")
    config.name, config.base_path = model.get("name", "ser"), str(model["base_path"])
    config.model_version_policy.specific.versions.extend(model.get("versions", ()))
    for label, version in model.get("labels", {}).items():
        config.version_labels[label] = version
    with server.channel() as channel:
        return model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request).status


class Load:
    """Clients that send requests without a pause.

    Attributes:
        versions: Versions that answered.
        errors: Exceptions of failed requests.
    """

    def __init__(self, address, wav_bytes, clients=4):
        self.versions, self.errors = [], []
        self._stop = threading.Event()
        arguments = (address, wav_bytes)
        self._threads = [threading.Thread(target=self._send_requests, args=arguments) for _ in range(clients)]

    def _send_requests(self, address, wav_bytes):
        # Enough for a slow machine: the tests are not about latency.
        with Client(address, timeout_sec=60) as client:
            while not self._stop.is_set():
                try:
                    self.versions.append(client.predict(wav_bytes).model_version)
                except ServingError as error:
                    self.errors.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_push_replaces_the_version_without_failed_requests(server, newest, model_base, push, wav_bytes):
    with Load(server.address, wav_bytes) as load:
        wait_for(lambda: newest in load.versions)
        push(model_base, newest + 1)
        wait_for(lambda: newest + 1 in load.versions)
        wait_for(lambda: states(server)[newest][0] == "END")
        answered = len(load.versions)
        wait_for(lambda: len(load.versions) > answered + 20)
    assert load.errors == []
    # Each client may have one request in flight at the switch.
    first_of_new = load.versions.index(newest + 1)
    assert load.versions[first_of_new:].count(newest) <= 4
    assert states(server)[newest + 1][0] == "AVAILABLE"


def test_a_broken_push_changes_nothing_until_it_is_fixed(server, newest, model_base, push, wav_bytes):
    broken = newest + 1
    (model_base / str(broken)).mkdir()
    (model_base / str(broken) / "saved_model.pb").write_bytes(b"broken")
    (model_base / "not-a-version").mkdir()
    wait_for(lambda: broken in states(server) and states(server)[broken][0] == "END")
    status = states(server)[broken][1]
    assert status.error_code == grpc.StatusCode.UNKNOWN.value[0]
    assert "saved_model.pb" in status.error_message
    with Client(server.address) as client:
        assert client.predict(wav_bytes).model_version == newest
        shutil.rmtree(model_base / str(broken))
        push(model_base, broken)
        wait_for(lambda: states(server)[broken][0] == "AVAILABLE")
        assert client.predict(wav_bytes).model_version == broken


def test_a_changed_version_is_not_served(server, newest, model_base, push, wav_bytes):
    changed, path = newest + 1, model_base / str(newest + 1) / "assets.extra" / "labels.json"
    staged = model_base / "staged"
    shutil.copytree(model_base / str(newest), staged)
    manifest.write(str(staged), signing_key=None)
    content = (staged / "assets.extra" / "labels.json").read_bytes()
    (staged / "assets.extra" / "labels.json").write_bytes(content.replace(b"angry", b"happy", 1))
    staged.rename(model_base / str(changed))
    wait_for(lambda: changed in states(server) and states(server)[changed][0] == "END")
    assert states(server)[changed][1].error_message.startswith("manifest.mismatch: ")
    with Client(server.address) as client:
        assert client.predict(wav_bytes).model_version == newest
        path.write_bytes(content)
        wait_for(lambda: states(server)[changed][0] == "AVAILABLE")
        assert client.predict(wav_bytes).model_version == changed


def test_a_public_key_refuses_unsigned_versions(exported_model, tmp_path):
    private, public = write_keys(tmp_path / "keys")
    signed = tmp_path / "signed"
    shutil.copytree(exported_model, signed)
    with pytest.raises(SignatureError):
        load_warm("ser", 1, str(signed), public)
    manifest.write(str(signed), signing_key=private)
    servable, _ = load_warm("ser", 1, str(signed), public)
    assert "serving_default" in servable.signature_defs


def test_a_version_is_warmed_up_by_its_own_requests(exported_model, monkeypatch):
    run, ran = Servable.run, []

    def record(self, signature, inputs):
        ran.append(signature)
        return run(self, signature, inputs)

    monkeypatch.setattr(Servable, "run", record)
    servable, warmups = load_warm("ser", 1, str(exported_model))
    recorded_requests = len(list(tf.data.TFRecordDataset(str(exported_model / EXTRA_ASSETS / WARMUP_FILE))))
    assert len(ran) == warmups == recorded_requests
    assert "serving_default" in ran
    assert servable.signature_defs.keys() >= set(ran)


def test_each_version_is_loaded_on_a_thread_that_ends_with_it(server, newest, model_base, push, monkeypatch):
    """The thread keeps other versions out of its malloc arena: shared arenas grow with every reload."""
    threads = {}

    def record(name, number, *arguments):
        threads[number] = threading.current_thread()
        return load_warm(name, number, *arguments)

    monkeypatch.setattr(manager, "load_warm", record)
    first, second = newest + 1, newest + 2
    push(model_base, first)
    wait_for(lambda: states(server).get(first, ("",))[0] == "AVAILABLE")
    assert threads[first].is_alive()
    push(model_base, second)
    wait_for(lambda: states(server).get(second, ("",))[0] == "AVAILABLE")
    assert threads[second] is not threads[first]
    wait_for(lambda: states(server)[first][0] == "END" and not threads[first].is_alive(), timeout_sec=20)
    assert threads[second].is_alive()


def test_two_versions_with_labels(server, newest, model_base, push, wav_bytes):
    old, new = newest, newest + 1
    push(model_base, new)
    labels = {"stable": old, "canary": new}
    assert reload(server, base_path=model_base, versions=[old, new], labels=labels).error_code == 0

    def version_of(**choice):
        with Client(server.address, **choice) as client:
            return client.predict(wav_bytes).model_version

    assert version_of(label="stable") == version_of(version=old) == old
    assert version_of(label="canary") == version_of(version=new) == version_of() == new
    with Client(f"{server.rest_url}", label="stable") as client:
        assert client.predict(wav_bytes).emotion
    with pytest.raises(InvalidRequest, match=r"\['canary', 'stable'\]"):
        version_of(label="beta")
    assert reload(server, base_path=model_base, versions=[new], labels={"stable": new}).error_code == 0
    wait_for(lambda: states(server)[old][0] == "END")
    assert version_of(label="stable") == new


def test_unusable_configurations_are_refused(server, newest, model_base, wav_bytes):
    status = reload(server, base_path=model_base, labels={"canary": 999})
    assert status.error_code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert "'canary'" in status.error_message
    assert "999" in status.error_message
    nameless = reload(server, name="", base_path=model_base)
    assert nameless.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    with Client(server.address) as client:
        assert client.predict(wav_bytes).model_version == newest


def test_the_last_version_stays_when_its_folder_goes(server, newest, model_base, wav_bytes):
    shutil.rmtree(model_base)
    assert reload(server, base_path=model_base).error_code == 0  # the folder was listed before the response
    with Client(server.address) as client:
        assert client.predict(wav_bytes).model_version == newest
