"""Calls to Vertex AI for a rollout: the versions of one model in the registry, and one endpoint.

Every call has a deadline and is made once. The caller decides about retries, because only a step that first reads the
state may be retried.
"""

import contextlib
from collections.abc import Mapping

from google.api_core import exceptions, operation
from google.cloud import aiplatform_v1 as vertex
from google.protobuf import field_mask_pb2

from serving.google_cloud import client_options, location

DEFAULT = "default"
"""Alias that Vertex gives a model's first version, and that one version must always have."""

_CALL_SEC = 60.0
_ACCEPT_SEC = 5 * 60.0  # a deployment is checked before it is accepted
_CHANGE_SEC = 15 * 60.0
_DEPLOY_SEC = 45 * 60.0


class Registry:
    """Versions of one model in the registry."""

    def __init__(self, project: str, region: str, model_id: str) -> None:
        self.model_id = model_id
        self._parent = location(project, region)
        self._name = f"{self._parent}/models/{model_id}"
        self._client = vertex.ModelServiceClient(client_options=client_options(region))

    def versions(self) -> list[vertex.Model]:
        """Return all versions, oldest first; an empty list if the model does not exist."""
        try:
            versions = list(self._client.list_model_versions(name=self._name, timeout=_CALL_SEC))
        except exceptions.NotFound:
            return []
        return sorted(versions, key=lambda version: int(version.version_id))

    def version_name(self, version_id: str) -> str:
        """Return the resource name of a version for deployments.

        Args:
            version_id: ID of the version in the registry.
        """
        return f"{self._name}@{version_id}"

    def upload(self, model: vertex.Model, *, first: bool) -> None:
        """Create a version, and the model if it is the first.

        Args:
            model: The version's entry.
            first: The model does not exist yet.
        """
        target = {"model_id": self.model_id} if first else {"parent_model": self._name}
        request = vertex.UploadModelRequest(parent=self._parent, model=model, **target)
        _wait(self._client.upload_model(request, timeout=_CALL_SEC), _CHANGE_SEC)

    def merge_aliases(self, version_id: str, aliases: list[str]) -> None:
        """Add aliases, which other versions lose, and remove those that begin with ``-``.

        Args:
            version_id: ID of the version in the registry.
            aliases: Aliases to add, or to remove after a ``-``.
        """
        self._client.merge_version_aliases(
            name=self.version_name(version_id), version_aliases=aliases, timeout=_CALL_SEC
        )

    def delete(self, version_id: str) -> None:
        """Delete a version, and the model if it was the only one.

        Args:
            version_id: ID of the version in the registry.
        """
        others = [version for version in self.versions() if version.version_id != version_id]
        if not others:
            _wait(self._client.delete_model(name=self._name, timeout=_CALL_SEC), _CHANGE_SEC)
            return
        if not any(DEFAULT in version.version_aliases for version in others):
            self.merge_aliases(others[-1].version_id, [DEFAULT])
        _wait(
            self._client.delete_model_version(name=self.version_name(version_id), timeout=_CALL_SEC),
            _CHANGE_SEC,
        )


