"""Vertex AI's ModelService, EndpointService and PredictionService, as far as a rollout uses them.

What passes here is a contract test against this project's reading of the API, not a test of Vertex AI. The rules come
from Google's reference of the v1 API (the comments of messages and methods in the installed client are the same text)
and from the pages "How to use model version aliases", "Choose an endpoint type" and "Use dedicated public endpoints":

* Resources are named with the project's number, whatever the caller called the project.
* ``UploadModel`` with ``model_id`` makes a model, ALREADY_EXISTS if there is one; with ``parent_model`` it adds a
  version. Version ids count up from 1 and are not used again. The first version gets the alias ``default``.
* A probe's ``period_seconds`` (10 if unset) must be less than its ``timeout_seconds`` (1 if unset), and that not below
  the period: INVALID_ARGUMENT otherwise.
* The display name belongs to the model: every version has the first one's. Labels belong to model and version, and are
  merged when a model is returned; which value wins is not documented, so both are here (``do_model_labels_win``).
* An alias belongs to one version of a model. Giving it to another version moves it. ``default`` cannot be removed.
* ``DeleteModelVersion`` is refused for a version that is deployed, for the only one, and for the default one;
  ``DeleteModel`` while any version is deployed.
* ``CreateEndpoint`` takes an id from the caller, ALREADY_EXISTS for one that is taken. Display names are not unique.
* A dedicated endpoint has a DNS name of its own, and is not reached by the region's. When it gets the name is not
  documented; here it is with the first deployment, the latest moment that the SDK's error message allows.
* ``DeployModel`` takes an id of one to ten digits from the caller, ALREADY_EXISTS for one that is taken, or chooses one
  of nineteen. No public example has an id of the caller's, so it may be refused, too (``are_ids_refused``). A traffic
  split must add up to 100 and name deployed models, or ``0`` for the new one; without a split the traffic stays as it
  is. The container must come up: its entrypoint is run, with Vertex's variables, and must name the model's routes and
  port; TF Serving serves the newest version folder of the artifact, so there must be one.
* ``UndeployModel`` is refused for a model that has traffic, unless the request moves that away or it is the last one.
* ``UpdateEndpoint`` changes what the mask names; with an etag that is not the endpoint's own it is ABORTED.
* ``RawPredict`` hands the body to the predict route of a deployed model, chosen by traffic split, and returns the
  container's answer with the ids of endpoint and deployed model in its headers; FAILED_PRECONDITION where nothing has
  traffic. A body has 1.5 MB at most on a shared endpoint, 10 MB on a dedicated one. Which deployed model answers is a
  fixed order here: of any hundred requests in a row each gets exactly its share, and they are spread evenly.

Not imitated: permissions, quota (inject RESOURCE_EXHAUSTED), how long a deployment takes (but see
``slow_deployments``), replicas, time limits of requests.
"""

import collections
import dataclasses
import datetime
import functools
import itertools
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.cloud import aiplatform_v1 as vertex
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.rpc import status_pb2

from tests.fakes.vertex import DEDICATED_DOMAIN, HttpAnswer, Refused, done

PROJECT_NUMBER = "123456789"
MAX_BODY_BYTES = {"shared": 1_500_000, "dedicated": 10_000_000}

_ENTRYPOINT = Path(__file__).parents[2] / "serving" / "container" / "entrypoint.sh"
_FIRST_CHOSEN_ID = 10**18

