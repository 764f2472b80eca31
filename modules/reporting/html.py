"""``report.html``: one self-contained page, no script and no request to anywhere, for screen, phone and paper."""

import dataclasses
import datetime
from pathlib import Path

import jinja2
from markupsafe import Markup

from modules.data.labels import EMOTIONS
from modules.reporting import charts
from modules.reporting.metric_names import metric_name
from modules.reporting.summary import Data, Evaluation, Metric, RunSummary, SliceResult, split_order

TEMPLATE_FILE = "report.html.j2"
STYLE_FILE = "report.css"
MISSING = "\u2013"
THIN_SPACE = "\u202f"
MINUS = "\u2212"
MAX_LISTED = 200  # of quarantined clips and duplicates; summary.json holds them all
MAX_TRIALS = 25
MIN_SPEAKERS = 4  # an interval from fewer is little more than the range of their own values
MAX_ERROR_LINES = 60
RERUN = "Mend the cause and run the same command again: what had finished is taken from the cache."


@dataclasses.dataclass(frozen=True)
class Headline:
    """The outcome in plain words. ``tone`` is a class of the style sheet: good, bad or plain."""

    tone: str
    title: str
    sentence: str


def render(summary: RunSummary, head: Headline | None = None) -> str:
    """The report of a run, complete or not, as an HTML document; ``head`` takes the place of the run's outcome."""
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
            charts=charts,
            MIN_SPEAKERS=MIN_SPEAKERS,
            MAX_LISTED=MAX_LISTED,
            MAX_TRIALS=MAX_TRIALS,
            MAX_ERROR_LINES=MAX_ERROR_LINES,
            RERUN=RERUN,
        )
    )


def headline(summary: RunSummary) -> Headline:
    """What a person wants to know first."""
    run, verdict, pushed = summary.run, summary.verdict, summary.pushed
    if run.status == "failed":
        where = f"Failed in {run.failed_component}" if run.failed_component else "Failed"
        what = "The model had been pushed by then." if pushed and pushed.version else "Nothing was pushed."
        return Headline("bad", where, f"The run stopped before its end. {what}")
    if verdict is None:
        return Headline("plain", "Completed without a verdict", "No model was judged, so none was pushed.")
    if not verdict.blessed:
        return Headline("bad", "Rejected", "The model is not good enough. It was not pushed; what was served stays.")
    if pushed is None or pushed.version is None:
        why = (pushed and pushed.reason) or "No push was asked for."
        return Headline("good", "Blessed, not pushed", why)
    return Headline("good", "Blessed and pushed", f"The model passed every check and is version {pushed.version}.")


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
        "metric": metric_text,
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
    }
    return environment


def _short(value: float | None) -> str:
    """Counts as they are, shares and differences with three decimals."""
    if value is None:
        return MISSING
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3f}"


def percent(share: float | None, digits: int = 1) -> str:
    return MISSING if share is None else f"{100 * share:.{digits}f}{THIN_SPACE}%"


def metric_text(value: float | None, name: str) -> str:
    """``value`` in the unit that the metric called ``name`` is read in."""
    if value is None:
        return MISSING
    return percent(value) if metric_name(name).percent else f"{value:.3f}".replace("-", MINUS)


def interval_text(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return ""
    if metric_name(metric.name).percent:
        return f"{100 * metric.low:.1f} to {percent(metric.high)}"
    return f"{metric_text(metric.low, metric.name)} to {metric_text(metric.high, metric.name)}"


def difference_text(value: float | None, name: str, unit: bool = True) -> str:
    """Signed; a difference of percentages is in percentage points."""
    if value is None:
        return MISSING
    number = f"{100 * value:+.1f}" if metric_name(name).percent else f"{value:+.3f}"
    points = f"{THIN_SPACE}pp" if unit and metric_name(name).percent else ""
    return number.replace("-", MINUS) + points


def score_text(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4f}".replace("-", MINUS)


def scalar_text(value: object) -> object:
    if value is None:
        return MISSING
    return f"{value:.6g}" if isinstance(value, float) else value


def duration_text(seconds: float | None) -> str:
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
    return f"{count:,}".replace(",", THIN_SPACE)


def moment_text(moment: datetime.datetime) -> str:
    zone = moment.strftime(" %Z") if moment.tzinfo else ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"


def _frequent_confusions(evaluation: Evaluation | None, most: int = 3) -> list[tuple[str, str, float]]:
    """True emotion, emotion heard instead, share of the true emotion's clips; the largest shares first."""
    if evaluation is None:
        return []
    pairs = [
        (true, heard, row[column] / sum(row))
        for true, row in zip(evaluation.classes, evaluation.confusion, strict=False)
        for column, heard in enumerate(evaluation.classes)
        if heard != true and row[column]
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]


def _slice_groups(evaluation: Evaluation | None) -> dict[str, list[SliceResult]]:
    """Slices by dimension. Speakers, of whom there may be many, go last, the worst first."""
    groups: dict[str, list[SliceResult]] = {}
    for each in evaluation.slices if evaluation else ():
        groups.setdefault(each.dimension, []).append(each)
    if "speaker" in groups:
        groups["speaker"] = sorted(groups.pop("speaker"), key=_slice_uar)
    return groups


def _speaker_count(summary: RunSummary) -> int:
    """Speakers of all splits; in a split by random clips one speaker is in several."""
    named = {name for names in summary.protocol.speakers.values() for name in names} if summary.protocol else set()
    counts = [split.speakers for split in summary.data.splits] if summary.data else []
    if named:
        return len(named)
    by_speaker = summary.protocol is None or summary.protocol.kind == "speaker"
    return sum(counts) if by_speaker else max(counts, default=0)


def _slice_uar(each: SliceResult) -> float:
    metric = each.metric("uar")
    return metric.value if metric and metric.value is not None else -1.0


def _label_balance(data: Data | None) -> list[tuple[str, dict[str, int]]]:
    """Clips of each emotion by split."""
    if data is None:
        return []
    found = {emotion for split in data.splits for emotion in split.by_emotion}
    names = [emotion for emotion in EMOTIONS if emotion in found] + sorted(found - set(EMOTIONS))
    splits = sorted(data.splits, key=lambda split: split_order(split.split))
    return [(name, {split.split: split.by_emotion.get(name, 0) for split in splits}) for name in names]
