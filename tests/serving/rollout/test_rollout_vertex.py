"""A rollout on Vertex AI: the project's own code and Google's clients against a stand-in that enforces its rules."""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import keras
import pytest
import tensorflow_transform as tft
from typer.testing import CliRunner

from cli import rollout as cli_rollout
from components.drift_monitor import reference
from components.vertex_pusher import smoke
from modules import models
from modules.data.labels import EMOTIONS
from modules.export import signatures
from modules.export.contract import EXAMPLES_FILE, EXTRA_ASSETS
from serving.client import Client
from serving.rollout import vertex as rollout
from serving.rollout import vertex_api
from serving.rollout.settings import WatchSettings
from serving.rollout.state import (
    CanaryMissing,
    ConcurrentChange,
    NothingToRollBack,
    RolloutError,
    TargetUnreachable,
)
from serving.rollout.vertex import Candidate, Hosting, PushFailed, VertexTarget
from serving.rollout.watch import SharedProbes, watch
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_endpoints import Cloud
from tests.fakes.vertex_pipelines import LocalPipelines

REGION = "europe-west4"
HOSTING = Hosting(
    image="europe-west4-docker.pkg.dev/p/ser/serving@sha256:00",
    kind="dedicated",
    machine_type="n1-standard-2",
    min_replicas=1,
    max_replicas=3,
    canary_percent=10,
    labels={"system": "ser"},
)
CHAMPION, CANDIDATE, PREVIOUS = ["champion", "default"], ["candidate"], ["previous"]


def accept(address: str, percent: int) -> None:
    """Smoke test that always passes."""


class Killed(BaseException):
    """The process ends without cleaning up."""


def connect() -> VertexTarget:
    return VertexTarget(project="example-project", region=REGION, endpoint="ser", model_id="ser")


@functools.cache
def connected() -> VertexTarget:
    """One target for most tests: it reads its state from the service each time, and connecting takes a while."""
    return connect()