_ALIAS = re.compile(r"-?[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
_ENDPOINT_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
_DEPLOYED_ID = re.compile(r"[0-9]{1,10}")

Serve = Callable[[Path], str]
"""Start a server for the version folders below a folder and return the URL of its REST interface: the container."""


def _failed(code: grpc.StatusCode, message: str) -> operations_pb2.Operation:
    """Return a long-running operation that ended with an error."""
    error = status_pb2.Status(code=code.value[0], message=message)
    return operations_pb2.Operation(name="projects/1/locations/r/operations/2", done=True, error=error)


def _finished() -> operations_pb2.Operation:
    operation = operations_pb2.Operation(name="projects/1/locations/r/operations/3", done=True)
    operation.response.Pack(empty_pb2.Empty())
    return operation


def _numbered(name: str) -> str:
    """Return a resource name with the project's number."""
    return re.sub(r"^projects/[^/]+", f"projects/{PROJECT_NUMBER}", name)


def _refuse(code: grpc.StatusCode, message: str) -> None:
    raise Refused(code, message)


def _rpc(method: Callable[..., Any]) -> Callable[..., Any]:
    """Execute one call at a time, after the action of :meth:`Cloud.before`, which runs outside of the lock."""

    @functools.wraps(method)
    def answer(self: "_Service", request: Any, context: grpc.ServicerContext) -> Any:
        waiting = self.cloud.interruptions[method.__name__]
        if waiting:
            waiting.popleft()()
        with self.cloud.lock:
            return method(self, request)

    return answer


@dataclasses.dataclass
class Cloud:
    """State that the three services share.

    Attributes:
        serve: Function that starts the server of a deployed container; without it predictions fail.
        fetch: Function that returns a local copy of an artifact's folder.
        models: Versions by name, ``…/models/ser@1``.
        endpoints: Endpoints by name.
        slow_deployments: Number of reads of the endpoint before the next deployed model is listed.
        split_so_far: Traffic split that requests go by, whatever the endpoint's is: a change takes a while to spread.
        are_ids_refused: An id of the caller's for a deployed model is INVALID_ARGUMENT.
        do_model_labels_win: A label that the model has from its first version hides that of the version.
    """

    serve: Serve | None = None
    fetch: Callable[[str], Path] = Path
    models: dict[str, vertex.Model] = dataclasses.field(default_factory=dict)
    endpoints: dict[str, vertex.Endpoint] = dataclasses.field(default_factory=dict)
    slow_deployments: int = 0
    split_so_far: dict[str, int] = dataclasses.field(default_factory=dict)
    are_ids_refused: bool = False
    do_model_labels_win: bool = False
    lock: Any = dataclasses.field(default_factory=threading.RLock)
    interruptions: dict[str, collections.deque[Callable[[], Any]]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(collections.deque)
    )
    broken_deployments: collections.deque[operations_pb2.Operation] = dataclasses.field(
        default_factory=collections.deque
    )
    addresses: dict[str, str] = dataclasses.field(default_factory=dict)

    def services(self) -> dict[str, Any]:
        """Return the services for :class:`tests.fakes.vertex.FakeVertex`."""
        return {
            "model_service": Models(self),
            "endpoint_service": Endpoints(self),
            "prediction_service": Predictions(self),
        }

    def before(self, method: str, interruption: Callable[[], Any]) -> None:
        """Run an action before the next call of a method, such as ``update_endpoint``, is answered."""
        self.interruptions[method].append(interruption)

    def break_deployment(self, code: grpc.StatusCode, message: str) -> None:
        """Accept the next deployment and let its operation fail."""
        self.broken_deployments.append(_failed(code, message))

    def deployed(self) -> list[tuple[str, vertex.DeployedModel]]:
        """Return every deployed model with its endpoint's name."""
        return [(name, one) for name, endpoint in self.endpoints.items() for one in endpoint.deployed_models]

    def traffic(self) -> dict[str, int]:
        """Return the traffic of the only endpoint in percent, by display name of the deployed model."""
        (endpoint,) = self.endpoints.values()
        return {one.display_name: endpoint.traffic_split.get(one.id, 0) for one in endpoint.deployed_models}

    def aliases(self) -> dict[str, list[str]]:
        """Return the other aliases of each version, by the number in its alias ``v<number>``."""
        aliases = {}
        for model in self.models.values():
            (own,) = [alias for alias in model.version_aliases if re.fullmatch(r"v\d+", alias)]
            aliases[own[1:]] = sorted(set(model.version_aliases) - {own})
        return aliases


class _Service:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


def find_model(cloud: Cloud, name: str) -> vertex.Model:
    """Return the version of a name: ``…@2``, ``…@golden``, or the default one."""
    base, _, version = _numbered(name).partition("@")
    for model in cloud.models.values():
        if model.name == base and (version == model.version_id or (version or "default") in model.version_aliases):
            return model
    raise Refused(grpc.StatusCode.NOT_FOUND, f"{name} does not exist")


class Models(_Service):
    """ModelService."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self._ids: dict[str, itertools.count] = {}

    @_rpc
    def upload_model(self, request: Any) -> operations_pb2.Operation:
        model = vertex.Model(request.model)
        self._validate(model)
        _validate_probes(model.container_spec)
        if request.parent_model:
            base = _numbered(request.parent_model)
            self._require(base)
        else:
            base = f"{_numbered(request.parent)}/models/{request.model_id}"
            if not _MODEL_ID.fullmatch(request.model_id):
                _refuse(grpc.StatusCode.INVALID_ARGUMENT, f"model_id {request.model_id!r}")
            if self._versions(base):
                _refuse(grpc.StatusCode.ALREADY_EXISTS, f"{base} exists")
            self._ids[base] = itertools.count(1)
        aliases, first = list(model.version_aliases), not self._versions(base)
        if not first:
            model.display_name = self._versions(base)[0].display_name
        model.name, model.version_id = base, str(next(self._ids[base]))
        model.version_create_time = datetime.datetime.now(datetime.UTC)
        model.version_aliases = []
        self.cloud.models[f"{base}@{model.version_id}"] = model
        self._merge(base, model, [*aliases, *(["default"] if first else [])])
        return done(vertex.UploadModelResponse(model=base, model_version_id=model.version_id))

    @_rpc
    def get_model(self, request: Any) -> vertex.Model:
        return self._returned(find_model(self.cloud, request.name))

    @_rpc
    def list_model_versions(self, request: Any) -> vertex.ListModelVersionsResponse:
        self._require(_numbered(request.name))
        versions = self._versions(_numbered(request.name))
        return vertex.ListModelVersionsResponse(models=[self._returned(model) for model in versions])

    @_rpc
    def list_models(self, request: Any) -> vertex.ListModelsResponse:
        parent = f"{_numbered(request.parent)}/models/"
        defaults = [one for one in self.cloud.models.values() if "default" in one.version_aliases]
        return vertex.ListModelsResponse(models=[one for one in defaults if one.name.startswith(parent)])

    @_rpc
    def merge_version_aliases(self, request: Any) -> vertex.Model:
        model = find_model(self.cloud, request.name)
        self._merge(model.name, model, list(request.version_aliases))
        return self._returned(model)

    @_rpc
    def delete_model_version(self, request: Any) -> operations_pb2.Operation:
        model = find_model(self.cloud, request.name)
        self._refuse_deployed(model.name, model.version_id)
        if len(self._versions(model.name)) == 1:
            _refuse(grpc.StatusCode.FAILED_PRECONDITION, "the only version cannot be deleted; delete the model")
        if "default" in model.version_aliases:
            _refuse(grpc.StatusCode.FAILED_PRECONDITION, "the default version cannot be deleted")
        del self.cloud.models[f"{model.name}@{model.version_id}"]
        return _finished()

    @_rpc
    def delete_model(self, request: Any) -> operations_pb2.Operation:
        base = _numbered(request.name)
        self._require(base)
        for model in self._versions(base):
            self._refuse_deployed(base, model.version_id)
        for model in self._versions(base):
            del self.cloud.models[f"{base}@{model.version_id}"]
        return _finished()

    def _validate(self, model: vertex.Model) -> None:
        for key, value in model.labels.items():
            if not _LABEL.fullmatch(key) or not _LABEL.fullmatch(value):
                _refuse(grpc.StatusCode.INVALID_ARGUMENT, f"label {key}={value}")
        if not model.display_name or not model.container_spec.image_uri:
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, "display_name and container_spec.image_uri are required")

    def _returned(self, model: vertex.Model) -> vertex.Model:
        """Return the version with its own labels and those of the model."""
        first = self._versions(model.name)[0].labels if self.cloud.do_model_labels_win else {}
        returned = vertex.Model(model)
        returned.labels = {**model.labels, **first}
        return returned

    def _versions(self, base: str) -> list[vertex.Model]:
        return [model for model in self.cloud.models.values() if model.name == base]

    def _require(self, base: str) -> None:
        if not self._versions(base):
            _refuse(grpc.StatusCode.NOT_FOUND, f"{base} does not exist")

    def _merge(self, base: str, model: vertex.Model, aliases: list[str]) -> None:
        for alias in aliases:
            if not _ALIAS.fullmatch(alias) or alias == "-default":
                _refuse(grpc.StatusCode.INVALID_ARGUMENT, f"alias {alias!r}")
        removed = {alias[1:] for alias in aliases if alias.startswith("-")}
        added = {alias for alias in aliases if not alias.startswith("-")}
        for other in self._versions(base):
            lost = added if other is not model else removed
            other.version_aliases = [alias for alias in other.version_aliases if alias not in lost]
        model.version_aliases = sorted({*model.version_aliases, *added} - removed)

    def _refuse_deployed(self, base: str, version_id: str) -> None:
        for endpoint, one in self.cloud.deployed():
            if (one.model, one.model_version_id) == (base, version_id):
                _refuse(grpc.StatusCode.FAILED_PRECONDITION, f"{base}@{version_id} is deployed on {endpoint}")


def _validate_probes(container: vertex.ModelContainerSpec) -> None:
    for name in ("startup_probe", "health_probe", "liveness_probe"):
        probe = getattr(container, name)
        period, timeout = probe.period_seconds or 10, probe.timeout_seconds or 1
        if name in container and not period < timeout:
            _refuse(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{name}: period_seconds is {period}, which must be less than timeout_seconds, {timeout}",
            )


class Endpoints(_Service):
    """EndpointService."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self._ids = itertools.count(1000)
        self._deployed_ids = itertools.count(_FIRST_CHOSEN_ID)
        self._etags = itertools.count(1)
        self._waiting: list[list[Any]] = []

    @_rpc
    def create_endpoint(self, request: Any) -> operations_pb2.Operation:
        endpoint = vertex.Endpoint(request.endpoint)
        endpoint_id = request.endpoint_id or str(next(self._ids))
        if not _ENDPOINT_ID.fullmatch(endpoint_id) or not endpoint.display_name:
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, f"endpoint_id {endpoint_id!r}, {endpoint.display_name!r}")
        endpoint.name = f"{_numbered(request.parent)}/endpoints/{endpoint_id}"
        if endpoint.name in self.cloud.endpoints:
            _refuse(grpc.StatusCode.ALREADY_EXISTS, f"{endpoint.name} exists")
        endpoint.create_time = datetime.datetime.now(datetime.UTC)
        self._touch(endpoint)
        self.cloud.endpoints[endpoint.name] = endpoint
        return done(endpoint)

    @_rpc
    def get_endpoint(self, request: Any) -> vertex.Endpoint:
        endpoint = self._find(request.name)
        for waiting in list(self._waiting):
            waiting[0] -= 1
            if waiting[0] < 0:
                self._waiting.remove(waiting)
                waiting[1].deployed_models.append(waiting[2])
                self._touch(waiting[1])
        return vertex.Endpoint(endpoint)

    @_rpc
    def list_endpoints(self, request: Any) -> vertex.ListEndpointsResponse:
        match = re.fullmatch(r'display_name="(.+)"|', request.filter)
        if match is None:
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, f"filter {request.filter!r} is not supported here")
        parent = f"{_numbered(request.parent)}/endpoints/"
        endpoints = [one for name, one in self.cloud.endpoints.items() if name.startswith(parent)]
        return vertex.ListEndpointsResponse(
            endpoints=[one for one in endpoints if match[1] in (None, one.display_name)]
        )

    @_rpc
    def update_endpoint(self, request: Any) -> vertex.Endpoint:
        endpoint = self._find(request.endpoint.name)
        if request.endpoint.etag and request.endpoint.etag != endpoint.etag:
            _refuse(grpc.StatusCode.ABORTED, f"etag {request.endpoint.etag} is not {endpoint.etag}")
        for path in request.update_mask.paths:
            if path == "traffic_split":
                self._share(endpoint, dict(request.endpoint.traffic_split))
            else:
                setattr(endpoint, path, getattr(request.endpoint, path))
        self._touch(endpoint)
        return vertex.Endpoint(endpoint)

    @_rpc
    def deploy_model(self, request: Any) -> operations_pb2.Operation:
        endpoint, deployed = self._find(request.endpoint), vertex.DeployedModel(request.deployed_model)
        model = find_model(self.cloud, deployed.model)
        self._validate(deployed)
        deployed.id = deployed.id or str(next(self._deployed_ids))
        pending = [waiting[2].id for waiting in self._waiting if waiting[1] is endpoint]
        if deployed.id in [*pending, *(one.id for one in endpoint.deployed_models)]:
            _refuse(grpc.StatusCode.ALREADY_EXISTS, f"{deployed.id} is deployed on {endpoint.name}")
        split = {deployed.id if key == "0" else key: percent for key, percent in request.traffic_split.items()}
        _require_split(split, {deployed.id, *(one.id for one in endpoint.deployed_models)})
        if self.cloud.broken_deployments:
            return self.cloud.broken_deployments.popleft()
        if (reason := _unservable(model, self.cloud.fetch(model.artifact_uri))) is not None:
            return _failed(grpc.StatusCode.FAILED_PRECONDITION, f"Model server never became ready: {reason}")
        self._start(endpoint, deployed, model)
        if split:
            endpoint.traffic_split = split
        self._touch(endpoint)
        return done(vertex.DeployModelResponse(deployed_model=deployed))

    @_rpc
    def undeploy_model(self, request: Any) -> operations_pb2.Operation:
        endpoint, deployed_id = self._find(request.endpoint), request.deployed_model_id
        rest = [vertex.DeployedModel(one) for one in endpoint.deployed_models if one.id != deployed_id]
        if len(rest) == len(endpoint.deployed_models):
            _refuse(grpc.StatusCode.NOT_FOUND, f"{deployed_id} is not deployed on {endpoint.name}")
        split = dict(request.traffic_split or endpoint.traffic_split)
        if rest and split.get(deployed_id):
            _refuse(grpc.StatusCode.FAILED_PRECONDITION, f"{deployed_id} has {split[deployed_id]} % of the traffic")
        endpoint.deployed_models = rest
        self._share(endpoint, {key: percent for key, percent in split.items() if percent} if rest else {})
        self._touch(endpoint)
        return done(vertex.UndeployModelResponse())

    def _validate(self, deployed: vertex.DeployedModel) -> None:
        machines = deployed.dedicated_resources
        if deployed.id and (self.cloud.are_ids_refused or not _DEPLOYED_ID.fullmatch(deployed.id)):
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, f"deployed model id {deployed.id!r}")
        if not machines.machine_spec.machine_type or machines.min_replica_count < 1:
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, "dedicated_resources needs a machine type and a replica")

    def _start(self, endpoint: vertex.Endpoint, deployed: vertex.DeployedModel, model: vertex.Model) -> None:
        deployed.model, deployed.model_version_id = model.name, model.version_id
        deployed.display_name = deployed.display_name or model.display_name
        deployed.create_time = datetime.datetime.now(datetime.UTC)
        if endpoint.dedicated_endpoint_enabled:
            _, _, _, region, _, endpoint_id = endpoint.name.split("/")
            endpoint.dedicated_endpoint_dns = f"{endpoint_id}.{region}-1.{DEDICATED_DOMAIN}"
        if self.cloud.serve:
            self.cloud.addresses[deployed.id] = self.cloud.serve(self.cloud.fetch(model.artifact_uri))
        if self.cloud.slow_deployments:
            self._waiting.append([self.cloud.slow_deployments, endpoint, deployed])
            self.cloud.slow_deployments = 0
        else:
            endpoint.deployed_models.append(deployed)

    def _share(self, endpoint: vertex.Endpoint, split: dict[str, int]) -> None:
        _require_split(split, {one.id for one in endpoint.deployed_models})
        endpoint.traffic_split = split

    def _touch(self, endpoint: vertex.Endpoint) -> None:
        endpoint.etag = f"etag-{next(self._etags)}"

    def _find(self, name: str) -> vertex.Endpoint:
        if _numbered(name) not in self.cloud.endpoints:
            _refuse(grpc.StatusCode.NOT_FOUND, f"{name} does not exist")
        return self.cloud.endpoints[_numbered(name)]


