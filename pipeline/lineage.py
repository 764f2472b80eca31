"""Records of a run in ML Metadata, and the version of the code."""

import dataclasses
import subprocess
from importlib import metadata as packages
from pathlib import Path

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2

_CACHED = mlmd_pb2.Execution.State.CACHED
_FAILED = mlmd_pb2.Execution.State.FAILED
_DISTRIBUTION = "ser-pipeline"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeRecord:
    """Execution of a node.

    Attributes:
        cached: Whether an earlier execution's outputs were reused.
        failed: Whether it failed.
        outputs: Artifacts by output key.
    """

    cached: bool
    failed: bool
    outputs: dict[str, tuple[mlmd_pb2.Artifact, ...]]

    def output(self, key: str) -> mlmd_pb2.Artifact:
        """Return the only artifact of an output.

        Args:
            key: Output key.

        Raises:
            KeyError: The output does not exist.
            ValueError: The output has several artifacts.
        """
        (artifact,) = self.outputs[key]
        return artifact


def latest_run(store: mlmd.MetadataStore, pipeline_name: str) -> dict[str, NodeRecord]:
    """Return the records of the newest run of a pipeline.

    Args:
        store: ML Metadata.
        pipeline_name: Name of the pipeline.

    Returns:
        A record for each node that started, by node id.
    """
    runs = store.get_contexts_by_type("pipeline_run")
    if not runs:
        return {}
    executions = store.get_executions_by_context(max(runs, key=lambda run: run.id).id)
    return {
        _node_id(store, execution, pipeline_name): NodeRecord(
            cached=execution.last_known_state == _CACHED,
            failed=execution.last_known_state == _FAILED,
            outputs=_outputs(store, execution),
        )
        for execution in sorted(executions, key=lambda execution: execution.id)
    }


def code_version() -> str:
    """Return the package's version, in a checkout with the git commit, marked ``-dirty`` when files differ from it."""
    version = packages.version(_DISTRIBUTION)
    checkout = Path(__file__).parents[1]
    if not (checkout / ".git").exists():
        return version
    try:
        described = subprocess.run(
            ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, check=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # no git here, or no commit yet
        return version
    return f"{version} ({described.stdout.strip()})"


def _node_id(store: mlmd.MetadataStore, execution: mlmd_pb2.Execution, pipeline_name: str) -> str:
    contexts = store.get_contexts_by_execution(execution.id)
    return next(context.name for context in contexts if context.type == "node").removeprefix(f"{pipeline_name}.")


def _outputs(store: mlmd.MetadataStore, execution: mlmd_pb2.Execution) -> dict[str, tuple[mlmd_pb2.Artifact, ...]]:
    outputs: dict[str, tuple[mlmd_pb2.Artifact, ...]] = {}
    for event in store.get_events_by_execution_ids([execution.id]):
        if event.type in (mlmd_pb2.Event.OUTPUT, mlmd_pb2.Event.INTERNAL_OUTPUT):
            key = event.path.steps[0].key
            outputs[key] = (*outputs.get(key, ()), *store.get_artifacts_by_id([event.artifact_id]))
    return outputs