@dataclasses.dataclass
class Scenario:
    """The stand-in for Vertex AI, and actions on it."""

    fake: FakeVertex
    cloud: Cloud
    folder: Path

    def target(self) -> VertexTarget:
        return connected()

    def candidate(self, version: str) -> Candidate:
        model = self.folder / version / version / "saved_model.pb"
        model.parent.mkdir(parents=True, exist_ok=True)
        model.touch()
        return Candidate(version=version, artifact_uri=str(self.folder / version), source=f"runs/{version}/model")

    def push(self, version: str, *, smoke=accept, **hosting):
        return self.target().push(self.candidate(version), dataclasses.replace(HOSTING, **hosting), smoke)

    def assert_state(self, traffic: dict[str, int], aliases: dict[str, list[str]]) -> None:
        """Assert that these versions are deployed with these shares, and registered with these aliases."""
        assert self.cloud.traffic() == traffic
        assert self.cloud.aliases() == aliases
        for endpoint in self.cloud.endpoints.values():
            assert set(endpoint.traffic_split) <= {one.id for one in endpoint.deployed_models}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server for all tests: gRPC reads the certificate authority once in a process."""
    with FakeVertex(tmp_path_factory.mktemp("vertex"), {}).in_environment() as fake:
        yield fake


@pytest.fixture
def scenario(served, tmp_path) -> Scenario:
    cloud = Cloud()
    served.reset(cloud.services())
    return Scenario(served, cloud, tmp_path)


METHODS = (
    "create_endpoint",
    "get_endpoint",
    "update_endpoint",
    "deploy_model",
    "undeploy_model",
    "upload_model",
    "list_model_versions",
    "merge_version_aliases",
)


CUTS = (
    (vertex_api.Endpoint, "create"),
    (vertex_api.Registry, "upload"),
    (vertex_api.Endpoint, "deploy"),
    (vertex_api.Endpoint, "set_traffic"),
    (vertex_api.Registry, "merge_aliases"),
    (vertex_api.Endpoint, "undeploy"),
)


def cut_off(monkeypatch, owner: type, method: str, action, *, skip: int = 0) -> bool:
    """Kill the process right after a call; return whether it was made."""
    original, calls = getattr(owner, method), []

    @functools.wraps(original)
    def dying(*arguments, **options):
        original(*arguments, **options)
        calls.append(method)
        if len(calls) > skip:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(owner, method, dying)
        try:
            action()
        except Killed:
            return True
    return False


def inject(scenario, way: str) -> None:
    """Make the next push fail."""
    if way == "deployment":
        scenario.cloud.break_deployment(grpc.StatusCode.RESOURCE_EXHAUSTED, "no machines in the zone")
    else:
        scenario.fake.fail_next(way, grpc.StatusCode.RESOURCE_EXHAUSTED, "quota exceeded")


def refuse(address: str, percent: int) -> None:
    raise RolloutError("answers nonsense")


FAILURES = {"upload_model": "quota", "deploy_model": "quota", "deployment": "no machines", "update_endpoint": "quota"}


def push_at_once(scenario, *versions: str) -> dict[str, str | None]:
    """Return the error of each push; all read the registry before any of them uploads."""
    meeting = threading.Barrier(len(versions))
    ended: dict[str, str | None] = {}

    def push(version: str) -> None:
        try:
            scenario.push(version)
            ended[version] = None
        except RolloutError as error:
            ended[version] = str(error)

    for _ in versions:
        scenario.cloud.before("upload_model", lambda: meeting.wait(60))
    threads = [threading.Thread(target=push, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def command(*words: str) -> dict:
    """Return the JSON that ``ser rollout`` prints."""
    done = CliRunner().invoke(
        cli_rollout.app, [*words, "--address", f"vertex://example-project/{REGION}/ser", "--json"]
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def running(run_server):
    """A server for each version of each model, as a container would start it, shared by all deployments of these."""
    servers = {}

    def serve(folder: Path) -> str:
        (version,) = [path for path in folder.iterdir() if path.name.isdigit()]
        (weights,) = version.glob("variables/*.data-*")
        key = version.name, hashlib.sha256(weights.read_bytes()).digest()
        if key not in servers:
            servers[key] = run_server(model_base_path=folder)
        return servers[key].rest_url

    yield serve
    for server in servers.values():
        server.stop()


@pytest.fixture
def containers(scenario, running) -> None:
    scenario.cloud.serve = running


@pytest.fixture
def place(scenario, running, push) -> Callable[..., None]:
    """Put a model into the folder of its version, and start its server, so that starting takes no time of the push."""

    def put(version: int, model: Path | None = None) -> None:
        folder = scenario.folder / str(version)
        if model:
            shutil.copytree(model, folder / str(version))
        else:
            push(folder, version)
        running(folder)

    return put


def smoke_test(model_dir: Path, version: int):
    """Return the smoke test of the pipeline's Pusher."""
    return functools.partial(smoke.check, model_dir=str(model_dir), version=str(version), patience_sec=0)


@pytest.fixture(scope="module")
def other_model(exported_model, audio_spec, tmp_path_factory) -> Path:
    """The same network with other weights."""
    keras.utils.set_random_seed(2)
    model = models.build("original_cnn", input_shape=audio_spec.feature_shape, classes=len(EMOTIONS))
    transform = tft.TFTransformOutput(str(exported_model.parent / "graph"))
    folder = tmp_path_factory.mktemp("other") / "exported"
    signatures.export(model, transform, audio_spec, str(folder))
    return folder


GOLDEN = Path(__file__).parents[2] / "golden" / "vertex.yaml"


# Takes the place of the Pusher's producers: blesses every output, and sets the model's address.
PRODUCER = """
import json, pathlib, sys
outputs = json.loads(sys.argv[1])["outputs"]
for key, value in outputs["artifacts"].items():
    (artifact,) = value["artifacts"]
    artifact["metadata"] = {"blessed": 1.0}
    if key == "model":
        artifact["uri"] = sys.argv[2]
file = pathlib.Path(outputs["outputFile"])
file.parent.mkdir(parents=True)
file.write_text(json.dumps({"artifacts": outputs["artifacts"]}))
"""


def _replace_producers(job: dict, name: str, model_uri: str) -> None:
    spec = job["pipelineSpec"]
    tasks = spec["root"]["dag"]["tasks"]
    inputs = tasks[name]["inputs"]["artifacts"].values()
    for producer in {one["taskOutputArtifact"]["producerTask"] for one in inputs}:
        tasks[producer] = {"componentRef": tasks[producer]["componentRef"]}
        executor = spec["components"][producer]["executorLabel"]
        container = {"command": ["python", "-c", PRODUCER], "args": ["{{$}}", model_uri]}
        spec["deploymentSpec"]["executors"][executor] = {"container": container}
    tasks[name]["dependentTasks"] = []


