"""``report.html``: one self-contained page without scripts and network requests, for screen, phone and paper."""

import dataclasses
import datetime
import functools
import os
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import jinja2
from markupsafe import Markup

from modules.common.addresses import in_bucket
from modules.common.digest import digest
from modules.reporting import charts, first_screen
from modules.reporting.acceptance import test_rows
from modules.reporting.metric_names import metric_name, metric_text, range_text
from modules.reporting.summary import (
    MIN_INTERVAL_SPEAKERS,
    Data,
    Evaluation,
    Metric,
    RunSummary,
    SliceResult,
    split_order,
)

TEMPLATE_FILE = "report.html.j2"
STYLE_FILE = "report.css"
MISSING = "\u2013"
THIN_SPACE = "\u202f"
MINUS = "\u2212"
MAX_LISTED = 200  # quarantined clips and duplicates; summary.json has all of them
MAX_TRIALS = 25
MAX_ERRORS = 20
_LEAST_SHOWN = 0.001
MAX_ERROR_LINES = 60
RERUN = "Fix the cause and run the same command again; finished steps are taken from the cache."


@dataclasses.dataclass(frozen=True)
class Headline:
    """Outcome of a run.

    Attributes:
        tone: Class of the style sheet: ``good``, ``bad`` or ``plain``.
        title: Outcome in a few words.
        sentence: Outcome in a sentence.
    """

    tone: str
    title: str
    sentence: str


