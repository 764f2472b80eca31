"""``ser drift``: compare new recordings, examples or requests with the training data of a model."""

import json
import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from cli import terminal
from cli.errors import Refused
from cli.exits import ExitCode
from cli.folders import require_folder
from cli.options import require_finite
from components.drift_monitor.endpoint_log import DEFAULT_PART, Newest
from modules.common.bigquery_table import is_table
from modules.common.native_output import discarded_native_stderr
from modules.drift.settings import DriftSettings
from serving.rollout.resolve import is_endpoint

if TYPE_CHECKING:
    from components.audio_example_gen.settings import IngestSettings
    from components.drift_monitor.comparators import Difference
    from components.drift_monitor.comparison import Comparison
    from components.drift_monitor.sources import Clips
    from modules.drift.report import Compared, DriftReport

app = typer.Typer(add_completion=False)

_DEFAULTS = DriftSettings()

_ROWS = 15
_PLACE = (
    "Folder, local or gs://, of recordings, of an AudioExampleGen's examples or of a server's request log; or "
    "bq://PROJECT.DATASET.TABLE, the log of a Vertex AI endpoint."
)
_MODELS = (
    "Or pushed models, as a folder of versions, a version or vertex://PROJECT/REGION/ENDPOINT: the examples that the "
    "newest or the stable one was trained on."
)