def test_the_first_version_becomes_the_champion(scenario):
    state = scenario.push("5")
    assert (state.stable.version, state.stable.percent, state.canary) == ("5", 100, None)
    assert state.stable.since.tzinfo is not None
    assert scenario.target().state() == state
    scenario.assert_state({"5": 100}, {"5": CHAMPION})


def test_the_reference_of_drift_is_that_of_the_stable_version(scenario):
    address = f"vertex://example-project/{REGION}/ser"
    with pytest.raises(RolloutError, match="serves no version"):
        reference.training_examples(address)
    for version in ("5", "6"):
        scenario.push(version)
        assets = scenario.folder / version / version / EXTRA_ASSETS
        assets.mkdir()
        (assets / EXAMPLES_FILE).write_text(f"gs://runs/{version}/examples")
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})
    assert reference.names_model(address)
    assert reference.training_examples(address) == ["gs://runs/5/examples"]


@pytest.mark.parametrize("kind", ["dedicated", "shared"])
def test_endpoint_and_version_fit_tf_serving(scenario, kind):
    scenario.push("5", kind=kind)
    ((name, endpoint),) = scenario.cloud.endpoints.items()
    assert name.endswith("/endpoints/ser")
    assert (endpoint.dedicated_endpoint_enabled, dict(endpoint.labels)) == (kind == "dedicated", {"system": "ser"})
    (model,) = scenario.cloud.models.values()
    assert model.name.endswith("/models/ser")
    assert model.labels["pushed_version"] == "5"
    assert model.version_description == "Copy of runs/5/model"
    container = model.container_spec
    assert container.image_uri == HOSTING.image
    assert [port.container_port for port in container.ports] == [8501]
    assert not container.grpc_ports  # with them Vertex sends its health checks to gRPC by default
    assert container.health_probe.http_get.port == 8501
    assert "v5" in model.version_aliases
    (deployed,) = endpoint.deployed_models
    assert (deployed.id, deployed.display_name) == ("5", "5")
    assert deployed.dedicated_resources.machine_spec.machine_type == "n1-standard-2"
    assert deployed.dedicated_resources.max_replica_count == 3


def test_a_sample_of_the_requests_is_logged_as_configured(scenario):
    """A push sets the logging of a new endpoint and changes that of an existing one, but not without a difference."""

    def logged() -> tuple[bool, float, str]:
        (endpoint,) = scenario.cloud.endpoints.values()
        logging = endpoint.predict_request_response_logging_config
        return logging.enabled, round(logging.sampling_rate, 6), logging.bigquery_destination.output_uri

    table = "bq://example-project.ser.requests"
    scenario.push("5", request_log=table, request_log_rate=0.1)
    assert logged() == (True, 0.1, table)
    scenario.push("6", request_log=table, request_log_rate=0.1)
    paths = [path for request in scenario.fake.called("update_endpoint") for path in request.update_mask.paths]
    assert set(paths) == {"traffic_split"}
    scenario.push("7", request_log=table, request_log_rate=0.5)
    assert logged() == (True, 0.5, table)
    scenario.push("8")
    assert logged() == (False, 0, "")
    scenario.assert_state({"5": 90, "8": 10}, {"5": CHAMPION, "6": [], "7": [], "8": CANDIDATE})


def test_a_route_that_the_container_refuses_fails_the_push(scenario, monkeypatch):
    monkeypatch.setattr(rollout, "_HEALTH_ROUTE", "/healthz")
    with pytest.raises(PushFailed, match=r"AIP_HEALTH_ROUTE is /healthz, .* /v1/models/ser"):
        scenario.push("5")
    scenario.assert_state({}, {})


def test_forbidden_probes_fail_the_push(scenario, monkeypatch):
    """The stand-in refuses what Kubernetes would take: a timeout below the period."""
    monkeypatch.setattr(rollout, "_PROBE_TIMEOUT_SEC", 4)
    with pytest.raises(PushFailed, match="INVALID_ARGUMENT: startup_probe: period_seconds is 5"):
        scenario.push("5")
    scenario.assert_state({}, {})


