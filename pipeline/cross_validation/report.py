"""A cross-validation for people: Markdown, and the page that runs have too."""

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
    "speakers": "Leave-speakers-out: nobody was heard in training, early stopping or calibration of the model that "
    "judged them.",
    "corpus": "Leave-one-corpus-out: no recording of a corpus was heard by the model that was asked about it.",
}


def write(found: CrossValidation, root: Path, *, name: str, command: str, config: str) -> tuple[Path, Path, Path]:
    """Writes JSON, Markdown and HTML into ``root``, each whole or not at all, and returns their paths."""
    texts = {
        JSON_FILE: found.model_dump_json(indent=2) + "\n",
        MARKDOWN_FILE: to_markdown(found),
        HTML_FILE: _to_html(found, name=name, command=command, config=config),
    }
    for file, text in texts.items():
        write_whole(root / file, text)
    return root / JSON_FILE, root / MARKDOWN_FILE, root / HTML_FILE


def to_markdown(found: CrossValidation) -> str:
    """Two tables, metrics and folds, with what they stand for."""
    evaluation = found.evaluation
    metrics = [
        (metric_name(metric.name).title, value_text(metric), interval_text(metric)) for metric in evaluation.metrics
    ]
    folds = []
    for fold in found.folds:
        uar, accuracy = fold.metrics
        cells = (fold.name, fold.clips, value_text(uar), interval_text(uar), value_text(accuracy), fold.epochs)
        folds.append(cells)
    lines = [
        "# Cross-validation",
        "",
        f"{_PROTOCOLS[found.kind]} {evaluation.clips} clips of {evaluation.speakers} speakers, each judged once. "
        + caution(found),
        "",
        f"Intervals: {evaluation.interval.text}.",
        "",
        table(("Metric", "All folds", f"{100 * evaluation.interval.level:g} % interval"), metrics, right=(1,)),
        "",
        table(("Fold", "Clips", "UAR", "Interval", "Accuracy", "Epochs"), folds, right=(1, 2, 4, 5)),
    ]
    return "\n".join(lines) + "\n"


def caution(found: CrossValidation) -> str:
    """What keeps the numbers from being taken for more than they are; empty where nothing does."""
    demo = summary.DEMO_CORPUS in found.data.corpora
    synthetic = "Synthetic speech is among the data: this is not accuracy on people." if demo else ""
    return " ".join(filter(None, [synthetic, found.evaluation.interval.caution]))


def value_text(metric: Metric) -> str:
    """Return the value as text, in the unit of the metric."""
    return metric_text(metric.value, metric.name)


def interval_text(metric: Metric) -> str:
    """Return the limits of the interval as text; empty without an interval."""
    return range_text(metric.low, metric.high, metric.name)


def _to_html(found: CrossValidation, *, name: str, command: str, config: str) -> str:
    run = summary.Run(
        name=name, started=datetime.datetime.now(datetime.UTC), status="completed", command=command, config=config
    )
    protocol = summary.Protocol(kind="speaker", speakers={fold.name: fold.test for fold in found.folds})
    page = summary.RunSummary(run=run, protocol=protocol, data=found.data, evaluation=found.evaluation)
    head = html.Headline("plain", f"Cross-validation, {len(found.folds)} folds", _PROTOCOLS[found.kind])
    return html.render(page, head)
