"""Finds the target that an address names."""

import re
from pathlib import Path

from serving.rollout.state import RolloutError, Target

_VERTEX = re.compile(
    r"vertex://(?P<project>[^/]+)/(?P<region>[a-z0-9-]+)/(?P<endpoint>[^/]+)"
    r"|projects/(?P<project_>[^/]+)/locations/(?P<region_>[a-z0-9-]+)/endpoints/(?P<endpoint_>[^/]+)"
)
_HOST_AND_PORT = re.compile(r"(grpcs://)?(\[[0-9a-fA-F:]+\]|[^/:\[\]]+):\d+")


def target_at(
    address: str,
    *,
    model: str,
    models_config: Path | None = None,
    model_base_path: Path | None = None,
    ca_file: Path | None = None,
) -> Target:
    """The target at ``address``; only what it needs is imported.

    Args:
        model: On TF Serving, the name it is served under; on Vertex AI, its id in the registry.
        models_config: See :class:`serving.rollout.tf_serving.TfServingTarget`, and so for the rest.

    Raises:
        RolloutError: The address has none of the known forms, or more is needed to use it.
    """
    if found := _VERTEX.fullmatch(address):
        from serving.rollout.vertex import VertexTarget

        project, region, endpoint = (found[name] or found[f"{name}_"] for name in ("project", "region", "endpoint"))
        return VertexTarget(project=project, region=region, endpoint=endpoint, model_id=model)
    if not _HOST_AND_PORT.fullmatch(address):
        raise RolloutError(
            f"cannot use address {address!r}; known forms are HOST:PORT and grpcs://HOST:PORT (TF Serving's gRPC "
            "port), vertex://PROJECT/REGION/ENDPOINT and projects/PROJECT/locations/REGION/endpoints/ENDPOINT"
        )
    if models_config is None:
        raise RolloutError(f"for {address}, name the models.config that the server starts from with --models-config")
    from serving.rollout.tf_serving import TfServingTarget

    return TfServingTarget(
        address, models_config=models_config, model=model, model_base_path=model_base_path, ca_file=ca_file
    )
