"""Executor of the VertexPusher."""

import functools
import posixpath
import re

from tfx import types
from tfx.dsl.io import fileio
from tfx.types import standard_component_specs
from tfx.utils import io_utils, json_utils

from components.artifacts import ENDPOINT_PROPERTY, Properties
from components.atomic_pusher import executor as atomic_pusher
from components.atomic_pusher.settings import PushSettings
from components.vertex_pusher import smoke
from modules.export import manifest
from serving.rollout.vertex import Candidate, EndpointKind, Hosting, PushFailed, VertexTarget

_DEPLOYED = "deployed"
_COPIED = "copied_from"  # written last; TF Serving ignores names that are not numbers
_NOT_IN_A_LABEL = re.compile(r"[^a-z0-9_-]")


class Options(PushSettings):
    """Settings of registration and deployment; without an image the model is not deployed."""

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
    request_log: str | None
    request_log_rate: float
    labels: dict[str, str]


class Executor(atomic_pusher.Executor):
    """The AtomicPusher's push, followed by registration and deployment; a version that fails is removed.

    ``<serving_dir>/<version>/`` is for TF Serving anywhere. Vertex AI reads ``<serving_dir>/deployed/<version>/``,
    which has a copy of that folder alone, since TF Serving on the endpoint serves the newest version in its folder.
    """

    def deploy(
        self, version_path: str, model_path: str, pushed_model: types.Artifact, exec_properties: Properties
    ) -> None:
        """Register the version. If an image is set, deploy it, test it and record the endpoint's address.

        Args:
            version_path: Folder of the version.
            model_path: Model that the version is a copy of.
            pushed_model: Output artifact.
            exec_properties: ``custom_config`` with the options.

        Raises:
            PushRejected: Registration, deployment or test failed, and the version was removed.
            RolloutError: The same, and removing the version failed too.
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
            raise atomic_pusher.PushRejected(str(error)) from error
        pushed_model.set_string_custom_property(ENDPOINT_PROPERTY, target.address)


def _copy_once(version_path: str, artifact_uri: str) -> None:
    """Copy unless a complete copy exists, which the endpoint may be reading."""
    marker = posixpath.join(artifact_uri, _COPIED)
    if not fileio.exists(marker):
        copied = posixpath.join(artifact_uri, posixpath.basename(version_path))
        io_utils.copy_dir(version_path, copied)
        manifest.require_intact(copied)
        io_utils.write_string_file(marker, version_path)


def _hosting(options: Options, image: str) -> Hosting:
    return Hosting(
        image=image,
        kind=options.kind,
        machine_type=options.machine_type,
        min_replicas=options.min_replicas,
        max_replicas=options.max_replicas,
        canary_percent=options.canary_percent,
        request_log=options.request_log,
        request_log_rate=options.request_log_rate,
        labels=options.labels,
    )


def _run(artifact_uri: str) -> str:
    """Return the run's id as a label, from the address ``<root>/<project>/<run>/<task>/<output>``."""
    return _NOT_IN_A_LABEL.sub("-", artifact_uri.rstrip("/").split("/")[-3].lower())[:63]
