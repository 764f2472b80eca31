"""Runner of the pipeline on this machine, with Beam's local runner and ML Metadata in a file."""

import datetime
import platform
import time
from importlib import metadata as packages
from pathlib import Path
from typing import Any, Literal

import yaml
from absl import logging as absl_logging
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.local import local_dag_runner

from components.drift_monitor.executor import DriftAlarm
from components.run_report import gather
from modules.common import interruption
from modules.common.files import write_whole
from modules.evaluation.predictions_table import PREDICTIONS_FILE
from modules.reporting import summary as reporting
from modules.reporting.advice import after_error
from modules.reporting.runs import RUNS_DIR, history, run_id
from modules.reporting.sound import embed
from modules.reporting.write import SUMMARY_FILE, write
from pipeline.caching import mark_code
from pipeline.config import PipelineConfig
from pipeline.create import RunnerSettings, create_pipeline
from pipeline.lineage import NodeRecord, code_version, latest_run
from pipeline.progress import ComponentProgress
from pipeline.run_lock import LOG_FILE, SERVING_DIR, exclusive
from serving.beam_workers import ending_with_lost_workers

_RECORDED_PACKAGES = ("tfx", "tensorflow", "keras", "keras-tuner", "apache-beam", "librosa", "numpy")


def run(config: PipelineConfig, *, data: Path, root: Path, command: str) -> reporting.RunSummary:
    """Run the whole DAG and write ``summary.json`` and ``report.html``, also when a component fails.

    They are kept in ``runs/<id>`` below ``root``; ``root`` has those of the newest run. After a completed run
    ``predictions.csv`` has the predictions for the test split.

    Args:
        config: Configuration.
        data: Folder of recordings.
        root: Folder of all output.
        command: Command line of the user, for the report.

    Returns:
        The summary; its ``run.status`` is ``failed`` when a component failed.

    Raises:
        RootInUse: Another run uses ``root``.
    """
    with exclusive(root):
        pipeline = mark_code(create_pipeline(config, _runner_settings(config, data, root)))
        started, started_sec = datetime.datetime.now(datetime.UTC), time.monotonic()
        progress = ComponentProgress(total=len(pipeline.components))
        failure = _execute(pipeline, progress)
        records = _records(pipeline)
        head = reporting.Run(
            name=config.name,
            started=started,
            seconds=time.monotonic() - started_sec,
            command=command,
            config=yaml.safe_dump(config.to_dict(), sort_keys=False),
            **_outcome(progress, failure),
        )
        summary = _read_summary(records, head, failure).model_copy(
            update={
                "run": head,
                "components": _components(records, progress),
                "lineage": _lineage(config, records),
                "history": history(root),
            }
        )
        wrong = summary.evaluation.errors if summary.evaluation else ()
        sounds = embed([clip.path for clip in wrong[: config.report.audio_clips]], data)
        for folder in (root / RUNS_DIR / run_id(started), root):
            write(summary, folder, sounds=sounds, links=True)
            _write_predictions(records, folder, failed=failure is not None)
        return summary


def _write_predictions(records: dict[str, NodeRecord], folder: Path, *, failed: bool) -> None:
    """Copy the predictions of the run's report next to the summary; remove those of an earlier run after a failure."""
    record = records.get("RunReport")
    if failed or record is None:
        (folder / PREDICTIONS_FILE).unlink(missing_ok=True)
        return
    write_whole(folder / PREDICTIONS_FILE, (Path(record.output("report").uri) / PREDICTIONS_FILE).read_text())


def _runner_settings(config: PipelineConfig, data: Path, root: Path) -> RunnerSettings:
    root = root.resolve()
    return RunnerSettings(
        input_base=str(data.resolve()),
        pipeline_root=str(root / "artifacts"),
        serving_dir=str(root / SERVING_DIR),
        beam_pipeline_args=(
            # Beam's default runner would first request a binary from the network, so that machines would differ.
            "--runner=FnApiRunner",
            f"--direct_running_mode={config.beam.mode}",
            f"--direct_num_workers={config.beam.workers}",
            # Without it TFX builds a source distribution of itself before each component.
            "--sdk_container_image=unused",
            *config.beam.args,  # the last of two values counts
        ),
        metadata=tfx_metadata.sqlite_metadata_connection_config(str(root / "metadata.sqlite")),
    )


def _execute(pipeline: tfx_pipeline.Pipeline, progress: ComponentProgress) -> Exception | None:
    absl_logger = absl_logging.get_absl_logger()
    absl_logger.addHandler(progress)
    try:
        with interruption.kept(), ending_with_lost_workers():
            local_dag_runner.LocalDagRunner().run(pipeline)
    except Exception as error:  # components raise any kind; it becomes the outcome of the run
        absl_logging.exception("%s failed", progress.running)
        progress.fail()
        return error
    finally:
        absl_logger.removeHandler(progress)
    return None


def _outcome(progress: ComponentProgress, failure: Exception | None) -> dict[str, Any]:
    if failure is None:
        return {"status": "completed"}
    return {
        "status": "failed",
        "failed_component": progress.running,
        "error": f"{type(failure).__name__}: {failure}",
        "next_step": after_error(failure, LOG_FILE),
    }


def _records(pipeline: tfx_pipeline.Pipeline) -> dict[str, NodeRecord]:
    with tfx_metadata.Metadata(pipeline.metadata_connection_config) as handle:
        return latest_run(handle.store, pipeline.pipeline_info.pipeline_name)


def _read_summary(
    records: dict[str, NodeRecord], head: reporting.Run, failure: Exception | None
) -> reporting.RunSummary:
    """Return the summary of the RunReport; of a run that the DriftMonitor stopped, its comparisons."""
    record = records.get("RunReport")
    if isinstance(failure, DriftAlarm):
        return reporting.RunSummary(run=head, drift=gather.drift(failure.folder))
    if head.status == "failed" or record is None:
        return reporting.RunSummary(run=head)
    return reporting.RunSummary.from_json((Path(record.output("report").uri) / SUMMARY_FILE).read_text())


def _components(records: dict[str, NodeRecord], progress: ComponentProgress) -> tuple[reporting.Component, ...]:
    return tuple(
        reporting.Component(
            name=name, seconds=seconds, state=_state(records.get(name), failed=name == progress.running)
        )
        for name, seconds in progress.seconds.items()
    )


def _state(record: NodeRecord | None, *, failed: bool) -> Literal["ran", "cached", "failed"]:
    if failed or record is None:
        return "failed"
    return "cached" if record.cached else "ran"


def _lineage(config: PipelineConfig, records: dict[str, NodeRecord]) -> reporting.Lineage:
    examples = records["AudioExampleGen"].outputs.get("examples") if "AudioExampleGen" in records else None
    properties = examples[0].custom_properties if examples else {}
    return reporting.Lineage(
        config_fingerprint=config.fingerprint,
        code_version=code_version(),
        python=platform.python_version(),
        packages={name: packages.version(name) for name in _RECORDED_PACKAGES},
        data_span=properties["span"].int_value if "span" in properties else None,
        data_fingerprint=properties["input_fingerprint"].string_value if "input_fingerprint" in properties else None,
    )