def test_the_second_version_is_a_canary(scenario):
    calls = []
    scenario.push("5")
    state = scenario.push("6", smoke=lambda *arguments: calls.append(arguments))
    assert (state.stable.version, state.stable.percent) == ("5", 90)
    assert (state.canary.version, state.canary.percent) == ("6", 10)
    assert calls == [(f"vertex://example-project/{REGION}/ser", 10)]
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})


def test_a_promoted_canary_replaces_the_old_version(scenario):
    scenario.push("5")
    scenario.push("6")
    state = scenario.target().promote()
    assert (state.stable.version, state.stable.percent, state.canary) == ("6", 100, None)
    scenario.assert_state({"6": 100}, {"5": PREVIOUS, "6": CHAMPION})


@pytest.mark.parametrize("way", ["abort", "rollback"])
def test_a_canary_is_withdrawn(scenario, way):
    scenario.push("5")
    scenario.push("6")
    state = getattr(scenario.target(), way)()
    assert (state.stable.version, state.stable.percent, state.canary) == ("5", 100, None)
    scenario.assert_state({"5": 100}, {"5": CHAMPION, "6": []})


def test_a_promotion_is_rolled_back(scenario):
    for version in ("5", "6"):
        scenario.push(version)
    scenario.target().promote()
    scenario.target().rollback()
    scenario.assert_state({"5": 100}, {"5": CHAMPION, "6": []})
    ((_, deployed),) = scenario.cloud.deployed()
    assert deployed.dedicated_resources.machine_spec.machine_type == "n1-standard-2"
    with pytest.raises(NothingToRollBack, match="version 5"):
        scenario.target().rollback()


def test_a_push_replaces_the_current_canary(scenario):
    for version in ("5", "6", "7"):
        scenario.push(version)
    scenario.assert_state({"5": 90, "7": 10}, {"5": CHAMPION, "6": [], "7": CANDIDATE})


def test_without_a_trial_the_new_version_replaces_the_old_one(scenario):
    scenario.push("5")
    scenario.push("6", canary_percent=100)
    scenario.assert_state({"6": 100}, {"5": PREVIOUS, "6": CHAMPION})


def test_a_withdrawn_version_can_be_pushed_again(scenario):
    scenario.push("5")
    scenario.push("6")
    scenario.target().abort()
    scenario.push("6")
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})
    assert len(scenario.fake.called("upload_model")) == 2


@pytest.mark.parametrize("way", ["promote", "abort"])
def test_promote_and_abort_require_a_canary(scenario, way):
    with pytest.raises(CanaryMissing, match=r"projects/.*/endpoints/ser"):
        getattr(scenario.target(), way)()
    scenario.push("5")
    with pytest.raises(CanaryMissing, match=r"version 5 .*100 %"):
        getattr(scenario.target(), way)()
    scenario.assert_state({"5": 100}, {"5": CHAMPION})


def test_rollback_requires_a_served_version(scenario):
    assert scenario.target().state().stable is None
    with pytest.raises(NothingToRollBack):
        scenario.target().rollback()


def test_repeated_pushes_create_nothing(scenario):
    for version in ("5", "5", "6", "6"):
        scenario.push(version)
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})
    counts = {name: len(scenario.fake.called(name)) for name in ("create_endpoint", "upload_model", "deploy_model")}
    assert counts == {"create_endpoint": 1, "upload_model": 2, "deploy_model": 2}


@pytest.mark.parametrize("way", ["fail", "lose"])
def test_failed_calls_and_lost_responses_are_retried(scenario, way):
    """For each method, in each step."""

    def inject() -> None:
        for method in METHODS:
            if way == "fail":
                scenario.fake.fail_next(method, grpc.StatusCode.UNAVAILABLE)
            else:
                scenario.fake.lose_next(method)

    inject()
    scenario.push("5")
    inject()
    scenario.push("6")
    inject()
    scenario.target().promote()
    scenario.assert_state({"6": 100}, {"5": PREVIOUS, "6": CHAMPION})
    inject()
    scenario.target().rollback()
    scenario.assert_state({"5": 100}, {"5": CHAMPION, "6": []})
    assert len(scenario.cloud.endpoints) == 1


