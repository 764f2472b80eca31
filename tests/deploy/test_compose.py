"""compose.yaml by the Compose specification, and what its services mount, run and are called."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from cli.main import load_command
from serving.server.options import METRICS_PATH
from tests.deploy.dockerfile import effective
from tests.paths import ROOT
from tests.tools import tool

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
MONITORING = ROOT / "deploy" / "monitoring"
# Of the released images, by their documentation; they cannot be pulled in a test.
PORTS = {"prometheus": 9090, "alertmanager": 9093, "grafana": 3000}
CHECK = "import sys, compose_spec; compose_spec.PyCompose.from_json(sys.stdin.read()).validate()"


def validate(compose: dict) -> subprocess.CompletedProcess:
    """Validate by compose-spec; YAML's merge keys are resolved, as every engine does first.

    The specification's grammar has a tag or a digest; every engine takes both, and then uses the digest.
    """
    command = [tool("checks/bin/python"), "-c", CHECK]
    text = re.sub(r":[\w.-]+(?=@sha256:)", "", json.dumps(compose))
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def command_of(name: str) -> list[str]:
    """Return the words after ``ser`` that a service of this project runs."""
    words = SERVICES[name]["command"]
    entrypoint = json.loads(effective(ROOT / "Dockerfile", SERVICES[name]["build"]["target"]).get("ENTRYPOINT", "[]"))
    program, *rest = [*entrypoint, *words]
    assert program == "ser"
    return rest


def test_the_file_follows_the_compose_specification():
    done = validate(COMPOSE)
    assert done.returncode == 0, done.stderr


def test_the_check_notices_an_unknown_key():
    assert "privilleged" in validate({"services": {"a": {"image": "a", "privilleged": True}}}).stderr


@pytest.mark.parametrize("name", ["embedded", "page", "monitor"])
def test_commands_of_this_project_parse(name):
    command, *arguments = command_of(name)
    context = load_command(command).make_context(command, list(arguments), resilient_parsing=False)
    assert context.params["host"] == "0.0.0.0"  # reached from the other containers


def test_either_server_is_called_serving():
    servers = [service for name, service in SERVICES.items() if service.get("profiles") and name != "airflow"]
    assert [service["profiles"] for service in servers] == [["tf-serving"], ["embedded"]]
    for service in servers:
        assert service["networks"]["default"]["aliases"] == ["serving"]
        assert service["volumes"] == ["./output/serving:/models/ser:ro"]


def test_what_is_mounted_and_built_exists():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (
                source.startswith(("./output", "./recordings"))
                or (ROOT / source).exists()
                or source in COMPOSE["volumes"]
            ), source
        if "build" in service:
            assert (ROOT / service["build"].get("dockerfile", "Dockerfile")).is_file()
            assert "target" not in service["build"] or effective(ROOT / "Dockerfile", service["build"]["target"])


def test_ports_are_those_of_this_machine_alone():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) >= 6
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_containers_change_nothing_but_their_volumes():
    for service in SERVICES.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_prometheus_finds_its_files_and_targets(tmp_path):
    shutil.copytree(MONITORING, tmp_path, dirs_exist_ok=True)
    shutil.copytree(ROOT / "deploy" / "compose" / "targets", tmp_path / "targets", dirs_exist_ok=True)
    command = [tool("monitoring/usr/bin/promtool"), "check", "config", "prometheus.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    targets = {
        file.stem: [target for group in yaml.safe_load(file.read_text()) for target in group["targets"]]
        for file in (tmp_path / "targets").iterdir()
    }
    monitor = load_command("monitor").make_context("monitor", command_of("monitor")[1:])
    assert targets == {
        "serving": ["serving:8501"],
        "monitor": [f"monitor:{monitor.params['port']}"],
        "alertmanager": [f"alertmanager:{PORTS['alertmanager']}"],
    }
    assert METRICS_PATH in (tmp_path / "prometheus.yml").read_text()


def test_grafana_reads_prometheus_and_the_dashboard():
    provisioning = MONITORING / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", f"http://prometheus:{PORTS['prometheus']}")
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "ser.yml").read_text())["providers"]
    mounted = dict(volume.split(":")[:2][::-1] for volume in SERVICES["grafana"]["volumes"])
    assert mounted["/etc/grafana/provisioning"] == "./deploy/monitoring/grafana/provisioning"
    assert list((ROOT / mounted[provider["options"]["path"]]).glob("*.json"))


def test_the_health_checks_of_this_projects_services_run(tmp_path):
    for name in ("embedded", "page"):
        program, *words = SERVICES[name]["healthcheck"]["test"][1:]
        assert program == "python"
        (tmp_path / "page").touch()
        words[-1] = (tmp_path / "page").as_uri()
        assert subprocess.run([sys.executable, *words], check=False).returncode == 0
        words[-1] = (tmp_path / "missing").as_uri()
        done = subprocess.run([sys.executable, *words], capture_output=True, env=os.environ, check=False)
        assert done.returncode == 1
