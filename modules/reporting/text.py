"""Outcome of a run in a few lines for the terminal."""

from itertools import zip_longest
from pathlib import Path

from modules.common.settings import plain
from modules.reporting.first_screen import interval_words, next_steps
from modules.reporting.metric_names import metric_text
from modules.reporting.summary import RunSummary
from modules.reporting.tuned import TUNED_FILE
from modules.reporting.write import REPORT_FILE


def outline(summary: RunSummary, root: Path) -> str:
    """Return the outcome of the run, its reasons and the place of the report.

    Args:
        summary: Summary of the run.
        root: Output folder of the pipeline.
    """
    lines = [*_result(summary), *_tuned(summary, root), *_push(summary), f"Report   {root / REPORT_FILE}"]
    return "\n" + "\n".join(lines)


def _result(summary: RunSummary) -> list[str]:
    if summary.run.status == "failed":
        lines_of_failure = (
            ("FAILED ", f"in {summary.run.failed_component}"),
            ("", summary.run.error),
            ("Next", summary.run.next_step),
        )
        return [f"{label:<9}{text}" for label, text in lines_of_failure if text]
    lines = []
    if summary.verdict:
        head = "BLESSED" if summary.verdict.blessed else "REJECTED"
        reasons = summary.verdict.reasons or ("without a reason",)
        lines += [f"{label:<9}{reason}" for label, reason in zip_longest([head], reasons, fillvalue="")]
    evaluation = summary.evaluation
    uar = evaluation.metric("uar") if evaluation else None
    if evaluation and uar and uar.value is not None:
        lines.append(f"UAR      {metric_text(uar.value, 'uar')} ({interval_words(summary)})")
        lines.append(f"         {evaluation.clips} clips of {evaluation.speakers} speakers. {_protocol(summary)}")
    if summary.verdict and not summary.verdict.blessed:
        lines += [f"{label:<9}{step}" for label, step in zip_longest(["Next"], next_steps(summary), fillvalue="")]
    return lines


def _protocol(summary: RunSummary) -> str:
    sentence = summary.protocol.sentence if summary.protocol else ""
    return sentence + (" Synthetic speech: not accuracy on people." if summary.demo else "")


def _tuned(summary: RunSummary, root: Path) -> list[str]:
    if summary.tuning is None or summary.training is None:
        return []
    return [
        f"Tuned    training.hyperparameters={plain(summary.training.hyperparameters)}",
        f"         Train with them again: --config {root / TUNED_FILE}",
    ]


def _push(summary: RunSummary) -> list[str]:
    if summary.pushed is None:
        return []
    if summary.pushed.path is None:
        return [f"Pushed   nothing. {summary.pushed.reason}"]
    return [f"Pushed   version {summary.pushed.version} to {summary.pushed.path}"]
