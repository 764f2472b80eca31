"""Logging of runs by Google's own SDK, against a fake service that it reaches over TLS."""

import datetime

import grpc
import pytest
from google.cloud import aiplatform
from tfx.types import standard_artifacts

from components.artifacts import ENDPOINT_PROPERTY
from components.run_report import experiments, gather
from components.run_report.executor import outcome_line
from components.run_report.record import record
from modules.reporting import summary
from modules.reporting.html import render
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_metadata import Metadata
from tests.pipeline.vertex.terraform_files import local_values, resources

SETTINGS = experiments.ExperimentSettings(project="example-project", region="europe-west4", name="ser")
RUN = "ser-20270101120000-abc123"
CONFIG = {
    "name": "ser",
    "cache": True,
    "training": {"epochs": 50, "learning_rate": 0.001, "hyperparameters": {}},
    "splits": {"test_speakers": ["ravdess-01", "ravdess-02"]},
    "vertex": {"network": None},
}


def run_summary(*, uar: float = 0.4, version: str | None = "1700000000") -> summary.RunSummary:
    interval = summary.IntervalMethod(level=0.95, resamples=1000, seed=0, text="speakers")
    metrics = (
        summary.Metric(name="uar", value=uar, low=0.3, high=0.5),
        summary.Metric(name="log_loss", value=float("nan")),
        summary.Metric(name="uar", value=0.41, source="tfma"),
    )
    slices = tuple(
        summary.SliceResult(
            dimension=dimension, value=value, clips=7, speakers=1, metrics=(summary.Metric(name="uar", value=0.2),)
        )
        for dimension, value in (("sex", "female"), ("speaker", "ravdess-01"))
    )
    return summary.RunSummary(
        run=summary.Run(name="ser", started=datetime.datetime.now(datetime.UTC), status="completed", command=""),
        training=summary.Training(family="original_cnn", parameters=9, epochs_run=6, hyperparameters={"dropout": 0.1}),
        evaluation=summary.Evaluation(
            split="test", clips=7, speakers=2, classes=(), interval=interval, metrics=metrics, slices=slices
        ),
        verdict=summary.Verdict(blessed=version is not None),
        pushed=summary.Push(version=version, path=version and f"gs://models/ser/{version}"),
    )


