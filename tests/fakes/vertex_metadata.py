"""Vertex AI's MetadataService, as far as Google's SDK uses it for Experiments.

The contract that is imitated, from Google's reference:

* A project has no metadata store until ``CreateMetadataStore`` makes one, a long-running operation. Requests to
  a missing store are NOT_FOUND.
* ``CreateContext`` takes the id from the caller: lower-case letters, digits and hyphens, at most 128. One that is taken
  is ALREADY_EXISTS. A context needs a schema's title and version.
* ``UpdateContext`` without a mask replaces what can be changed. An ``etag`` that is not the newest is ABORTED.
* ``AddContextChildren`` needs contexts that exist; present children are skipped.
* Names in answers have the project's number, whichever name the request had.

Experiments are contexts of type ``system.Experiment``, their runs contexts of type ``system.ExperimentRun`` below them.
"""

import re
from typing import Any

import grpc
from google.cloud import aiplatform_v1 as vertex

from tests.fakes.vertex import Refused, done

PROJECT_NUMBER = "123456"
_ID = re.compile(r"^[a-z0-9][a-z0-9-]{0,127}$")


class Metadata:
    """MetadataService.

    Attributes:
        stores: Stores by name.
        contexts: Contexts by name.
        children: Names of contexts, by that of the context above them.
    """

    def __init__(self) -> None:
        self.stores: dict[str, vertex.MetadataStore] = {}
        self.contexts: dict[str, vertex.Context] = {}
        self.children: dict[str, list[str]] = {}

    def context(self, context_id: str) -> vertex.Context:
        """Return the only context of an id."""
        (context,) = [one for name, one in self.contexts.items() if name.endswith(f"/contexts/{context_id}")]
        return context

    def create_metadata_store(self, request: Any, _: grpc.ServicerContext) -> Any:
        name = f"{_numbered(request.parent)}/metadataStores/{request.metadata_store_id}"
        if name in self.stores:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"{name} exists")
        self.stores[name] = vertex.MetadataStore(name=name)
        return done(self.stores[name])

    def get_metadata_store(self, request: Any, _: grpc.ServicerContext) -> vertex.MetadataStore:
        return _require(self.stores, request.name)

    def create_context(self, request: Any, _: grpc.ServicerContext) -> vertex.Context:
        store, context = _require(self.stores, request.parent), request.context
        if not _ID.match(request.context_id) or not context.schema_title or not context.schema_version:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"id {request.context_id!r}, schema {context.schema_title}")
        context.name, context.etag = f"{store.name}/contexts/{request.context_id}", "1"
        if context.name in self.contexts:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"{context.name} exists")
        self.contexts[context.name] = context
        return context

    def get_context(self, request: Any, _: grpc.ServicerContext) -> vertex.Context:
        return _require(self.contexts, request.name)

    def update_context(self, request: Any, _: grpc.ServicerContext) -> vertex.Context:
        current, given = _require(self.contexts, request.context.name), request.context
        if given.etag and given.etag != current.etag:
            text = f"Specified Context `etag`: `{given.etag}` does not match server `etag`: `{current.etag}`"
            raise Refused(grpc.StatusCode.ABORTED, text)
        given.name, given.etag = current.name, str(int(current.etag) + 1)
        self.contexts[current.name] = given
        return given

    def add_context_children(self, request: Any, _: grpc.ServicerContext) -> vertex.AddContextChildrenResponse:
        parent = _require(self.contexts, request.context).name
        below = self.children.setdefault(parent, [])
        for child in request.child_contexts:
            name = _require(self.contexts, child).name
            if name not in below:
                below.append(name)
        return vertex.AddContextChildrenResponse()

    def get_artifact(self, request: Any, _: grpc.ServicerContext) -> vertex.Artifact:
        raise Refused(grpc.StatusCode.NOT_FOUND, f"{request.name} does not exist")

    def get_execution(self, request: Any, _: grpc.ServicerContext) -> vertex.Execution:
        raise Refused(grpc.StatusCode.NOT_FOUND, f"{request.name} does not exist")


def _numbered(name: str) -> str:
    return re.sub(r"^projects/[^/]+", f"projects/{PROJECT_NUMBER}", name)


def _require(resources: dict[str, Any], name: str) -> Any:
    if _numbered(name) not in resources:
        raise Refused(grpc.StatusCode.NOT_FOUND, f"{name} does not exist")
    return resources[_numbered(name)]
