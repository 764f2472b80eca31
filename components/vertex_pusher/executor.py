"""Executor of the VertexPusher."""

import functools
import posixpath
import re

import pydantic
from tfx import types
from tfx.dsl.io import fileio
from tfx.types import standard_component_specs
from tfx.utils import io_utils, json_utils

from components.artifacts import Properties
from components.atomic_pusher import executor as atomic_pusher
from components.vertex_pusher import smoke
from serving.rollout.vertex import Candidate, EndpointKind, Hosting, PushFailed, VertexTarget

ENDPOINT_PROPERTY = "endpoint"
"""Custom property of the pushed model: the address that clients use."""

_DEPLOYED = "deployed"
_COPIED = "copied_from"  # written last; TF Serving ignores names that are not numbers
_NOT_IN_A_LABEL = re.compile(r"[^a-z0-9_-]")


class Options(pydantic.BaseModel):
    """Where and how a model is registered and deployed; without an image it is not deployed."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    project: str
    region: str
    endpoint: str
    kind: EndpointKind
    model_id: str
    image: str | None
    machine_type: str
    min_replicas: int
    max_replicas: int
    canary_percent: int
    first_answer_sec: float
    labels: dict[str, str] = {}


class Executor(atomic_pusher.Executor):
    """Executor that copies as the AtomicPusher does; a version that cannot be deployed leaves nothing.

    ``<serving_dir>/<version>/`` is for TF Serving anywhere. Vertex gets ``<serving_dir>/deployed/<version>/``, which
    holds a copy of that folder alone: TF Serving on the endpoint serves the newest version that it sees.
    """

    def announce(
        self, version_path: str, model_path: str, pushed_model: types.Artifact, exec_properties: Properties
    ) -> None:
        """Register the version. Where there is an image, deploy it, test it and record the endpoint's address.

        Raises:
            NotWanted: It could not be registered or deployed, or did not answer as the model does, and was taken back.
            RolloutError: The same, and something of it is left.
        """
        options = Options.model_validate(json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY]))
        version = posixpath.basename(version_path)
        artifact_uri = posixpath.join(posixpath.dirname(version_path), _DEPLOYED, version)
        _copy_once(version_path, artifact_uri)
        candidate = Candidate(
            version=version,
            artifact_uri=artifact_uri,
            source=model_path,
            labels=options.labels | {"run": _run(pushed_model.uri)},
        )
        target = VertexTarget(
            project=options.project, region=options.region, endpoint=options.endpoint, model_id=options.model_id
        )
        check = functools.partial(
            smoke.check, model_dir=version_path, version=version, patience_sec=options.first_answer_sec
        )
        try:
            if options.image is None:
                target.register(candidate)
                return
            target.push(candidate, _hosting(options, options.image), check)
        except PushFailed as error:
            fileio.rmtree(artifact_uri)
            raise atomic_pusher.NotWanted(str(error)) from error
        pushed_model.set_string_custom_property(ENDPOINT_PROPERTY, target.address)


def _copy_once(version_path: str, artifact_uri: str) -> None:
    """Whole, and never again: the endpoint may be reading it."""
    marker = posixpath.join(artifact_uri, _COPIED)
    if not fileio.exists(marker):
        io_utils.copy_dir(version_path, posixpath.join(artifact_uri, posixpath.basename(version_path)))
        io_utils.write_string_file(marker, version_path)


def _hosting(options: Options, image: str) -> Hosting:
    return Hosting(
        image=image,
        kind=options.kind,
        machine_type=options.machine_type,
        min_replicas=options.min_replicas,
        max_replicas=options.max_replicas,
        canary_percent=options.canary_percent,
        labels=options.labels,
    )


def _run(artifact_uri: str) -> str:
    """Return the run id as a label; Vertex AI stores artifacts in ``<root>/<project>/<run>/<task>/<output>``."""
    return _NOT_IN_A_LABEL.sub("-", artifact_uri.rstrip("/").split("/")[-3].lower())[:63]