@app.command()
def drift(
    reference: Annotated[str, typer.Argument(help=f"Training data. {_PLACE} {_MODELS}")],
    current: Annotated[str, typer.Argument(help=f"New data. {_PLACE}")],
    split: Annotated[Literal["train", "eval", "test", "all"], typer.Option(help="Split of examples.")] = "train",
    false_alarm_rate: Annotated[
        float, typer.Option(help="Share of comparisons without drift that may alarm.")
    ] = _DEFAULTS.false_alarm_rate,
    permutations: Annotated[
        int, typer.Option(help="Number of speaker permutations that set the thresholds.")
    ] = _DEFAULTS.permutations,
    model: Annotated[
        str | None,
        typer.Option(help="Exported model with the audio spec and limits to use.", show_default="the recipe's"),
    ] = None,
    model_id: Annotated[str, typer.Option(help="ID of the model in Vertex AI's registry.")] = "ser",
    days: Annotated[
        float,
        typer.Option(min=0.001, help="Days of requests to read from a BigQuery table.", callback=require_finite),
    ] = DEFAULT_PART.days,
    rows: Annotated[
        int, typer.Option(min=1, help="Most rows to read from a BigQuery table, newest first.")
    ] = DEFAULT_PART.rows,
    seed: Annotated[int, typer.Option(help="Seed; equal seeds give equal results.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare two samples of recordings: exit code 0 when they differ no more than by chance, 3 when they drifted."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from pydantic import ValidationError

    from modules.common.settings import explain

    try:
        settings = DriftSettings(false_alarm_rate=false_alarm_rate, permutations=permutations, seed=seed)
    except ValidationError as error:
        raise Refused(explain(error, DriftSettings)) from error
    for place in (reference, current):
        if not is_table(place) and not (place is reference and is_endpoint(place)):
            require_folder(place, advice="name recordings, examples or a request log")
    try:
        with discarded_native_stderr():
            reference = _training_examples(reference, model_id)
            comparison = _compare(reference, current, split, Newest(days, rows), model, settings)
    except ValueError as error:  # NotComparable among them
        raise Refused(str(error)) from error
    if as_json:
        typer.echo(json.dumps(comparison.to_dict(), indent=2, allow_nan=False))
    else:
        _print(comparison)
    if comparison.drifted:
        raise typer.Exit(ExitCode.DIFFERENT)


def _training_examples(reference: str, model_id: str) -> str:
    """Return the examples that pushed models were trained on; another reference as it is."""
    from components.drift_monitor.reference import names_model, training_examples

    if is_table(reference) or not names_model(reference):
        return reference
    recorded = training_examples(reference, model_id=model_id)
    if not recorded:
        raise Refused(
            f"the model of {reference} does not carry the address of its training examples; push it again, or name the "
            "examples"
        )
    return recorded[0]


def _compare(
    reference: str, current: str, split: str, newest: Newest, model: str | None, settings: "DriftSettings"
) -> "Comparison":
    # Imported here: TensorFlow takes longer to load than `ser drift --help` takes to answer.
    import schema
    from components.audio_example_gen.settings import IngestSettings
    from components.drift_monitor import sources
    from components.drift_monitor.comparison import compare
    from modules.data.labels import LabelSettings
    from modules.export.contract import Contract, load_contract
    from pipeline.config import PipelineConfig

    specs = {place: sources.spec_of_examples(place) for place in (reference, current) if sources.holds_examples(place)}
    config = PipelineConfig()
    contract = Contract(next(iter(specs.values()), config.audio), config.labels.emotions, config.limits)
    if model is not None:
        contract = load_contract(model)
    spec = contract.audio_spec
    for place, other in specs.items():
        spec.require_same(other.fingerprint, whose=place)
    ingest = IngestSettings(audio=spec, limits=contract.limits, labels=LabelSettings(emotions=contract.labels))
    first, second = (_read(place, ingest, split, newest) for place in (reference, current))
    curated = schema.load(spec)
    schema.set_emotions(curated, contract.labels)
    return compare(first, second, curated, settings)


def _read(place: str, ingest: "IngestSettings", split: str, newest: Newest) -> "Clips":
    from components.drift_monitor import sources

    if sources.holds_examples(place):
        return sources.read_clips(place, split=None if split == "all" else split)
    if sources.holds_request_log(place):
        return sources.read_requests(place, spec=ingest.audio, limits=ingest.limits, newest=newest)
    return sources.read_recordings(place, settings=ingest).clips


def _print(comparison: "Comparison") -> None:
    for line in _summary(comparison):
        terminal.print_line(line)
    terminal.console().print(_features_table(comparison.report))
    if comparison.differences:
        terminal.console().print(_schema_table(comparison.differences))


def _features_table(report: "DriftReport") -> Table:
    head = "most drifted" if report.drifted_features else "largest differences"
    table = terminal.table(head, numbers=("KS", "limit", "median", "reference median"))
    for feature in report.features[:_ROWS]:
        medians = f"{feature.current_median:.4g}", f"{feature.reference_median:.4g}"
        table.add_row(feature.name, *_texts(feature.ks), *medians, style="bold" if feature.drifted else None)
    return table


def _schema_table(differences: "tuple[Difference, ...]") -> Table:
    table = terminal.table("by the schema", numbers=("JS", "limit"))
    for each in differences:
        value = f"{each.jensen_shannon:.3f}{'!' if each.exceeded else ' '}"
        table.add_row(each.feature, value, f"{each.threshold:g}", style="bold" if each.exceeded else None)
    return table


def _texts(compared: "Compared") -> tuple[str, str]:
    return f"{compared.value:.3f}{'!' if compared.drifted else ' '}", f"{compared.threshold:.3f}"


def _summary(comparison: "Comparison") -> list[str]:
    """Return the verdict, its reasons, and what was compared."""

    def size(clips: int, speakers: int | None) -> str:
        return f"{clips} clips of {'unknown' if speakers is None else speakers} speakers"

    report = comparison.report
    reference, current = (
        size(report.reference_clips, report.reference_speakers),
        size(report.current_clips, report.current_speakers),
    )
    rate = report.settings.false_alarm_rate
    no_drift = f"No drift: chance explains the differences (false-alarm rate {rate:g})."
    return [
        "Drifted." if comparison.drifted else no_drift,
        *comparison.reasons,
        f"{current} against {reference}, {report.shared_speakers} of them in both; p = {report.p_value:.3f}",
    ]