class Endpoint:
    """One public endpoint, shared or dedicated.

    The ID of a new endpoint is its name, so that two processes cannot both create it; an endpoint that was created by
    hand is identified by its display name.
    """

    def __init__(self, project: str, region: str, display_name: str) -> None:
        self._parent = location(project, region)
        self._display_name = display_name
        self.name = f"{self._parent}/endpoints/{display_name}"
        self._client = vertex.EndpointServiceClient(client_options=client_options(region))

    def get(self) -> vertex.Endpoint | None:
        """Return the endpoint as it is now; ``None`` if it does not exist.

        Raises:
            google.api_core.exceptions.Conflict: Several endpoints have the name.
        """
        with contextlib.suppress(exceptions.NotFound):
            return self._client.get_endpoint(name=self.name, timeout=_CALL_SEC)
        request = vertex.ListEndpointsRequest(parent=self._parent, filter=f'display_name="{self._display_name}"')
        endpoints = list(self._client.list_endpoints(request, timeout=_CALL_SEC))
        if len(endpoints) > 1:
            raise exceptions.Conflict(
                f"{len(endpoints)} endpoints are named {self._display_name!r}: {[one.name for one in endpoints]}; "
                "rename or delete all but one"
            )
        for endpoint in endpoints:
            self.name = endpoint.name
        return endpoints[0] if endpoints else None

    def create(
        self, labels: Mapping[str, str], *, dedicated: bool, logging: vertex.PredictRequestResponseLoggingConfig
    ) -> None:
        """Create the endpoint without a deployment.

        Args:
            labels: Labels of the endpoint.
            dedicated: Create a dedicated endpoint instead of a shared one.
            logging: Logging of a sample of the requests.
        """
        request = vertex.CreateEndpointRequest(
            parent=self._parent,
            endpoint_id=self._display_name,
            endpoint=vertex.Endpoint(
                display_name=self._display_name,
                labels=dict(labels),
                dedicated_endpoint_enabled=dedicated,
                predict_request_response_logging_config=logging,
            ),
        )
        _wait(self._client.create_endpoint(request, timeout=_CALL_SEC), _CHANGE_SEC)

    def set_logging(self, logging: vertex.PredictRequestResponseLoggingConfig, *, etag: str) -> None:
        """Set the logging of requests if the endpoint has not changed since it had this etag.

        Args:
            logging: Logging of a sample of the requests.
            etag: Etag of the endpoint as it was read.

        Raises:
            google.api_core.exceptions.Aborted: The endpoint has changed.
        """
        request = vertex.UpdateEndpointRequest(
            endpoint=vertex.Endpoint(name=self.name, predict_request_response_logging_config=logging, etag=etag),
            update_mask=field_mask_pb2.FieldMask(paths=["predict_request_response_logging_config"]),
        )
        self._client.update_endpoint(request, timeout=_CALL_SEC)

    def deploy(self, deployed: vertex.DeployedModel) -> None:
        """Start a version's machines and leave the traffic as it is. Takes minutes.

        Args:
            deployed: The deployment, with its model and machines.
        """
        request = vertex.DeployModelRequest(endpoint=self.name, deployed_model=deployed)
        _wait(self._client.deploy_model(request, timeout=_ACCEPT_SEC), _DEPLOY_SEC)

    def undeploy(self, deployed_id: str) -> None:
        """Stop a version's machines. Vertex refuses that while the version has traffic.

        Args:
            deployed_id: ID of the deployment.
        """
        request = vertex.UndeployModelRequest(endpoint=self.name, deployed_model_id=deployed_id)
        _wait(self._client.undeploy_model(request, timeout=_CALL_SEC), _CHANGE_SEC)

    def set_traffic(self, split: Mapping[str, int], *, etag: str) -> None:
        """Set the traffic split if the endpoint has not changed since it had this etag.

        Args:
            split: Percent of the requests by ID of the deployment.
            etag: Etag of the endpoint as it was read.

        Raises:
            google.api_core.exceptions.Aborted: The endpoint has changed.
        """
        request = vertex.UpdateEndpointRequest(
            endpoint=vertex.Endpoint(name=self.name, traffic_split=dict(split), etag=etag),
            update_mask=field_mask_pb2.FieldMask(paths=["traffic_split"]),
        )
        self._client.update_endpoint(request, timeout=_CALL_SEC)


def _wait(pending: operation.Operation, timeout_sec: float) -> None:
    """Wait until an operation ends, and raise its error if it has one; cancel one that takes too long.

    Raises:
        google.api_core.exceptions.DeadlineExceeded: The operation took too long.
    """
    try:
        pending.result(timeout=timeout_sec)
    except TimeoutError as error:
        pending.cancel()
        raise exceptions.DeadlineExceeded(
            f"{pending.operation.name} did not end within {timeout_sec:g} s and was cancelled"
        ) from error
