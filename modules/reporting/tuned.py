"""Hyperparameters of a search as a configuration file for ``--config``."""

import yaml

from modules.reporting.summary import RunSummary

TUNED_FILE = "tuned.yaml"


def tuned_config(summary: RunSummary) -> str | None:
    """Return the run's configuration with the hyperparameters of the search; None without a search."""
    if summary.tuning is None or summary.training is None:
        return None
    config = yaml.safe_load(summary.run.config) or {}
    tuned = {"family": summary.training.family, "hyperparameters": dict(summary.training.hyperparameters)}
    config["training"] = config.get("training", {}) | tuned
    config["tuner"] = config.get("tuner", {}) | {"enabled": False}
    best, objective = summary.tuning.ranked[0], summary.tuning.objective
    score = "" if best.score is None else f" with a {objective} of {best.score:.4f}"
    head = f"# The best of {len(summary.tuning.trials)} trials{score}; train with it again: --config {TUNED_FILE}\n"
    return head + yaml.safe_dump(config, sort_keys=False)
