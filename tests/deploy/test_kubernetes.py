"""Kubernetes manifests: by Kubernetes' own schemas, and where they agree with each other and with the images."""

import shutil
import subprocess

import pytest
import yaml

from cli.main import load_command
from serving.server.options import METRICS_PATH, ServerOptions, read_models
from tests.deploy.dockerfile import effective
from tests.paths import ROOT
from tests.tools import tool

FOLDER = ROOT / "deploy" / "kubernetes"
BASE = [
    FOLDER / "base" / name for name in yaml.safe_load((FOLDER / "base/kustomization.yaml").read_text())["resources"]
]
OVERLAYS = sorted((FOLDER / "overlays").iterdir())


def validate(*files) -> subprocess.CompletedProcess:
    command = [tool("checks/bin/kubernetes-validate"), "--strict", *files]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def resources(kind: str, files=BASE) -> dict[str, dict]:
    """Return the resources of a kind by name."""
    documents = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def pod(name: str) -> dict:
    return resources("Deployment")[name]["spec"]["template"]["spec"]


@pytest.mark.parametrize("file", BASE, ids=lambda file: file.name)
def test_kubernetes_schemas_accept_the_base(file):
    done = validate(file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_notices_an_unknown_key(tmp_path):
    file = tmp_path / "service.yaml"
    file.write_text("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {porst: []}}")
    assert validate(file).returncode != 0


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: overlay.name)
def test_overlays_are_rendered_and_accepted(overlay, tmp_path):
    if not shutil.which("kubectl"):
        pytest.skip("kubectl, which renders overlays, is not installed; Debian has no package of it")
    rendered = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, check=False)
    assert rendered.returncode == 0, rendered.stderr
    file = tmp_path / "rendered.yaml"
    file.write_text(rendered.stdout)
    done = validate(file)
    assert done.returncode == 0, done.stdout + done.stderr
    (models,) = resources("ConfigMap", [file])
    volumes = resources("Deployment", [file])["serving"]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "config", "configMap": {"name": models}} in volumes
    assert all(
        container["image"].startswith("europe-west4-docker.pkg.dev/")
        for deployment in resources("Deployment", [file]).values()
        for container in deployment["spec"]["template"]["spec"]["containers"]
    )


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: overlay.name)
def test_overlays_serve_the_model_under_the_name_of_the_probes(overlay):
    (model,) = read_models(ServerOptions(model_config_file=overlay / "models.config")).model_config_list.config
    (container,) = pod("serving")["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == f"/v1/models/{model.name}"
    assert model.base_path.startswith("gs://")


def test_patches_find_their_targets():
    for overlay in OVERLAYS:
        for patch in yaml.safe_load((overlay / "kustomization.yaml").read_text())["patches"]:
            found = resources(patch["target"]["kind"])
            assert patch["target"].get("name") in (*found, None), patch


@pytest.mark.parametrize("name", ["serving", "page"])
def test_pods_are_not_root_and_change_nothing(name):
    (container,) = pod(name)["containers"]
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert pod(name)["securityContext"]["runAsUser"] > 0
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    assert set(container["resources"]) == {"requests", "limits"}


def test_the_page_starts_with_options_that_exist():
    (container,) = pod("page")["containers"]
    context = load_command("ui").make_context("ui", list(container["args"]))
    assert {port["containerPort"] for port in container["ports"]} == {context.params["port"]}
    serving = {port["port"] for port in resources("Service")["serving"]["spec"]["ports"]}
    assert int(context.params["address"].split(":")[1]) in serving
    assert pod("page")["securityContext"]["runAsUser"] == int(effective(ROOT / "Dockerfile", "page")["USER"])


def test_every_pod_has_a_budget_and_a_network_policy_and_services_find_them():
    labels = {
        name: deployment["spec"]["template"]["metadata"]["labels"]
        for name, deployment in resources("Deployment").items()
    }
    for name, expected in labels.items():
        assert resources("Deployment")[name]["spec"]["selector"]["matchLabels"] == expected
        assert resources("Service")[name]["spec"]["selector"] == expected
        assert resources("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"] == expected
        assert resources("NetworkPolicy")[name]["spec"]["podSelector"]["matchLabels"] == expected
        assert resources("HorizontalPodAutoscaler")[name]["spec"]["scaleTargetRef"]["name"] == name
        assert "replicas" not in resources("Deployment")[name]["spec"]  # applying it would undo the scaling
    assert resources("NetworkPolicy")["deny-all"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_prometheus_finds_the_metrics():
    annotations = resources("Deployment")["serving"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == METRICS_PATH
    (container,) = pod("serving")["containers"]
    assert {"name": "rest", "containerPort": int(annotations["prometheus.io/port"])} in container["ports"]
