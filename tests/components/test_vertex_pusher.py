"""The VertexPusher's executor against a fake Vertex AI; tests/serving pushes a real model."""

from pathlib import Path

import grpc
import pytest
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.atomic_pusher.executor import PushRejected
from components.vertex_pusher.executor import Executor, Options
from components.vertex_pusher.smoke import _tries
from modules.export.contract import EXAMPLES_FILE, EXTRA_ASSETS
from pipeline.config import ConfigError, load_config
from pipeline.vertex.compile import make_pipeline
from pipeline.vertex.config import VertexConfig
from serving.rollout.state import RolloutError
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_endpoints import Cloud

GOLDEN = Path(__file__).parents[1] / "golden" / "vertex.yaml"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with FakeVertex(tmp_path_factory.mktemp("vertex"), {}).in_environment() as fake:
        yield fake


@pytest.fixture
def cloud(served) -> Cloud:
    vertex = Cloud()
    served.reset(vertex.services())
    return vertex


def pusher_options(*overrides: str) -> str:
    pipeline = make_pipeline(load_config(GOLDEN, overrides=overrides, tree=VertexConfig))
    (pusher,) = [node for node in pipeline.components if node.id == "Pusher"]
    return pusher.exec_properties["custom_config"]


@pytest.fixture(scope="module")
def options() -> str:
    """The executor's property as the pipeline compiles it."""
    return pusher_options()


class Push:
    """A push of a file that is not a SavedModel."""

    def __init__(self, folder: Path, options: str) -> None:
        self.serving = folder / "serving"
        self.pushed = standard_artifacts.PushedModel()
        self.pushed.uri = str(folder / "root" / "1" / "Run-1" / "Pusher_2" / "pushed_model")
        self._options = options
        self._folder = folder
        (folder / "Format-Serving").mkdir()
        (folder / "Format-Serving" / "saved_model.pb").write_bytes(b"no graph")

    def do(self, *, blessed: int = 1) -> None:
        model, blessing = standard_artifacts.Model(), standard_artifacts.ModelBlessing()
        model.uri, blessing.uri = str(self._folder), str(self._folder / "blessing")
        blessing.set_int_custom_property("blessed", blessed)
        destination = pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(self.serving))
        )
        Executor().Do(
            {"model": [model], "model_blessing": [blessing]},
            {"pushed_model": [self.pushed]},
            {"push_destination": proto_utils.proto_to_json(destination), "custom_config": self._options},
        )

    def versions(self) -> list[str]:
        return sorted(path.name for path in self.serving.iterdir() if path.name.isdigit())

    def deployed(self) -> list[str]:
        return sorted(path.name for path in (self.serving / "deployed").iterdir())


@pytest.fixture
def push(tmp_path, options) -> Push:
    return Push(tmp_path, options)


def test_the_pipeline_sets_the_logging_of_requests(options):
    assert Options.model_validate(json_utils.loads(options)).request_log is None
    table = "bq://example-project.ser.requests"
    set_ones = pusher_options(f"vertex.endpoint.request_log={table}", "vertex.endpoint.request_log_rate=0.5")
    parsed = Options.model_validate(json_utils.loads(set_ones))
    assert (parsed.request_log, parsed.request_log_rate) == (table, 0.5)
    with pytest.raises(ConfigError, match="bq://PROJECT"):
        pusher_options("vertex.endpoint.request_log=example-project.ser.requests")


def test_the_pipeline_sets_the_options(options):
    parsed = Options.model_validate(json_utils.loads(options))
    assert (parsed.project, parsed.region, parsed.endpoint, parsed.model_id) == (
        "example-project",
        "europe-west4",
        "ser",
        "ser",
    )
    assert (parsed.canary_percent, parsed.first_answer_sec, parsed.labels) == (10, 120, {"system": "ser"})
    assert "serving@sha256:" in parsed.image


@pytest.fixture(scope="module")
def registering() -> str:
    """The executor's property where no image is configured."""
    return pusher_options("vertex.endpoint.image=null")


def test_without_an_image_a_model_is_only_registered(cloud, tmp_path, registering):
    push = Push(tmp_path, registering)
    for _ in range(2):  # again, as a task that was cut off
        push.do()
    (version,) = push.versions()
    (model,) = cloud.models.values()
    assert model.labels["pushed_version"] == version
    assert model.artifact_uri == str(push.serving / "deployed" / version)
    assert cloud.endpoints == {}
    assert push.pushed.get_int_custom_property("pushed") == 1
    assert not push.pushed.has_custom_property("endpoint")


