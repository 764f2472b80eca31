"""The files that TF Serving is started with in production."""

import importlib.metadata
import os
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.client import Client
from serving.server.options import (
    ServerConfigError,
    ServerOptions,
    read_batching,
    read_metrics_path,
    read_models,
)

SERVING = Path(__file__).parents[3] / "serving"
CONFIG = SERVING / "config"
ENTRYPOINT = SERVING / "container" / "entrypoint.sh"


def entrypoint(tmp_path, *arguments, **variables):
    """Run the entrypoint with a ``tensorflow_model_server`` that prints its flags."""
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    binary.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SER_CONFIG_DIR": str(CONFIG), **variables}
    command = ["sh", str(ENTRYPOINT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_embedded_server_starts_from_the_production_files(run_server, push, tmp_path, wav_bytes):
    push(tmp_path / "pushed", 7)
    running = run_server(
        model_config_file=CONFIG / "models.config",
        model_base_path=tmp_path / "pushed",
        batching_parameters_file=CONFIG / "batching.config",
        monitoring_config_file=CONFIG / "monitoring.config",
    )
    with Client(running.address) as client:
        assert client.predict(wav_bytes).model_version == 7
    running.stop()


def test_the_model_has_the_clients_default_name():
    (model,) = read_models(ServerOptions(model_config_file=CONFIG / "models.config")).model_config_list.config
    assert (model.name, model.base_path) == ("ser", "/models/ser")


def test_the_entrypoint_alone_serves_the_configured_models(tmp_path):
    flags = entrypoint(tmp_path, "--max_num_load_retries=1").stdout.split()
    assert "--port=8500" in flags
    assert "--rest_api_port=8501" in flags
    assert f"--model_config_file={CONFIG}/models.config" in flags
    assert "--allow_version_labels_for_unavailable_models=true" in flags
    assert flags[-1] == "--max_num_load_retries=1"
    for flag in flags:
        name, _, value = flag.partition("=")
        assert not name.endswith("_file") or Path(value).is_file()


def test_the_entrypoint_uses_the_variables_of_vertex(tmp_path):
    flags = entrypoint(
        tmp_path,
        AIP_HTTP_PORT="8080",
        AIP_STORAGE_URI="gs://bucket/model",
        AIP_HEALTH_ROUTE="/v1/models/ser",
        AIP_PREDICT_ROUTE="/v1/models/ser:predict",
    ).stdout.split()
    assert {"--rest_api_port=8080", "--model_name=ser", "--model_base_path=gs://bucket/model"} <= set(flags)
    assert not any(flag.startswith("--model_config_file") for flag in flags)
    # The default lists the bucket every second, although its content does not change.
    assert [flag for flag in flags if "poll" in flag] == ["--file_system_poll_wait_seconds=0"]


@pytest.mark.parametrize("variable", ["AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"])
def test_the_entrypoint_refuses_other_routes(tmp_path, variable):
    finished = entrypoint(tmp_path, **{variable: "/predict"})
    assert finished.returncode == 64
    assert f"{variable} is /predict" in finished.stderr


def test_the_image_is_of_the_release_whose_api_is_locked():
    version = importlib.metadata.version("tensorflow-serving-api")
    assert f"ARG SERVING_IMAGE=tensorflow/serving:{version}" in (SERVING / "container" / "Dockerfile").read_text()


def test_batching_has_tf_servings_defaults(tmp_path):
    (tmp_path / "empty.config").write_text("")
    options = read_batching(tmp_path / "empty.config")
    assert (options.max_batch_size, options.timeout_sec, options.max_enqueued_batches) == (1000, 0, 10)
    assert read_batching(None) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("max_batch_sizes { value: 1 }", "BatchingParameters"),
        ("max_batch_size { value: 0 }", "max_batch_size is 0"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 2", r"allowed_sizes is \[2\].* 4"),
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs is true"),
    ],
)
def test_unusable_batching_parameters_are_refused(tmp_path, text, value):
    (tmp_path / "batching.config").write_text(text)
    with pytest.raises(ServerConfigError, match=value):
        read_batching(tmp_path / "batching.config")


def test_metrics_can_be_switched_off(tmp_path):
    (tmp_path / "monitoring.config").write_text("prometheus_config { enable: false }")
    assert read_metrics_path(tmp_path / "monitoring.config") is None


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"model_base_path": None}, "model_base_path nor model_config_file"),
        ({"tls_key_file": Path("key.pem")}, "tls_certificate_file and tls_key_file"),
        ({"request_log_rate": 2}, "request_log_rate"),
        ({"port": 99_999}, "port"),
    ],
)
def test_impossible_options_are_refused(tmp_path, options, value):
    with pytest.raises(ValidationError, match=value):
        ServerOptions(**({"model_base_path": tmp_path} | options))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ServerConfigError, match=str(tmp_path / "none")):
        read_models(ServerOptions(model_config_file=tmp_path / "none"))
