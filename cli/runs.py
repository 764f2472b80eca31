"""``ser runs``: list, compare and open the kept runs of an output folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import terminal
from cli.errors import Refused
from cli.folders import require_folder

if TYPE_CHECKING:
    from modules.reporting.summary import RunSummary

app = typer.Typer(no_args_is_help=True, add_completion=False, help="List, compare and open the runs of a folder.")

Root = Annotated[Path, typer.Option(help="Output folder of the runs.")]
_OUTPUT = Path("output")
_UNKNOWN = ""


@app.command("list")
def list_runs(root: Root = _OUTPUT) -> None:
    """List the runs with verdict, UAR, span, model family and pushed version, the oldest first."""
    table = terminal.table("run", "verdict", "family", "version", numbers=("UAR", "95 % interval", "span"))
    for name, summary in _runs(root).items():
        table.add_row(name, _verdict(summary), _family(summary), _version(summary), *_uar(summary), _span(summary))
    terminal.console().print(table)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="Id of a run, as `ser runs list` prints it.")],
    second: Annotated[str, typer.Argument(help="Id of another run.")],
    root: Root = _OUTPUT,
) -> None:
    """Compare the metrics of two runs, and print the settings that differ."""
    runs = _runs(root)
    names = (first, second)
    before, after = (_named(runs, name) for name in names)
    metrics = terminal.table("metric", numbers=names)
    for row in _metric_rows(before, after):
        metrics.add_row(*row)
    terminal.console().print(metrics)
    settings = terminal.table("setting", *names, numbers=())
    for row in _setting_rows(before, after):
        settings.add_row(*row)
    terminal.console().print(settings)


@app.command("open")
def open_report(
    run: Annotated[str, typer.Argument(help="Id of the run; the newest one by default.", show_default=False)] = "",
    root: Root = _OUTPUT,
) -> None:
    """Print the address of a run's report, and open it in a browser where there is one."""
    from modules.reporting.runs import RUNS_DIR
    from modules.reporting.write import REPORT_FILE

    runs = _runs(root)
    name = run or next(reversed(runs))
    _named(runs, name)
    report = root / RUNS_DIR / name / REPORT_FILE
    terminal.print_line(str(report))
    typer.launch(str(report))


def _runs(root: Path) -> dict[str, "RunSummary"]:
    from modules.reporting.runs import RUNS_DIR, read_runs  # imports pydantic models

    require_folder(str(root), option="--root", advice="name the one that `runner_local.py --root` wrote")
    runs = dict(read_runs(root))
    if not runs:
        raise Refused(f"{root / RUNS_DIR} holds no run; start one with runner_local.py --data DIR --root {root}")
    return runs


def _named(runs: dict[str, "RunSummary"], name: str) -> "RunSummary":
    if name not in runs:
        raise Refused(f"{name} is not a run of this folder; allowed: {', '.join(runs)}")
    return runs[name]


def _verdict(summary: "RunSummary") -> str:
    if summary.run.status == "failed":
        return f"failed in {summary.run.failed_component}"
    if summary.verdict is None:
        return _UNKNOWN
    return "blessed" if summary.verdict.blessed else "rejected"


def _family(summary: "RunSummary") -> str:
    return summary.training.family if summary.training else _UNKNOWN


def _version(summary: "RunSummary") -> str:
    return summary.pushed.version if summary.pushed and summary.pushed.version else _UNKNOWN


def _uar(summary: "RunSummary") -> tuple[str, str]:
    from modules.reporting.metric_names import metric_text, range_text

    uar = summary.evaluation.metric("uar") if summary.evaluation else None
    if uar is None:
        return _UNKNOWN, _UNKNOWN
    return metric_text(uar.value, "uar"), range_text(uar.low, uar.high, "uar")


def _span(summary: "RunSummary") -> str:
    span = summary.lineage.data_span if summary.lineage else None
    return _UNKNOWN if span is None else str(span)


def _metric_rows(before: "RunSummary", after: "RunSummary") -> list[tuple[str, ...]]:
    from modules.reporting.metric_names import metric_name, metric_text

    values = [
        {metric.name: metric.value for metric in summary.evaluation.metrics} if summary.evaluation else {}
        for summary in (before, after)
    ]
    return [
        (metric_name(name).title, *(metric_text(of_run.get(name), name) for of_run in values))
        for name in dict.fromkeys([*values[0], *values[1]])
    ]


def _setting_rows(before: "RunSummary", after: "RunSummary") -> list[tuple[str, str, str]]:
    import yaml

    from modules.common.settings import plain
    from pipeline.config_sources import flatten

    first, second = (
        {".".join(path): plain(value) for path, value in flatten(yaml.safe_load(summary.run.config or "") or {})}
        for summary in (before, after)
    )
    keys = dict.fromkeys([*first, *second])
    return [
        (key, first.get(key, _UNKNOWN), second.get(key, _UNKNOWN)) for key in keys if first.get(key) != second.get(key)
    ]
