"""Next steps after a failed check or a failed run, by the code of the check or of the error."""

import posixpath
from collections.abc import Sequence

from modules.reporting.summary import Check, Push

_LABELS = "Listen to the errors in the report and check their labels."
_OTHER_MODEL = (
    "Compare model families by cross-validation (`ser evaluate`), or search hyperparameters (tuner.enabled=true)."
)
_MORE_SPEAKERS = "Add recordings of more speakers, or test every speaker once: `ser evaluate --data DIR --folds 6`."

AFTER_CHECK: dict[str, str] = {
    "gate.test_clips": _MORE_SPEAKERS,
    "gate.test_speakers": _MORE_SPEAKERS,
    "gate.finite_predictions": "Set a smaller training.learning_rate; the training diverged.",
    "gate.different_classes": "Check that every emotion has clips in the training split, and train for more epochs.",
    "gate.uar": f"{_LABELS} {_OTHER_MODEL}",
    "gate.uar_interval": _MORE_SPEAKERS,
    "gate.guessing": f"{_LABELS} {_OTHER_MODEL}",
    "gate.comparable_baseline": "Read the check's reason; gate.override blesses the model by name and reason.",
    "gate.uar_loss": "The served version stays. Compare the data of both runs; gate.max_uar_loss is the bound.",
    "gate.uar_loss_interval": "The served version stays. Compare the data of both runs.",
    "gate.slice_uar": "Add training recordings of that slice; gate.min_slice_adjusted_uar is the floor.",
    "gate.tfma_thresholds": f"{_LABELS} {_OTHER_MODEL}",
    "gate.acceptance": "The report lists the failed checks; gate.acceptance names the tests that must pass.",
    "serving.grpc_answers": "The served model answers differently from the SavedModel: read run.log.",
}

AFTER_ERROR: dict[str, str] = {
    "beam.lost_worker": "Set fewer beam.workers if the memory is short.",
    "ingest.no_recordings": "`ser corpus scan DIR` lists what is read. Other names need a manifest.csv: "
    "docs/guides/own-recordings.md.",
    "ingest.too_many_quarantined": "`ser corpus scan DIR` lists each file with its reason. Fix them, or raise "
    "ingest.max_quarantined_share.",
    "ingest.empty_split": "Add recordings of more speakers, or name the speakers of splits.test_speakers.",
    "data.splits": "Add recordings of more speakers, or name the speakers of splits.test_speakers.",
    "data.anomalous": "Fix the recordings that the anomalies name, or the schema in schema/.",
    "drift.alarm": "Fix the recordings or their labels; if they are correct, set drift.stop_on=never.",
    "training.diverged": "Set a smaller training.learning_rate.",
    "training.promise_out_of_reach": "Set a larger training.max_error, or give eval more speakers with splits.eval.",
    "training.search_failed": "Fix what the first trial names.",
    "encoder.weights": "Fetch the weights first: `ser encoder fetch NAME`.",
}

SERVE = "Serve it: `ser serve --model-base-path {}`."
WATCH = "Watch new recordings: `ser drift`."
FEW_SPEAKERS = "Test every speaker once for an interval: `ser evaluate --data DIR --folds 6`."
ANY_ERROR = "Fix the cause."


def after_checks(checks: Sequence[Check]) -> tuple[str, ...]:
    """Return the next steps after a rejection, each once.

    Args:
        checks: Checks of the verdict.
    """
    failed = [AFTER_CHECK.get(check.code, check.text) for check in checks if not check.passed]
    return tuple(dict.fromkeys(failed))


def after_push(pushed: Push | None) -> tuple[str, ...]:
    """Return the next steps with a model that was pushed to a folder or an endpoint; none without one.

    Args:
        pushed: The push.
    """
    if pushed is None or pushed.version is None:
        return ()
    serve = (SERVE.format(posixpath.dirname(pushed.path)),) if pushed.path and not pushed.endpoint else ()
    return (*serve, WATCH)


def after_error(error: BaseException, log: str) -> str:
    """Return the next step after a failed run.

    Args:
        error: Cause of the failure.
        log: Name of the log file.
    """
    advice = AFTER_ERROR.get(getattr(error, "code", ""), ANY_ERROR)
    return f"{advice} Then run the same command again; finished steps are reused. Details: {log}."