@pytest.mark.parametrize(("owner", "method"), CUTS, ids=[method for _, method in CUTS])
def test_the_next_push_completes_a_killed_one(scenario, monkeypatch, owner, method):
    killed = cut_off(monkeypatch, owner, method, lambda: scenario.push("5"))
    scenario.push("5")
    scenario.assert_state({"5": 100}, {"5": CHAMPION})
    scenario.push("6")
    killed |= cut_off(monkeypatch, owner, method, lambda: scenario.push("7"))
    scenario.push("7")
    scenario.assert_state({"5": 90, "7": 10}, {"5": CHAMPION, "6": [], "7": CANDIDATE})
    assert killed
    assert len(scenario.fake.called("upload_model")) == 3


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize(("owner", "method"), CUTS[3:], ids=[method for _, method in CUTS[3:]])
@pytest.mark.parametrize("way", ["promote", "abort"])
def test_the_next_decision_completes_a_killed_one(scenario, monkeypatch, way, owner, method, skip):
    scenario.push("5")
    scenario.push("6")

    def act():
        return getattr(scenario.target(), way)()

    killed = cut_off(monkeypatch, owner, method, act, skip=skip)
    if scenario.cloud.aliases()["6"] == CANDIDATE or len(scenario.cloud.traffic()) == 2:
        act()
    if way == "promote":
        scenario.assert_state({"6": 100}, {"5": PREVIOUS, "6": CHAMPION})
    else:
        scenario.assert_state({"5": 100}, {"5": CHAMPION, "6": []})
    assert killed or skip


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize(("owner", "method"), CUTS[2:], ids=[method for _, method in CUTS[2:]])
def test_the_next_rollback_completes_a_killed_one(scenario, monkeypatch, owner, method, skip):
    scenario.push("5")
    scenario.push("6")
    scenario.target().promote()
    killed = cut_off(monkeypatch, owner, method, lambda: scenario.target().rollback(), skip=skip)
    if killed and len(scenario.cloud.traffic()) == 2:
        scenario.target().rollback()
    scenario.assert_state({"5": 100}, {"5": CHAMPION, "6": []})
    assert killed or skip


def test_a_push_waits_for_an_earlier_deployment(scenario, monkeypatch):
    scenario.push("5")
    scenario.cloud.slow_deployments = 4
    scenario.fake.lose_next("deploy_model")
    scenario.push("6")
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})


@pytest.mark.parametrize("way", [*FAILURES, "smoke"])
def test_a_failed_push_leaves_the_champion_alone(scenario, way):
    scenario.push("5")
    if way != "smoke":
        inject(scenario, way)
    with pytest.raises(PushFailed, match=FAILURES.get(way, "answers nonsense")):
        scenario.push("6", smoke=refuse)
    scenario.assert_state({"5": 100}, {"5": CHAMPION})
    scenario.push("6")
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})


@pytest.mark.parametrize("way", [*FAILURES, "smoke"])
def test_a_first_push_that_fails_leaves_an_empty_endpoint(scenario, way):
    if way != "smoke":
        inject(scenario, way)
    with pytest.raises(PushFailed):
        scenario.push("5", smoke=refuse)
    scenario.assert_state({}, {})


def test_a_failed_replacement_restores_the_champion(scenario):
    scenario.push("5")
    with pytest.raises(PushFailed, match="answers nonsense"):
        scenario.push("6", smoke=refuse, canary_percent=100)
    scenario.assert_state({"5": 100}, {"5": CHAMPION})


def test_a_missing_model_fails_the_push(scenario):
    candidate = scenario.candidate("5")
    (scenario.folder / "5" / "5" / "saved_model.pb").unlink()
    with pytest.raises(PushFailed, match="Model server never became ready"):
        scenario.target().push(candidate, HOSTING, accept)
    scenario.assert_state({}, {})


def test_a_failed_push_keeps_an_earlier_registration(scenario):
    scenario.push("5")
    scenario.push("6")
    scenario.target().abort()
    with pytest.raises(RolloutError, match="answers nonsense") as failure:
        scenario.push("6", smoke=refuse)
    assert not isinstance(failure.value, PushFailed)
    scenario.assert_state({"5": 100}, {"5": CHAMPION, "6": []})


def test_a_push_continues_after_a_failed_undo(scenario):
    scenario.push("5")
    scenario.fake.fail_next("undeploy_model", grpc.StatusCode.PERMISSION_DENIED, "not you")
    with pytest.raises(RolloutError, match=r"(?s)answers nonsense.*not you.*`ser rollout status`") as failure:
        scenario.push("6", smoke=refuse)
    assert not isinstance(failure.value, PushFailed)
    scenario.assert_state({"5": 100, "6": 0}, {"5": CHAMPION, "6": CANDIDATE})
    scenario.push("6")
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})


