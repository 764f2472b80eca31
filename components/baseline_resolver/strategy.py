"""Resolver strategy of the baseline, the earlier model that a candidate is compared with."""

import ml_metadata as mlmd
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.dsl.input_resolution.strategies import latest_blessed_model_strategy

CANDIDATE_KEY = "candidate"


class LatestOtherBlessedModel(resolver.ResolverStrategy):
    """The latest blessed model that is not the candidate itself.

    TFX's own strategy would resolve to the candidate in a run without changes, so that evaluation and push would run
    again to compare a model with itself.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        """Resolve channels ``model`` and ``model_blessing``; channel ``candidate`` is returned as it is.

        Args:
            store: ML Metadata.
            input_dict: All artifacts of each channel.
        """
        candidates = input_dict[CANDIDATE_KEY]
        candidate_ids = {candidate.id for candidate in candidates}
        others = {key: artifacts for key, artifacts in input_dict.items() if key != CANDIDATE_KEY}
        others["model"] = [model for model in others["model"] if model.id not in candidate_ids]
        resolved = latest_blessed_model_strategy.LatestBlessedModelStrategy().resolve_artifacts(store, others)
        return {**(resolved or {key: [] for key in others}), CANDIDATE_KEY: candidates}