def render(
    summary: RunSummary,
    head: Headline | None = None,
    *,
    sounds: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Return the report of a run, complete or not, as an HTML document.

    Args:
        summary: Summary of the run.
        head: Headline in place of the run's outcome.
        sounds: Addresses of the scheme ``data:`` of recordings, by path.
        folder: Folder of the report, from which local files are linked; None links none.
    """
    return (
        _environment()
        .get_template(TEMPLATE_FILE)
        .render(
            summary=summary,
            headline=head or headline(summary),
            style=Markup(Path(__file__).with_name(STYLE_FILE).read_text(encoding="utf-8")),
            confusions=_frequent_confusions(summary.evaluation),
            slices=_slice_groups(summary.evaluation),
            balance=_label_balance(summary.data),
            speaker_count=_speaker_count(summary),
            first_screen=first_screen,
            test_rows=test_rows,
            sounds=sounds or {},
            link=functools.partial(link, folder=folder),
            charts=charts,
            MIN_SPEAKERS=MIN_INTERVAL_SPEAKERS,
            MAX_ERRORS=MAX_ERRORS,
            MAX_LISTED=MAX_LISTED,
            MAX_TRIALS=MAX_TRIALS,
            MAX_ERROR_LINES=MAX_ERROR_LINES,
            RERUN=RERUN,
        )
    )


def headline(summary: RunSummary) -> Headline:
    """Return the outcome of a run."""
    run, verdict, pushed = summary.run, summary.verdict, summary.pushed
    if run.status == "failed":
        where = f"Failed in {run.failed_component}" if run.failed_component else "Failed"
        what = "The model was already pushed." if pushed and pushed.version else "Nothing was pushed."
        return Headline("bad", where, f"The run stopped before its end. {what}")
    if verdict is None:
        return Headline("plain", "Completed without a verdict", "No model was evaluated, so none was pushed.")
    if not verdict.blessed:
        return Headline("bad", "Rejected", "A check failed. Nothing was pushed; the served version stays.")
    if pushed is None or pushed.version is None:
        why = (pushed and pushed.reason) or "The run has no push."
        return Headline("good", "Blessed, not pushed", why)
    return Headline("good", "Blessed and pushed", f"The model passed every check and is version {pushed.version}.")


def link(address: str | None, *, folder: Path | None) -> str | None:
    """Return a relative link to a local file; None for other addresses.

    Args:
        address: Path or address of the file.
        folder: Folder of the page; None for a page that may lie anywhere.
    """
    if address is None or folder is None or in_bucket(address):
        return None
    return urllib.parse.quote(os.path.relpath(address, folder.resolve()))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "metric": _metric_text,
        "interval": interval_text,
        "difference": difference_text,
        "duration": duration_text,
        "count": count_text,
        "moment": moment_text,
        "name": metric_name,
        "splits": lambda splits: sorted(splits, key=lambda split: split_order(split.split)),
        "scalar": scalar_text,
        "score": score_text,
        "short": _short,
        "digest": digest,
        "typeset": _typeset,
        "commands": _commands,
    }
    return environment


def _short(value: float | None) -> str:
    """Return counts as they are, shares and differences with three decimals, less than a thousandth with one digit."""
    if value is None:
        return MISSING
    if float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) >= _LEAST_SHOWN else f"{value:.1g}"


def _commands(text: str) -> Markup:
    """Return a text whose parts between backticks are set as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts)
    )


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share, 0 to 1, as a percentage."""
    return MISSING if share is None else f"{100 * share:.{digits}f}{THIN_SPACE}%"


def _metric_text(value: float | None, name: str) -> str:
    return _typeset(metric_text(value, name, missing=MISSING))


def _typeset(text: str) -> str:
    return re.sub(r"(?<=\d)%", f"{THIN_SPACE}%", text.replace("-", MINUS))


def interval_text(metric: Metric) -> str:
    """Return the limits of the interval; empty without an interval."""
    return _typeset(range_text(metric.low, metric.high, metric.name).replace("% to", " to"))


def difference_text(value: float | None, name: str, unit: bool = True) -> str:
    """Return a signed difference; that of percentages is in percentage points.

    Args:
        value: Difference of values of the metric.
        name: Name of the metric.
        unit: Whether the unit follows.
    """
    if value is None:
        return MISSING
    number = f"{100 * value:+.1f}" if metric_name(name).percent else f"{value:+.3f}"
    points = f"{THIN_SPACE}pp" if unit and metric_name(name).percent else ""
    return number.replace("-", MINUS) + points


def score_text(value: float | None) -> str:
    """Return the score of a trial with four decimals."""
    return MISSING if value is None else f"{value:.4f}".replace("-", MINUS)


def scalar_text(value: object) -> object:
    """Return a hyperparameter for display, numbers with six digits."""
    if value is None:
        return MISSING
    return f"{value:.6g}" if isinstance(value, float) else value


def duration_text(seconds: float | None) -> str:
    """Return a duration in seconds, minutes or hours."""
    if seconds is None:
        return MISSING
    if seconds < 10:
        return f"{seconds:.1f}{THIN_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest}{THIN_SPACE}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def count_text(count: int) -> str:
    """Return a count with separated thousands."""
    return f"{count:,}".replace(",", THIN_SPACE)


def moment_text(moment: datetime.datetime) -> str:
    """Return date and time, with the zone if it is known."""
    zone = moment.strftime(" %Z") if moment.tzinfo else ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"


def _frequent_confusions(evaluation: Evaluation | None, most: int = 3) -> list[tuple[str, str, float]]:
    """Return true emotion, predicted emotion and share of the true emotion's clips, the largest shares first."""
    if evaluation is None:
        return []
    pairs = [
        (true, predicted, row[column] / sum(row))
        for true, row in zip(evaluation.classes, evaluation.confusion, strict=False)
        for column, predicted in enumerate(evaluation.classes)
        if predicted != true and row[column]
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]


def _slice_groups(evaluation: Evaluation | None) -> dict[str, list[SliceResult]]:
    """Return slices by dimension; speakers, of which there may be many, are last, the lowest UAR first."""
    groups: dict[str, list[SliceResult]] = {}
    for each in evaluation.slices if evaluation else ():
        groups.setdefault(each.dimension, []).append(each)
    if "speaker" in groups:
        groups["speaker"] = sorted(groups.pop("speaker"), key=first_screen.slice_uar)
    return groups


def _speaker_count(summary: RunSummary) -> int:
    """Return the number of speakers of all splits; with random clips a speaker is in several splits."""
    named = {name for names in summary.protocol.speakers.values() for name in names} if summary.protocol else set()
    counts = [split.speakers for split in summary.data.splits] if summary.data else []
    if named:
        return len(named)
    by_speaker = summary.protocol is None or summary.protocol.kind == "speaker"
    return sum(counts) if by_speaker else max(counts, default=0)


def _label_balance(data: Data | None) -> list[tuple[str, dict[str, int]]]:
    """Return the clips of each emotion by split."""
    if data is None:
        return []
    present = {emotion for split in data.splits for emotion in split.by_emotion}
    names = sorted(present)
    splits = sorted(data.splits, key=lambda split: split_order(split.split))
    return [(name, {split.split: split.by_emotion.get(name, 0) for split in splits}) for name in names]
