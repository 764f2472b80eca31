"""Prometheus and Alertmanager on the project's servers: alert rules, dashboard, and alerts that arrive."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from modules.reporting.summary import Check, Drift, Evaluation, IntervalMethod, Metric, Run, RunSummary, Verdict
from serving.client import Client
from serving.monitor import Exporter, MonitorError, export
from serving.server.options import METRICS_PATH, read_metrics_path
from tests.exports import export_random_model
from tests.paths import ROOT
from tests.tools import tool

MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboards" / "serving.json").read_text())
RULES = [rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
PUSHED_SEC = 1_700_000_000
DEADLINE_SEC = 180


def run_tool(*words):
    program = tool(f"monitoring/usr/bin/{words[0]}")
    return subprocess.run([program, *words[1:]], cwd=MONITORING, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [
        ("promtool", "check", "config", "prometheus.yml"),
        ("promtool", "check", "rules", "alerts.yml"),
        ("promtool", "test", "rules", "alerts_test.yml"),
        ("amtool", "check-config", "alertmanager.yml"),
    ],
    ids=" ".join,
)
def test_the_tools_of_prometheus_accept_the_files(command):
    done = run_tool(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_to_stay_quiet():
    tests = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_prometheus_scrapes_where_the_metrics_are():
    jobs = {
        job["job_name"]: job for job in yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    }
    configured = read_metrics_path(ROOT / "serving" / "config" / "monitoring.config")
    assert jobs["ser-serving"]["metrics_path"] == configured == METRICS_PATH


def a_run(**changes) -> RunSummary:
    """Return a run that failed, found drift, and whose model was rejected."""
    interval = IntervalMethod(level=0.95, resamples=10, seed=0, text="")
    return RunSummary(
        run=Run(name="ser", started="2026-01-02T03:04:05Z", seconds=10, status="failed", command="test"),
        verdict=Verdict(blessed=False, checks=(Check(code="a", name="a", passed=False, text=""),)),
        drift=(Drift(what="examples", drifted=True),),
        evaluation=Evaluation(
            split="test",
            clips=1,
            speakers=1,
            classes=("a",),
            interval=interval,
            metrics=(Metric(name="uar", value=0.5),),
        ),
    ).model_copy(update=changes)


def samples(exporter: Exporter) -> dict[str, float]:
    return {sample.name: sample.value for family in exporter.collect() for sample in family.samples}


def test_the_exporter_shows_the_last_run(tmp_path):
    exporter = Exporter(tmp_path, "http://127.0.0.1:9", "ser")
    assert samples(exporter) == {"ser_run_summary_readable": 0, "ser_model_versions_ready": 0}
    (tmp_path / "summary.json").write_text(a_run().to_json())
    assert samples(exporter) == {
        "ser_run_summary_readable": 1,
        "ser_run_end_timestamp_seconds": 1767323055,
        "ser_run_failed": 1,
        "ser_run_drifted": 1,
        "ser_run_rejected": 1,
        "ser_run_test_uar": 0.5,
        "ser_model_versions_ready": 0,
    }
    (tmp_path / "summary.json").write_text(a_run(verdict=None, evaluation=None, drift=()).to_json())
    assert not {"ser_run_rejected", "ser_run_test_uar"} & set(samples(exporter))
    assert samples(exporter)["ser_run_drifted"] == 0


def test_the_exporter_refuses_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(MonitorError) as refused:
        export(Exporter(tmp_path, "http://127.0.0.1:9", "ser"), host="127.0.0.1", port=taken.getsockname()[1])
    assert refused.value.code == "monitor.not_started"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [taken.getsockname()[1] for taken in sockets]


def wait_for(condition, what: str):
    """Return the first true result of ``condition``; a server that is still starting counts as false."""
    deadline_sec = time.monotonic() + DEADLINE_SEC
    while time.monotonic() < deadline_sec:
        with contextlib.suppress(httpx.HTTPError):
            if result := condition():
                return result
        time.sleep(0.2)
    pytest.fail(f"not within {DEADLINE_SEC} s: {what}")


class Stack:
    """`ser serve`, `ser monitor`, Prometheus and Alertmanager, as processes on free ports of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.grpc, self.rest, self.monitor, self.prometheus, self.alertmanager = free_ports(5)
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        shutil.copytree(MONITORING, self.folder / "monitoring")
        self._write_targets()
        self._start_ser("serve", "--model-base-path", "serving", "--port", self.grpc, "--rest-api-port", self.rest,
                        "--batching-parameters-file", ROOT / "serving/config/batching.config")  # fmt: skip
        self._start_ser("monitor", "--root", ".", "--address", f"http://127.0.0.1:{self.rest}", "--port", self.monitor)
        self._start("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
                    f"--web.listen-address=127.0.0.1:{self.prometheus}")  # fmt: skip
        self._start("prometheus-alertmanager", f"--config.file={self.folder}/monitoring/alertmanager.yml",
                    f"--storage.path={self.folder}/alerts", f"--web.listen-address=127.0.0.1:{self.alertmanager}",
                    "--cluster.listen-address=")  # fmt: skip

    def _write_targets(self) -> None:
        """Name the ports, and scrape each second."""
        folder = self.folder / "monitoring"
        for name in ("monitor", "alertmanager"):
            (folder / f"targets/{name}.yml").write_text(json.dumps([{"targets": [f"127.0.0.1:{getattr(self, name)}"]}]))
        (folder / "targets/serving.yml").write_text(json.dumps([{"targets": [f"127.0.0.1:{self.rest}"]}]))
        config = yaml.safe_load((folder / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def _start_ser(self, *words) -> None:
        self._popen(
            words[0], [sys.executable, "-c", "from cli.main import main; main()", *map(str, words)], self.folder
        )

    def _start(self, name: str, *words: str) -> None:
        program = tool(f"monitoring/usr/bin/{name}")
        # Alertmanager finds its template relative to the folder that it was unpacked in.
        folder = program.parents[2] if name == "prometheus-alertmanager" else self.folder / "monitoring"
        self._popen(name, [str(program), *words], folder)

    def _popen(self, name: str, command: list[str], folder: Path) -> None:
        log = (self.folder / f"{name}.log").open("w")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.processes[name] = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(120)

    def query(self, expression: str) -> list[dict]:
        answer = self._get("query", query=expression)
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def rules(self) -> dict[str, dict]:
        groups = self._get("rules")["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def alerts(self) -> set[str]:
        answer = httpx.get(f"http://127.0.0.1:{self.alertmanager}/api/v2/alerts").raise_for_status()
        return {alert["labels"]["alertname"] for alert in answer.json()}

    def _get(self, path: str, **parameters: str) -> dict:
        answer = httpx.get(f"http://127.0.0.1:{self.prometheus}/api/v1/{path}", params=parameters)
        return answer.raise_for_status().json()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    tool("monitoring/usr/bin/prometheus")
    folder = tmp_path_factory.mktemp("stack")
    (folder / "serving").mkdir()
    shutil.copytree(
        export_random_model("original_cnn", tmp_path_factory.mktemp("model")), folder / f"serving/{PUSHED_SEC}"
    )
    (folder / "summary.json").write_text(a_run().to_json())
    running = Stack(folder)
    running.start()
    try:
        wait_for(lambda: running.query("ser_model_versions_ready == 1"), "a version that answers")
        noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
        with Client(f"127.0.0.1:{running.grpc}") as client:
            for _ in range(20):
                client.predict((noise, 16_000))
                time.sleep(0.25)
        yield running
    finally:
        running.stop()


def test_both_jobs_are_scraped(stack):
    assert {(sample["metric"]["job"], sample["value"][1]) for sample in stack.query("up")} == {
        ("ser-serving", "1"),
        ("ser-monitor", "1"),
    }


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_query_of_the_dashboard_has_a_result(stack, expression):
    result = stack.query(expression.replace("$model", "ser"))
    assert result, expression
    assert re.fullmatch(r"-?[\d.e+-]+", result[0]["value"][1]), result  # a finite number


def test_the_models_of_the_dashboards_variable_are_found(stack):
    (variable,) = [variable for variable in DASHBOARD["templating"]["list"] if variable["name"] == "model"]
    series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()
    assert {sample["metric"][label] for sample in stack.query(series)} == {"ser"}


def test_every_rule_is_evaluated_and_alerts_arrive(stack):
    rules = wait_for(lambda: (r := stack.rules()) and all(v["health"] != "unknown" for v in r.values()) and r, "rules")
    assert set(rules) == {rule["alert"] for rule in RULES}
    assert {name: rule.get("lastError") for name, rule in rules.items() if rule["health"] != "ok"} == {}
    at_once = {"RunFailed", "ModelRejected", "Drift", "ScheduleStopped", "OldModel"}
    assert {name for name, rule in rules.items() if rule["state"] == "firing"} == at_once
    wait_for(lambda: stack.alerts() == at_once, "the alerts in Alertmanager")


def test_a_server_that_is_down_starts_an_alert(stack):
    stack.processes["serve"].terminate()
    wait_for(lambda: stack.rules()["ServingDown"]["state"] == "pending", "ServingDown")
    wait_for(lambda: stack.rules()["NoModel"]["state"] == "pending", "NoModel")
