"""Resolver strategy for the baseline of a candidate."""

import ml_metadata as mlmd
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.dsl.input_resolution.strategies import latest_blessed_model_strategy

CANDIDATE_KEY = "candidate"


class LatestOtherBlessedModel(resolver.ResolverStrategy):
    """The latest blessed model that is not the candidate itself.

    TFX's own strategy would hand a run that changes nothing the very model that it is about to evaluate, and
    evaluation and push would run again for the comparison of a model with itself.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        """Resolve channels ``model`` and ``model_blessing``; channel ``candidate`` passes through."""
        candidates = input_dict[CANDIDATE_KEY]
        candidate_ids = {candidate.id for candidate in candidates}
        others = {key: artifacts for key, artifacts in input_dict.items() if key != CANDIDATE_KEY}
        others["model"] = [model for model in others["model"] if model.id not in candidate_ids]
        resolved = latest_blessed_model_strategy.LatestBlessedModelStrategy().resolve_artifacts(store, others)
        return {**(resolved or {key: [] for key in others}), CANDIDATE_KEY: candidates}
