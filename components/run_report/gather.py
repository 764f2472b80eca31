"""Readers of the artifacts that make the sections of a summary."""

import datetime
import json
import os
from typing import Any

import yaml
from tfx import types
from tfx.dsl.io import fileio
from tfx.utils import io_utils

from components.artifacts import (
    COMPARISON_FILE,
    DRIFT_FILE,
    ENDPOINT_PROPERTY,
    METRICS_FILE,
    TRIALS_FILE,
    VERDICT_FILE,
)
from components.serving_validator.executor import CHECK_FILE
from modules.export.contract import EXTRA_ASSETS
from modules.reporting import summary
from modules.reporting.model_card import MARKDOWN_FILE
from modules.training.trainer import HISTORY_FILE

TUNER_RESULTS_FILE = "tuner_results.json"


_DRIFT_FEATURES = 20
_DRIFT_FIELDS = (
    *("drifted", "reasons", "p_value", "mean_ks"),
    *("reference_clips", "reference_speakers", "current_clips", "current_speakers"),
)


def run(config: dict[str, Any]) -> summary.Run:
    """Return the run without command and timings, which a local runner fills in.

    Args:
        config: Configuration as plain values.
    """
    return summary.Run(
        name=config["name"],
        started=datetime.datetime.now(datetime.UTC),
        status="completed",
        command="",
        config=yaml.safe_dump(config, sort_keys=False),
    )


def training(model_run_uri: str) -> summary.Training:
    """Return history and settings of the training.

    Args:
        model_run_uri: Artifact of the Trainer.
    """
    report = _read_json(model_run_uri, HISTORY_FILE)
    return summary.Training(
        family=report["family"],
        parameters=report["parameters"],
        epochs_run=report["epochs"],
        epochs_limit=report["settings"]["epochs"],
        kept_epoch=report["kept_epoch"],
        seconds=report["seconds"],
        history=report["history"],
        hyperparameters={name: _scalar(value) for name, value in report["settings"]["hyperparameters"].items()},
    )


def tuning(tuner_results_uri: str, config: dict[str, Any]) -> summary.Tuning:
    """Return every trial with its curves; from TFX's own Tuner, the finished trials without curves.

    Args:
        tuner_results_uri: Artifact of the Tuner.
        config: Configuration as plain values.
    """
    objective = config["tuner"]["objective"]
    search: dict[str, Any] = {
        "algorithm": config["tuner"]["algorithm"],
        "objective": objective,
        "higher_is_better": "accuracy" in objective,
    }
    if not fileio.exists(os.path.join(tuner_results_uri, TRIALS_FILE)):
        return summary.Tuning(**search, trials=_finished_trials(tuner_results_uri))
    report = _read_json(tuner_results_uri, TRIALS_FILE)
    trials = tuple(_trial(trial, objective) for trial in report["trials"])
    return summary.Tuning(**search, trials=trials, splits=summary.TuningSplits(**report["splits"]))


def _trial(trial: dict[str, Any], objective: str) -> summary.Trial:
    history = trial.pop("history")
    return summary.Trial(**trial, curve=history.get(objective, ()))


def _finished_trials(tuner_results_uri: str) -> tuple[summary.Trial, ...]:
    trials = _read_json(tuner_results_uri, TUNER_RESULTS_FILE)
    return tuple(
        summary.Trial(
            name=str(int(trial.pop("trial_id")) + 1),
            status="completed",
            score=trial.pop("score"),
            hyperparameters={name: value for name, value in trial.items() if not name.startswith("tuner/")},
        )
        for trial in trials
    )


def evaluation(evaluation_uri: str) -> summary.Evaluation:
    """Return the candidate's metrics.

    Args:
        evaluation_uri: Artifact of the GatedEvaluator.
    """
    return summary.Evaluation.model_validate(_read_json(evaluation_uri, METRICS_FILE))


def baseline(evaluation_uri: str) -> summary.Baseline | None:
    """Return the comparison with the blessed baseline; None without a comparable one.

    Args:
        evaluation_uri: Artifact of the GatedEvaluator.
    """
    if not fileio.exists(os.path.join(evaluation_uri, COMPARISON_FILE)):
        return None
    return summary.Baseline.model_validate(_read_json(evaluation_uri, COMPARISON_FILE))


def drift(drift_uri: str) -> tuple[summary.Drift, ...]:
    """Return the DriftMonitor's comparisons.

    Args:
        drift_uri: Artifact of the DriftMonitor.
    """
    return tuple(_drift(comparison) for comparison in _read_json(drift_uri, DRIFT_FILE)["comparisons"])


def _drift(comparison: dict[str, Any]) -> summary.Drift:
    report = comparison.pop("report", None)
    if report is None:
        return summary.Drift(**comparison)
    labels = report["labels"] or {"reference": {}, "current": {}}
    return summary.Drift(
        **comparison,
        **{name: report[name] for name in _DRIFT_FIELDS},
        false_alarm_rate=report["settings"]["false_alarm_rate"],
        features=report["features"][:_DRIFT_FEATURES],
        feature_count=len(report["features"]),
        reference_labels=labels["reference"],
        current_labels=labels["current"],
    )


def verdict(blessing_uri: str, infra_blessing_uri: str) -> summary.Verdict:
    """Return decision and checks of the gate, with the check of the ServingValidator.

    Args:
        blessing_uri: Artifact of the GatedEvaluator.
        infra_blessing_uri: Artifact of the ServingValidator.
    """
    gate = summary.Verdict.model_validate(_read_json(blessing_uri, VERDICT_FILE))
    serving = summary.Check.model_validate(_read_json(infra_blessing_uri, CHECK_FILE))
    return gate.model_copy(update={"checks": (*gate.checks, serving)})


def push(pushed_model: types.Artifact, verdict: summary.Verdict) -> summary.Push:
    """Return where the model was pushed to, or why it was not pushed.

    Args:
        pushed_model: Artifact of the Pusher.
        verdict: Result of :func:`verdict`; its last check is the ServingValidator's.
    """
    if not pushed_model.get_int_custom_property("pushed"):
        serving = verdict.checks[-1]
        reasons = (
            *(() if verdict.blessed else ("The gate rejected the model.",)),
            *(() if serving.passed else (serving.text,)),
        )
        return summary.Push(reason=" ".join(reasons))
    path = pushed_model.get_string_custom_property("pushed_destination")
    endpoint = pushed_model.get_string_custom_property(ENDPOINT_PROPERTY) or None
    where = f"--address {endpoint}" if endpoint else f"--model-base-path {os.path.dirname(path)}"
    return summary.Push(
        version=pushed_model.get_string_custom_property("pushed_version"),
        path=path,
        endpoint=endpoint,
        commands=(f"ser predict {where} recording.wav", *((f"ser rollout status {endpoint}",) if endpoint else ())),
    )


def model_card(blessing_uri: str, pushed: summary.Push) -> str:
    """Return the address of the model card: that of the pushed model, or of the blessing.

    Args:
        blessing_uri: Artifact of the GatedEvaluator.
        pushed: Result of :func:`push`.
    """
    folder = os.path.join(pushed.path, EXTRA_ASSETS) if pushed.path else blessing_uri
    return os.path.join(folder, MARKDOWN_FILE)


def _scalar(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) or value is None else json.dumps(value)


def _read_json(folder: str, name: str) -> Any:
    return json.loads(io_utils.read_string_file(os.path.join(folder, name)))