def test_the_next_push_undeploys_leftovers(scenario):
    scenario.push("5")
    scenario.fake.fail_next("undeploy_model", grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(RolloutError):
        scenario.push("6", smoke=refuse)
    scenario.push("7")
    scenario.assert_state({"5": 90, "7": 10}, {"5": CHAMPION, "6": [], "7": CANDIDATE})


def test_pushing_the_champion_again_changes_nothing(scenario):
    scenario.push("5")
    scenario.push("5", smoke=refuse)
    scenario.fake.fail_next("list_model_versions", grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(RolloutError, match="PERMISSION_DENIED"):
        scenario.push("5")
    scenario.assert_state({"5": 100}, {"5": CHAMPION})


def test_the_newer_push_wins_before_the_traffic_split(scenario):
    """The older push read the state before the newer one changed it."""
    scenario.push("5")
    scenario.cloud.before("update_endpoint", lambda: scenario.push("7"))
    with pytest.raises(PushFailed, match="version 7") as failure:
        scenario.push("6")
    assert isinstance(failure.value.__cause__, ConcurrentChange)
    scenario.assert_state({"5": 90, "7": 10}, {"5": CHAMPION, "7": CANDIDATE})


def test_the_newer_push_wins_during_the_smoke_test(scenario):
    scenario.push("5")
    with pytest.raises(PushFailed) as failure:
        scenario.push("6", smoke=lambda *_: scenario.push("7"))
    assert isinstance(failure.value.__cause__, ConcurrentChange)
    scenario.assert_state({"5": 90, "7": 10}, {"5": CHAMPION, "7": CANDIDATE})


def test_a_failed_newer_push_keeps_the_older_one(scenario):
    scenario.push("5")

    def fail_at_once(*_):
        with pytest.raises(PushFailed, match="answers nonsense"):
            scenario.push("7", smoke=refuse)

    scenario.cloud.before("deploy_model", fail_at_once)
    scenario.push("6")
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})


def test_of_two_simultaneous_pushes_the_newer_is_the_canary(scenario):
    scenario.push("5")
    ended = push_at_once(scenario, "6", "7")
    assert ended["7"] is None
    gone = {} if ended["6"] else {"6": []}
    scenario.assert_state({"5": 90, "7": 10}, {"5": CHAMPION, "7": CANDIDATE} | gone)


def test_simultaneous_first_pushes_make_one_endpoint(scenario):
    ended = push_at_once(scenario, "6", "7")
    assert ended["7"] is None
    if ended["6"]:
        scenario.assert_state({"7": 100}, {"7": CHAMPION})
    else:
        scenario.assert_state({"6": 90, "7": 10}, {"6": CHAMPION, "7": CANDIDATE})
    assert len(scenario.cloud.endpoints) == 1
    assert len({model.name for model in scenario.cloud.models.values()}) == 1


def test_simultaneous_pushes_of_one_version_make_one(scenario):
    scenario.push("5")
    assert push_at_once(scenario, "6", "6") == {"6": None}
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})
    assert len(scenario.cloud.models) == 2


def test_a_promotion_stops_at_a_simultaneous_abort(scenario):
    scenario.push("5")
    scenario.push("6")
    scenario.cloud.before("update_endpoint", lambda: scenario.target().abort())
    with pytest.raises(ConcurrentChange, match="version 6"):
        scenario.target().promote()
    scenario.assert_state({"5": 100}, {"5": CHAMPION, "6": []})


def test_a_version_promoted_during_its_smoke_test_stays(scenario):
    """Withdrawing it would leave the endpoint without a version."""
    scenario.push("5")

    def promote_and_refuse(*_):
        scenario.target().promote()
        raise RolloutError("answers nonsense")

    with pytest.raises(RolloutError, match=r"version 6 .*answers nonsense"):
        scenario.push("6", smoke=promote_and_refuse)
    scenario.assert_state({"6": 100}, {"5": PREVIOUS, "6": CHAMPION})


def test_a_number_of_another_model_is_refused(scenario):
    scenario.push("5")
    scenario.push("6")
    other = dataclasses.replace(scenario.candidate("6"), source="runs/other/model")
    with pytest.raises(ConcurrentChange, match=r"version 6 .*runs/other/model"):
        scenario.target().push(other, HOSTING, accept)
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})