def _require_split(split: dict[str, int], deployed: set[str]) -> None:
    if split and (sum(split.values()) != 100 or not set(split) <= deployed or min(split.values()) < 0):
        _refuse(grpc.StatusCode.INVALID_ARGUMENT, f"traffic split {split}; deployed are {sorted(deployed)}")


def _unservable(model: vertex.Model, artifact: Path) -> str | None:
    """Return why TF Serving would load no model; None if it would load one."""
    folders = [path for path in artifact.glob("*") if path.name.isdigit()]
    if len(folders) != 1 or not (folders[0] / "saved_model.pb").is_file():
        return f"{model.artifact_uri} holds {sorted(path.name for path in folders)}"
    started = _start_container(model)
    if started.returncode:
        return started.stderr
    port = model.container_spec.ports[0].container_port
    missing = {f"--rest_api_port={port}", f"--model_base_path={model.artifact_uri}"} - set(started.stdout.split("\n"))
    return f"TF Serving was started without {sorted(missing)}" if missing else None


def _start_container(model: vertex.Model) -> "subprocess.CompletedProcess[str]":
    """Run the entrypoint of the image with Vertex's variables; in the place of TF Serving, print its flags."""
    container = model.container_spec
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "tensorflow_model_server")
        binary.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        binary.chmod(0o755)
        environ = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "AIP_HTTP_PORT": str(container.ports[0].container_port),
            "AIP_HEALTH_ROUTE": container.health_route,
            "AIP_PREDICT_ROUTE": container.predict_route,
            "AIP_STORAGE_URI": model.artifact_uri,
        }
        command = ["sh", str(_ENTRYPOINT), *container.args]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


