"""Choice of the rollout target by the form of its address."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from modules.common.ports import PORT
from serving.rollout.state import Target, UnusablePlace

if TYPE_CHECKING:
    from serving.rollout.vertex import VertexTarget

_VERTEX = re.compile(
    r"vertex://(?P<project>[^/]+)/(?P<region>[a-z0-9-]+)/(?P<endpoint>[^/]+)"
    r"|projects/(?P<project_>[^/]+)/locations/(?P<region_>[a-z0-9-]+)/endpoints/(?P<endpoint_>[^/]+)"
)
_HOST_AND_PORT = re.compile(rf"(grpcs://)?(\[[0-9a-fA-F:]+\]|[^/:\[\]\s]+):{PORT}")


def target_at(
    address: str,
    *,
    model: str,
    models_config: Path | None = None,
    model_base_path: Path | None = None,
    ca_file: Path | None = None,
) -> Target:
    """Return the target at ``address``, and import only the libraries of that target.

    Args:
        address: ``HOST:PORT``, ``grpcs://HOST:PORT``, ``vertex://PROJECT/REGION/ENDPOINT`` or a resource name.
        model: On TF Serving, the name of the served model; on Vertex AI, its ID in the registry.
        models_config: TF Serving's configuration file, which each change rewrites; only reading the state does
            without it.
        model_base_path: Base path of the TF Serving host, where it is not the one in the file.
        ca_file: Certificates in PEM to trust over TLS, in place of the system's.

    Raises:
        UnusablePlace: The address has none of the known forms.
    """
    if is_endpoint(address):
        return endpoint_at(address, model_id=model)
    if not _HOST_AND_PORT.fullmatch(address):
        raise UnusablePlace(
            f"cannot use address {address!r}; known forms are HOST:PORT and grpcs://HOST:PORT (TF Serving's gRPC "
            "port), vertex://PROJECT/REGION/ENDPOINT and projects/PROJECT/locations/REGION/endpoints/ENDPOINT"
        )
    from serving.rollout.tf_serving import TfServingTarget

    return TfServingTarget(
        address, models_config=models_config, model=model, model_base_path=model_base_path, ca_file=ca_file
    )


def is_endpoint(address: str) -> bool:
    """Return whether an address names a Vertex AI endpoint.

    Args:
        address: Any address.
    """
    return _VERTEX.fullmatch(address) is not None


def endpoint_at(address: str, *, model_id: str) -> "VertexTarget":
    """Return the Vertex AI endpoint at ``address``.

    Args:
        address: ``vertex://PROJECT/REGION/ENDPOINT`` or a resource name.
        model_id: ID of the model in the registry.

    Raises:
        UnusablePlace: The address has another form.
        TargetUnreachable: Credentials are missing.
    """
    from serving.rollout.vertex import VertexTarget

    match = _VERTEX.fullmatch(address)
    if match is None:
        raise UnusablePlace(f"cannot use address {address!r}; the form is vertex://PROJECT/REGION/ENDPOINT")
    project, region, endpoint_id = (match[name] or match[f"{name}_"] for name in ("project", "region", "endpoint"))
    return VertexTarget(project=project, region=region, endpoint=endpoint_id, model_id=model_id)
