"""Resolver strategy of the earlier examples that new ones are compared with."""

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.components.common import resolver

from components.drift_monitor.sources import holds_examples

CURRENT_KEY = "current"
EXAMPLES_KEY = "examples"
MODEL_KEY = "model"
BLESSING_KEY = "model_blessing"

_INPUTS = (metadata_store_pb2.Event.INPUT, metadata_store_pb2.Event.DECLARED_INPUT)
_OUTPUTS = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.DECLARED_OUTPUT)


class ExamplesOfBaseline(resolver.ResolverStrategy):
    """The examples that the latest blessed model was trained on, other than the run's own.

    With the run's own, a run without changes would compare the data with themselves.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        """Resolve channel ``examples``, to an empty list without a baseline; the others are returned as they are.

        Args:
            store: ML Metadata.
            input_dict: All artifacts of each channel.
        """
        current_ids = {artifact.id for artifact in input_dict[CURRENT_KEY]}
        candidates = {artifact.id: artifact for artifact in input_dict[EXAMPLES_KEY] if holds_examples(artifact.uri)}
        blessed_ids = {
            blessing.get_int_custom_property("current_model_id")
            for blessing in input_dict[BLESSING_KEY]
            if blessing.get_int_custom_property("blessed")
        }
        models = sorted({model.id for model in input_dict[MODEL_KEY]} & blessed_ids, reverse=True)
        trained_on = (_ancestors(store, model) & candidates.keys() for model in models)
        reference_ids = next((ids for ids in trained_on if ids and not ids & current_ids), set())
        return {**input_dict, EXAMPLES_KEY: [candidates[number] for number in sorted(reference_ids)[-1:]]}


def _ancestors(store: mlmd.MetadataStore, artifact_id: int) -> set[int]:
    """Return the ids of all artifacts that an artifact was made from, directly or through others."""
    ancestors: set[int] = set()
    fresh = {artifact_id}
    while fresh:
        makers = _executions(store, fresh)
        events = store.get_events_by_execution_ids(sorted(makers)) if makers else []
        fresh = {event.artifact_id for event in events if event.type in _INPUTS} - ancestors
        ancestors |= fresh
    return ancestors


def _executions(store: mlmd.MetadataStore, artifact_ids: set[int]) -> set[int]:
    events = store.get_events_by_artifact_ids(sorted(artifact_ids))
    return {event.execution_id for event in events if event.type in _OUTPUTS}
