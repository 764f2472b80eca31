"""Reports of a cross-validation: JSON, Markdown and HTML."""

import datetime
from pathlib import Path

from modules.common.files import write_whole
from modules.reporting import html, summary
from modules.reporting.markdown import table
from modules.reporting.metric_names import metric_name, metric_text, range_text
from modules.reporting.summary import Metric
from pipeline.cross_validation.run import CrossValidation

JSON_FILE = "cross_validation.json"
MARKDOWN_FILE = "cross_validation.md"
HTML_FILE = "cross_validation.html"

_PROTOCOLS = {
    "speakers": "Leave-speakers-out: each speaker is evaluated by the model whose training, early stopping and "
    "calibration did not use them.",
    "corpus": "Leave-one-corpus-out: each corpus is evaluated by the model that was trained without it.",
}


def write(result: CrossValidation, root: Path, *, name: str, command: str, config: str) -> tuple[Path, Path, Path]:
    """Write JSON, Markdown and HTML, each by an atomic rename.

    Args:
        result: The cross-validation.
        root: Folder to write into.
        name: Name of the pipeline.
        command: Command line of the user.
        config: Configuration as YAML.

    Returns:
        Paths of the three files.
    """
    texts = {
        JSON_FILE: result.model_dump_json(indent=2) + "\n",
        MARKDOWN_FILE: to_markdown(result),
        HTML_FILE: _to_html(result, name=name, command=command, config=config),
    }
    for file, text in texts.items():
        write_whole(root / file, text)
    return root / JSON_FILE, root / MARKDOWN_FILE, root / HTML_FILE


def to_markdown(result: CrossValidation) -> str:
    """Return the tables of metrics and of folds, with the protocol.

    Args:
        result: The cross-validation.
    """
    evaluation = result.evaluation
    metrics = [
        (metric_name(metric.name).title, value_text(metric), interval_text(metric)) for metric in evaluation.metrics
    ]
    folds = []
    for fold in result.folds:
        uar, accuracy = fold.metrics
        cells = (fold.name, fold.clips, value_text(uar), interval_text(uar), value_text(accuracy), fold.epochs)
        folds.append(cells)
    lines = [
        "# Cross-validation",
        "",
        f"{_PROTOCOLS[result.kind]} {evaluation.clips} clips of {evaluation.speakers} speakers, each evaluated once. "
        + caution(result),
        "",
        f"Intervals: {evaluation.interval.text}.",
        "",
        table(("Metric", "All folds", f"{100 * evaluation.interval.level:g} % interval"), metrics, right=(1,)),
        "",
        table(("Fold", "Clips", "UAR", "Interval", "Accuracy", "Epochs"), folds, right=(1, 2, 4, 5)),
    ]
    return "\n".join(lines) + "\n"


def caution(result: CrossValidation) -> str:
    """Return the limits of the numbers' validity; empty if there are none.

    Args:
        result: The cross-validation.
    """
    demo = summary.DEMO_CORPUS in result.data.corpora
    synthetic = "Synthetic speech is among the data: the metrics say nothing about human speech." if demo else ""
    return " ".join(filter(None, [synthetic, result.evaluation.interval.caution]))


def value_text(metric: Metric) -> str:
    """Return the value as text, in the unit of the metric.

    Args:
        metric: The metric.
    """
    return metric_text(metric.value, metric.name)


def interval_text(metric: Metric) -> str:
    """Return the limits of the interval as text; empty without an interval.

    Args:
        metric: The metric.
    """
    return range_text(metric.low, metric.high, metric.name)


def _to_html(result: CrossValidation, *, name: str, command: str, config: str) -> str:
    run = summary.Run(
        name=name, started=datetime.datetime.now(datetime.UTC), status="completed", command=command, config=config
    )
    protocol = summary.Protocol(kind="speaker", speakers={fold.name: fold.test for fold in result.folds})
    page = summary.RunSummary(run=run, protocol=protocol, data=result.data, evaluation=result.evaluation)
    head = html.Headline("plain", f"Cross-validation, {len(result.folds)} folds", _PROTOCOLS[result.kind])
    return html.render(page, head)