class Predictions(_Service):
    """PredictionService."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self._credit: collections.Counter[str] = collections.Counter()

    def raw_predict_http(self, host: str, name: str, body: bytes) -> HttpAnswer:
        """Answer ``POST https://<host>/v1/<name>:rawPredict``."""
        with self.cloud.lock:
            endpoint = self.cloud.endpoints.get(_numbered(name))
            if endpoint is None:
                raise Refused(grpc.StatusCode.NOT_FOUND, f"{name} does not exist")
            _require_reachable(endpoint, host, body)
            deployed = self._choose(endpoint)
        model = self.cloud.models[f"{deployed.model}@{deployed.model_version_id}"]
        url = self.cloud.addresses[deployed.id] + model.container_spec.predict_route
        answer = httpx.post(url, content=body, trust_env=False, timeout=60)
        served_by = {
            "X-Vertex-AI-Endpoint-Id": endpoint.name.rpartition("/")[2],
            "X-Vertex-AI-Deployed-Model-Id": deployed.id,
        }
        return HttpAnswer(answer.status_code, answer.content, served_by)

    def _choose(self, endpoint: vertex.Endpoint) -> vertex.DeployedModel:
        """Return the deployed model that is furthest below its share."""
        current = self.cloud.split_so_far or endpoint.traffic_split
        split = {key: percent for key, percent in current.items() if percent}
        if not split:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"{endpoint.name} has no deployed model with traffic")
        for key, percent in split.items():
            self._credit[key] += percent
        chosen = max(split, key=lambda key: self._credit[key])
        self._credit[chosen] -= 100
        (deployed,) = [one for one in endpoint.deployed_models if one.id == chosen]
        if chosen not in self.cloud.addresses:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"the container of {chosen} does not answer")
        return deployed


def _require_reachable(endpoint: vertex.Endpoint, host: str, body: bytes) -> None:
    """Refuse a host that is not the endpoint's, and a body that is too large for it."""
    kind = "dedicated" if endpoint.dedicated_endpoint_enabled else "shared"
    if (kind == "dedicated") != (host == endpoint.dedicated_endpoint_dns):
        raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"{endpoint.name} is {kind} and not reached by {host}")
    if len(body) > MAX_BODY_BYTES[kind]:
        raise Refused(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Request payload size exceeds the limit: {MAX_BODY_BYTES[kind]} bytes.",
        )