def test_an_endpoint_made_by_hand_is_used_by_display_name(scenario):
    scenario.push("5")
    ((name, endpoint),) = list(scenario.cloud.endpoints.items())
    del scenario.cloud.endpoints[name]
    endpoint.name = name.replace("/ser", "/1234")
    scenario.cloud.endpoints[endpoint.name] = endpoint
    target = connect()
    assert target.state().stable.version == "5"
    assert target.address.endswith("/1234")
    target.push(scenario.candidate("6"), HOSTING, accept)
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})


def test_an_endpoint_of_another_kind_is_refused(scenario):
    scenario.push("5")
    with pytest.raises(RolloutError, match=r"vertex\.endpoint\.kind is shared; set vertex\.endpoint\.kind=dedicated"):
        scenario.push("6", kind="shared")
    scenario.assert_state({"5": 100}, {"5": CHAMPION})


@pytest.mark.parametrize("quirk", ["are_ids_refused", "do_model_labels_win"])
def test_a_rollout_depends_neither_on_chosen_ids_nor_on_labels(scenario, quirk):
    """Vertex documents that IDs may be chosen, without an example, and not which label it returns."""
    setattr(scenario.cloud, quirk, True)
    for version in ("5", "6", "6", "7"):
        scenario.push(version)
    scenario.assert_state({"5": 90, "7": 10}, {"5": CHAMPION, "6": [], "7": CANDIDATE})
    scenario.target().promote()
    assert scenario.target().rollback().stable.version == "5"
    scenario.push("6")
    scenario.target().abort()
    scenario.assert_state({"5": 100}, {"5": CHAMPION, "6": [], "7": []})
    assert len(scenario.fake.called("upload_model")) == 3


def test_an_id_chosen_by_vertex_makes_one_deployment(scenario):
    """The first response was lost, and its deployment not listed yet when the step was repeated."""
    scenario.cloud.are_ids_refused = True
    scenario.push("5")
    scenario.cloud.slow_deployments = 4
    scenario.fake.lose_next("deploy_model")
    scenario.push("6")
    assert len(scenario.fake.called("deploy_model")) == 6  # each time first with an id, which is refused
    assert len(scenario.cloud.deployed()) == 2
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})


def test_another_invalid_argument_is_reported(scenario):
    with pytest.raises(PushFailed, match="INVALID_ARGUMENT: dedicated_resources"):
        scenario.push("5", machine_type="")
    scenario.assert_state({}, {})


def test_the_registrys_display_name_is_that_of_the_model(scenario):
    scenario.push("5")
    scenario.push("6")
    assert {model.display_name for model in scenario.cloud.models.values()} == {"ser"}


