"""Reports of a cross-validation: JSON, Markdown, HTML and CSV."""

import datetime
import statistics
from collections.abc import Mapping
from pathlib import Path

from modules.common.files import write_whole
from modules.reporting import html, summary
from modules.reporting.acceptance import test_rows
from modules.reporting.markdown import table
from pipeline.cross_validation.run import CrossValidation

JSON_FILE = "cross_validation.json"
MARKDOWN_FILE = "cross_validation.md"
HTML_FILE = "cross_validation.html"
PREDICTIONS_FILE = "cross_validation.csv"

_PROTOCOLS = {
    "speakers": "Leave-speakers-out: each speaker is evaluated by the model whose training, early stopping and "
    "calibration did not use them.",
    "corpus": "Leave-one-corpus-out: each corpus is evaluated by the model that was trained without it.",
}


def write(
    result: CrossValidation,
    root: Path,
    *,
    name: str,
    command: str,
    config: str,
    sounds: Mapping[str, str] | None = None,
) -> tuple[Path, ...]:
    """Write JSON, Markdown, HTML and the table of predictions, each by an atomic rename.

    Args:
        result: The cross-validation.
        root: Folder to write into.
        name: Name of the pipeline.
        command: Command line of the user.
        config: Configuration as YAML.
        sounds: Addresses of the scheme ``data:`` of recordings that the report plays, by path.

    Returns:
        Paths of the files.
    """
    texts = {
        JSON_FILE: result.model_dump_json(indent=2) + "\n",
        MARKDOWN_FILE: to_markdown(result),
        HTML_FILE: _to_html(result, name=name, command=command, config=config, sounds=sounds or {}),
        PREDICTIONS_FILE: result.predictions,
    }
    for file, text in texts.items():
        write_whole(root / file, text)
    return tuple(root / file for file in texts)


def to_markdown(result: CrossValidation) -> str:
    """Return the tables of metrics and of folds, with the protocol.

    Args:
        result: The cross-validation.
    """
    evaluation = result.evaluation
    metrics = [metric.texts for metric in evaluation.metrics]
    lines = [
        "# Cross-validation",
        "",
        *([protocol_line(result), ""] if result.protocol else []),
        f"{_PROTOCOLS[result.kind]} {evaluation.clips} clips of {evaluation.speakers} speakers, each evaluated once. "
        + f"Model: {result.family}, {result.parameters} trained parameters"
        + f"{_encoder(result)}. {caution(result)}",
        "",
        f"Intervals: {evaluation.interval.text}.",
        "",
        table(("Metric", "All folds", f"{100 * evaluation.interval.level:g} % interval"), metrics, right=(1,)),
        "",
        table(("Fold", "Clips", "UAR", "Interval", "Accuracy", "Epochs"), fold_rows(result), right=(1, 2, 4, 5)),
        "",
        fold_means(result),
        *_acceptance_lines(result),
    ]
    return "\n".join(lines) + "\n"


def _encoder(result: CrossValidation) -> str:
    if result.finetune_blocks:
        return f", those of {result.finetune_blocks} blocks of the encoder {result.encoder} among them"
    return f" on the frozen encoder {result.encoder}" if result.encoder else ""


def _acceptance_lines(result: CrossValidation) -> list[str]:
    acceptance = result.evaluation.acceptance
    if acceptance is None:
        return []
    heads = ("Check closest to its bound", "Passed", "Value", "Interval", "Bound")
    rows = [(f"{test}: {worst}", *texts) for test, worst, *texts in test_rows(acceptance)]
    skipped = [f"Not tested: {each.test}: {each.reason}." for each in acceptance.skipped]
    return ["", "## Acceptance tests", "", table(heads, rows, right=(1, 2, 3, 4)), "", *skipped]


def fold_rows(result: CrossValidation) -> list[tuple[str, ...]]:
    """Return name, clips, UAR, interval, accuracy and epochs of each fold as texts.

    Args:
        result: The cross-validation.
    """
    rows: list[tuple[str, ...]] = []
    for fold in result.folds:
        (_, uar, interval), (_, accuracy, _) = (metric.texts for metric in fold.metrics)
        interval = interval if len(fold.test) >= summary.MIN_INTERVAL_SPEAKERS else "unknown"
        rows.append((fold.name, str(fold.clips), uar, interval, accuracy, str(fold.epochs)))
    return rows


def protocol_line(result: CrossValidation) -> str:
    """Return name, title, source and hash of the named protocol; empty if there is none.

    Args:
        result: The cross-validation.
    """
    if not (protocol := result.protocol):
        return ""
    recordings = f", {result.evaluation.clips} of its {protocol.recordings} recordings" if protocol.recordings else ""
    return (
        f"Protocol {protocol.name}: {protocol.title}{recordings}. "
        f"SHA-256 of the folds: {result.folds_sha256}; source: {protocol.source}."
    )


def fold_means(result: CrossValidation) -> str:
    """Return mean and standard deviation over the folds of each metric, which most publications give, as text.

    Args:
        result: The cross-validation.
    """
    texts = []
    for metrics in zip(*(fold.metrics for fold in result.folds), strict=True):
        name, values = metrics[0].name, [metric.value for metric in metrics if metric.value is not None]
        title, mean, _ = summary.Metric(name=name, value=statistics.fmean(values)).texts
        texts.append(f"{title} {mean} ± {summary.Metric(name=name, value=statistics.stdev(values)).texts[1]}")
    return f"Mean of the folds, with standard deviation: {', '.join(texts)}."


def caution(result: CrossValidation) -> str:
    """Return the limits of the numbers' validity; empty if there are none.

    Args:
        result: The cross-validation.
    """
    synthetic = "Synthetic speech is among the data: the metrics are not accuracy on human speech."
    return " ".join(filter(None, [synthetic if result.data.is_synthetic else "", result.evaluation.interval.caution]))


def _to_html(result: CrossValidation, *, name: str, command: str, config: str, sounds: Mapping[str, str]) -> str:
    run = summary.Run(
        name=name, started=datetime.datetime.now(datetime.UTC), status="completed", command=command, config=config
    )
    protocol = summary.Protocol(kind="speaker", speakers={fold.name: fold.test for fold in result.folds})
    page = summary.RunSummary(run=run, protocol=protocol, data=result.data, evaluation=result.evaluation)
    title = result.protocol.name if result.protocol else "Cross-validation"
    sentence = f"{protocol_line(result)} {_PROTOCOLS[result.kind]}".strip()
    head = html.Headline("plain", f"{title}, {len(result.folds)} folds", sentence)
    return html.render(page, head, sounds=sounds)