def test_the_version_carries_the_address_of_its_training_examples(cloud, tmp_path, registering):
    (tmp_path / "blessing").mkdir()
    (tmp_path / "blessing" / EXAMPLES_FILE).write_text("gs://runs/1/examples")
    push = Push(tmp_path, registering)
    push.do()
    (version,) = push.versions()
    (model,) = cloud.models.values()
    for folder in (push.serving / version, Path(model.artifact_uri) / version):
        assert (folder / EXTRA_ASSETS / EXAMPLES_FILE).read_text() == "gs://runs/1/examples"


def test_a_version_is_registered_again_with_another_image(served, cloud, tmp_path, options, registering):
    push = Push(tmp_path, registering)
    push.do()
    cloud.break_deployment(grpc.StatusCode.INTERNAL, "no machines")
    push._options = options
    with pytest.raises(PushRejected, match="no machines"):
        push.do()
    images = [request.model.container_spec.image_uri for request in served.called("upload_model")]
    assert images[0].startswith("us-docker.pkg.dev/vertex-ai/prediction/")
    assert images[1].startswith("europe-west4-docker.pkg.dev/example-project/ser/serving@")
    assert cloud.models == {}


def test_a_failed_registration_leaves_no_files(served, cloud, tmp_path, registering):
    push = Push(tmp_path, registering)
    served.fail_next("upload_model", grpc.StatusCode.PERMISSION_DENIED, "not you")
    with pytest.raises(PushRejected, match="not you"):
        push.do()
    assert push.versions() == push.deployed() == []
    assert cloud.models == {}


def test_without_blessing_no_request_is_sent(served, cloud, push):
    push.do(blessed=0)
    assert push.pushed.get_int_custom_property("pushed") == 0
    assert not push.serving.exists()
    assert served.calls == []


def test_the_upload_is_one_version_folder_with_its_run(served, cloud, push):
    cloud.break_deployment(grpc.StatusCode.RESOURCE_EXHAUSTED, "no machines")
    with pytest.raises(PushRejected, match="no machines"):
        push.do()
    (request,) = served.called("upload_model")
    version = request.model.labels["pushed_version"]
    assert request.model.artifact_uri == str(push.serving / "deployed" / version)
    assert request.model.labels["run"] == "run-1"
    assert request.model.labels["system"] == "ser"
    assert request.model.version_description.startswith("Copy of ")
    assert request.model.container_spec.image_uri.startswith("europe-west4-docker.pkg.dev/example-project/ser/serving@")


@pytest.mark.parametrize("way", ["quota", "deployment", "smoke"])
def test_a_failed_push_leaves_no_files_and_no_version(served, cloud, push, way):
    if way == "quota":
        served.fail_next("upload_model", grpc.StatusCode.RESOURCE_EXHAUSTED, "quota exceeded")
    elif way == "deployment":
        cloud.break_deployment(grpc.StatusCode.INTERNAL, "no machines")
    with pytest.raises(PushRejected):
        push.do()
    assert push.versions() == push.deployed() == []
    assert cloud.models == {}
    assert cloud.traffic() == {}
    assert push.pushed.get_int_custom_property("pushed") == 0


def test_an_existing_version_folder_is_kept(served, cloud, push):
    cloud.break_deployment(grpc.StatusCode.INTERNAL, "no machines")
    served.fail_next("delete_model", grpc.StatusCode.PERMISSION_DENIED, "not you")
    with pytest.raises(RolloutError) as failure:
        push.do()
    assert "not you" in str(failure.value)
    (version,) = push.versions()
    with pytest.raises(PushRejected):  # the smoke test cannot load the file
        push.do()
    assert push.versions() == [version]
    assert push.deployed() == []
    assert cloud.models == {}


@pytest.mark.parametrize(("percent", "tries"), [(100, 1), (50, 20), (10, 132), (1, 1375)])
def test_the_number_of_tries_follows_from_the_share(percent, tries):
    assert _tries(percent) == tries
    assert (1 - percent / 100) ** tries <= 1e-6