def test_missing_credentials_are_reported(scenario, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(TargetUnreachable, match="`gcloud auth application-default login`"):
        connect()


def test_the_commands_work_on_an_endpoint(scenario):
    scenario.push("5")
    scenario.push("6")
    state = command("status")
    assert state["target"].endswith("/endpoints/ser")
    assert (state["stable"]["version"], state["canary"]["percent"]) == ("5", 10)
    assert command("promote")["stable"]["version"] == "6"
    assert command("rollback")["stable"]["version"] == "5"
    scenario.push("7")
    assert command("abort")["canary"] is None
    scenario.assert_state({"5": 100}, {"5": CHAMPION, "6": [], "7": []})


@pytest.mark.usefixtures("containers")
@pytest.mark.parametrize(
    ("kind", "are_ids_refused"), [("dedicated", False), ("dedicated", True), ("shared", False), ("shared", True)]
)
def test_versions_get_their_share_of_the_requests(
    scenario, running, place, exported_model, wav_bytes, kind, are_ids_refused
):
    requests = []
    scenario.cloud.are_ids_refused = are_ids_refused
    for version in (5, 6):
        place(version)
        scenario.push(str(version), smoke=smoke_test(exported_model, version), kind=kind)
        requests.append(len(scenario.fake.called("raw_predict")))
    scenario.assert_state({"5": 90, "6": 10}, {"5": CHAMPION, "6": CANDIDATE})
    # One request for each signature; then until the canary, with a tenth of the requests, had as many.
    assert requests[0] == 5
    assert 41 <= requests[1] - requests[0] <= 50

    with Client(scenario.target().address) as client:
        answers = [client.predict(wav_bytes) for _ in range(10)]
    assert sorted(answer.model_version for answer in answers) == [5] * 9 + [6]
    with Client(running(scenario.folder / "5")) as direct:
        expected = direct.predict(wav_bytes)
    assert all(answer.probabilities == pytest.approx(expected.probabilities, abs=1e-5) for answer in answers)


@pytest.mark.usefixtures("containers")
def test_a_canary_on_vertex_is_promoted(scenario, place, wav_bytes):
    for version in (5, 6):
        place(version)
        scenario.push(str(version), canary_percent=50)
    target = scenario.target()
    # Independent of the machine's speed: both versions get every recording, and latency does not count.
    settings = WatchSettings(min_requests=3, min_recordings=3, max_latency_ratio=1e6)
    with Client(target.address) as client:
        probes = SharedProbes(client, "5", "6", dict.fromkeys("abc", wav_bytes))
        probes.min_rounds = 8
        watched = watch(target, probes, settings, minutes=0, interval_sec=0)
    assert watched.outcome == "promoted", watched.to_dict()
    scenario.assert_state({"6": 100}, {"5": PREVIOUS, "6": CHAMPION})


@pytest.mark.usefixtures("containers")
def test_a_version_with_other_answers_is_withdrawn(scenario, place, exported_model, other_model):
    place(5)
    scenario.push("5")
    place(6, other_model)
    with pytest.raises(PushFailed, match="version 6 "):
        scenario.push("6", smoke=smoke_test(exported_model, 6))
    scenario.assert_state({"5": 100}, {"5": CHAMPION})


@pytest.mark.usefixtures("containers")
def test_a_version_that_no_request_reaches_is_withdrawn(scenario, place, exported_model):
    for version in (5, 6):
        place(version)
    scenario.push("5")
    scenario.cloud.split_so_far = {"5": 100}
    with pytest.raises(PushFailed, match=r"version 6 .* 20 requests.*\['5'\]"):
        scenario.push("6", smoke=smoke_test(exported_model, 6), canary_percent=50)
    scenario.assert_state({"5": 100}, {"5": CHAMPION})


def test_an_error_of_the_endpoint_fails_the_smoke_test(scenario, exported_model):
    scenario.fake.fail_next("raw_predict", grpc.StatusCode.INTERNAL, "the container crashed")
    with pytest.raises(PushFailed, match="INTERNAL: the container crashed"):
        scenario.push("5", smoke=smoke_test(exported_model, 5))
    scenario.assert_state({}, {})


@pytest.mark.slow
@pytest.mark.usefixtures("containers")
def test_the_compiled_pushers_container_deploys(scenario, exported_model, wav_bytes):
    """Its command and input as Vertex AI Pipelines would pass them, in a process of its own; and once more."""
    from pipeline.config import load_config
    from pipeline.vertex.compile import compile_pipeline
    from pipeline.vertex.config import VertexConfig

    places = {
        "data": scenario.folder / "data",
        "pipeline_root": scenario.folder / "root",
        "serving_dir": scenario.folder / "s",
    }
    settings = [f"vertex.{key}={path}" for key, path in places.items()] + ["cache=false"]
    job = compile_pipeline(load_config(GOLDEN, overrides=settings, tree=VertexConfig))
    shutil.copytree(exported_model, scenario.folder / "trained" / "Format-Serving")
    _replace_producers(job, "Pusher", str(scenario.folder / "trained"))
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "TF_USE_LEGACY_KERAS") if name in os.environ}
    pipelines = LocalPipelines(scenario.folder, environ | scenario.fake.environ)
    for run_id in ("run-1", "run-2"):
        tasks = pipelines.run(job, run_id=run_id, until=["Pusher"])
        (pushed,) = tasks["Pusher"].outputs["pushed_model"]
    version = pushed["metadata"]["pushed_version"]
    assert pushed["metadata"]["endpoint"] == f"vertex://example-project/{REGION}/ser"
    assert pushed["metadata"]["pushed_destination"] == str(scenario.folder / "s" / version)
    scenario.assert_state({version: 100}, {version: CHAMPION})
    (model,) = scenario.cloud.models.values()
    assert model.labels["run"] == "run-1"
    with Client(pushed["metadata"]["endpoint"]) as client:
        assert client.predict(wav_bytes).model_version == int(version)