def recorded(**values):
    return record(run_summary(**values), config=CONFIG, run=RUN, report="gs://runs/1/ser-1/RunReport_2/report")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server for all tests: gRPC reads the certificate authority once in a process."""
    with FakeVertex(tmp_path_factory.mktemp("vertex"), {}).in_environment() as fake:
        yield fake


@pytest.fixture
def metadata(served) -> Metadata:
    service = Metadata()
    served.reset({"metadata_service": service})
    return service


def logged(**values) -> summary.Logged:
    (logged_to,) = experiments.log(recorded(**values), [experiments.VertexExperiments(SETTINGS)])
    return logged_to


def test_the_configuration_is_flat():
    parameters = recorded().parameters
    assert parameters["training.epochs"] == 50
    assert parameters["cache"] is True
    assert parameters["splits.test_speakers"] == '["ravdess-01", "ravdess-02"]'
    assert parameters["training.hyperparameters"] == "{}"
    assert "vertex.network" not in parameters


def test_results_are_recorded_with_the_bounds_of_their_intervals():
    result = recorded()
    assert {name: value for name, value in result.metrics.items() if "uar" in name} == {
        "test_uar": 0.4, "test_uar_low": 0.3, "test_uar_high": 0.5, "test_uar_sex_female": 0.2,
    }  # fmt: skip
    assert result.metrics["blessed"] == 1
    assert "test_log_loss" not in result.metrics
    assert result.parameters["trained.dropout"] == 0.1
    assert result.parameters["pushed_version"] == "1700000000"
    assert result.parameters["report"].endswith("/report")


def test_drift_and_curves_are_recorded():
    training = summary.Training(
        family="original_cnn", parameters=9, epochs_run=3, kept_epoch=2, history={"val_loss": (0.9, 0.5, 0.7)}
    )
    drift = (
        summary.Drift(
            what="new data of span-3", drifted=True, p_value=0.01, current_clips=240,
            mean_ks=summary.Bounded(value=0.3, threshold=0.2),
        ),
        summary.Drift(what="requests", not_compared="the log is empty"),
    )  # fmt: skip
    results = run_summary().model_copy(update={"training": training, "drift": drift})
    metrics = record(results, config=CONFIG, run=RUN, report="").metrics
    assert {name: value for name, value in metrics.items() if "drift" in name or "epoch" in name} == {
        "epochs": 3, "kept_epoch": 2, "val_loss_at_kept_epoch": 0.5, "val_loss_at_last_epoch": 0.7,
        "drift_new_data": 1.0, "drift_new_data_p_value": 0.01, "drift_new_data_clips": 240,
        "drift_new_data_mean_ks": 0.3, "drift_new_data_mean_ks_limit": 0.2,
    }  # fmt: skip


def test_a_model_that_is_not_pushed_has_no_version():
    result = recorded(version=None)
    assert result.metrics["blessed"] == 0
    assert not [name for name in result.parameters if name.startswith("pushed")]


@pytest.mark.parametrize(
    ("endpoint", "where"),
    [("vertex://example/region/7", "--address vertex://example/region/7"), ("", "--model-base-path /models")],
)
def test_a_pushed_model_has_its_commands(endpoint, where):
    pushed = standard_artifacts.PushedModel()
    pushed.set_int_custom_property("pushed", 1)
    for name, value in (("pushed_version", "3"), ("pushed_destination", "/models/3"), (ENDPOINT_PROPERTY, endpoint)):
        pushed.set_string_custom_property(name, value)
    push = gather.push(pushed, summary.Verdict(blessed=True))
    assert (push.version, push.path, push.endpoint) == ("3", "/models/3", endpoint or None)
    assert push.commands[0] == f"ser predict {where} recording.wav"
    assert any("rollout status" in command for command in push.commands) == bool(endpoint)


def test_the_artifact_keeps_its_own_properties():
    artifact = standard_artifacts.ModelEvaluation()
    artifact.name, artifact.uri = "report", "/runs/1"
    (logged_to,) = experiments.log(recorded(), [experiments.ArtifactProperties(artifact)])
    assert (logged_to.where, logged_to.address, logged_to.error) == ("ML Metadata", "/runs/1", None)
    assert artifact.name == "report"
    assert artifact.get_string_custom_property("param.name") == "ser"
    assert artifact.get_int_custom_property("param.training.epochs") == 50
    assert artifact.get_float_custom_property("metric.test_uar_low") == 0.3


def test_an_experiment_gets_a_run_with_parameters_and_metrics(metadata):
    logged_to = logged()
    assert logged_to.error is None
    assert logged_to.address.startswith(
        "https://console.cloud.google.com/vertex-ai/experiments/locations/europe-west4/"
    )
    run = metadata.context(f"ser-{RUN}")
    assert metadata.children[metadata.context("ser").name] == [run.name]
    assert (run.display_name, run.schema_title) == (RUN, "system.ExperimentRun")
    kept = aiplatform.ExperimentRun(RUN, experiment="ser", project=SETTINGS.project, location=SETTINGS.region)
    assert kept.get_params() == recorded().parameters
    assert kept.get_metrics() == recorded().metrics
    assert kept.get_state() == aiplatform.gapic.Execution.State.COMPLETE.name


def test_no_tensorboard_is_made(served, metadata):
    logged()
    assert {name for name, _ in served.calls if name.startswith("create")} == {
        "create_metadata_store",
        "create_context",
    }


def test_a_retried_task_updates_its_run(metadata):
    logged(uar=0.4)
    assert logged(uar=0.45).error is None
    assert len(metadata.contexts) == 2
    assert metadata.context(f"ser-{RUN}").metadata["_metrics"]["test_uar"] == 0.45


@pytest.mark.parametrize("method", ["create_context", "add_context_children", "update_context"])
@pytest.mark.parametrize("trouble", ["fail_next", "lose_next"])
def test_a_request_is_repeated_while_unavailable(served, metadata, method, trouble):
    arguments = [grpc.StatusCode.UNAVAILABLE] if trouble == "fail_next" else []
    getattr(served, trouble)(method, *arguments)
    assert logged().error is None
    run = metadata.context(f"ser-{RUN}")
    assert len(metadata.contexts) == 2
    assert metadata.children[metadata.context("ser").name] == [run.name]
    assert run.metadata["_metrics"]["test_uar"] == 0.4


def test_a_refusal_is_reported_and_does_not_fail_the_run(served, metadata):
    served.fail_next("create_context", grpc.StatusCode.PERMISSION_DENIED, "aiplatform.contexts.create denied")
    artifact = standard_artifacts.ModelEvaluation()
    sinks = [experiments.VertexExperiments(SETTINGS), experiments.ArtifactProperties(artifact)]
    refused, kept = experiments.log(recorded(), sinks)
    assert "aiplatform.contexts.create denied" in refused.error  # the message of the service
    assert refused.address is None
    assert kept.error is None


def test_the_report_lists_logs_and_failures():
    logged = (
        summary.Logged(where="ML Metadata", address="/runs/1"),
        summary.Logged(where="Vertex AI Experiments", error="PermissionDenied: no"),
    )
    page = render(run_summary().model_copy(update={"logged": logged}))
    assert "ML Metadata: /runs/1" in page
    assert "Vertex AI Experiments: PermissionDenied: no" in page


@pytest.mark.parametrize("run", ["2027-01-01T12:00:00.123456", "ser_" + "x" * 200, "-Ser."])
def test_a_runs_name_is_valid_on_vertex(run):
    name = experiments.run_name(run, experiment="ser")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert 0 < len(f"ser-{name}") <= 121
    assert name[0] != "-" != name[-1]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"verdict": None, "pushed": None}, "verdict=none drift=no pushed=no"),
        ({"verdict": summary.Verdict(blessed=False)}, "verdict=rejected drift=no pushed=no"),
        (
            {
                "verdict": summary.Verdict(blessed=True),
                "drift": (summary.Drift(what="a"), summary.Drift(what="b", drifted=True)),
                "pushed": summary.Push(version="3"),
            },
            "verdict=blessed drift=yes pushed=yes",
        ),
    ],
)
def test_the_outcome_is_one_line_of_the_log(changes, line):
    run = summary.Run(name="ser", started=datetime.datetime.now(datetime.UTC), status="completed", command="")
    assert outcome_line(summary.RunSummary(run=run, **changes)) == f"ser-run-outcome {line}"


def test_the_alerts_of_terraform_look_for_words_of_that_line():
    run = summary.Run(name="ser", started=datetime.datetime.now(datetime.UTC), status="completed", command="")
    alarming = outcome_line(
        summary.RunSummary(
            run=run, verdict=summary.Verdict(blessed=False), drift=(summary.Drift(what="a", drifted=True),)
        )
    )
    assert all(outcome["words"] in alarming.split() for outcome in local_values()["run_outcomes"].values())
    pushed = outcome_line(summary.RunSummary(run=run, pushed=summary.Push(version="3")))
    terms = resources()["google_logging_metric", "pushed"]["filter"].replace('"', "").split(" AND ")
    assert set(terms) <= set(pushed.split())
