"""Manifests for Kubernetes and KServe, and the unit for systemd: valid by their schemas, and true to the server."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from programs import need_program
from servers import Server
from sortal.serve.settings import ServeSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
VERSION = kubernetes_validate.latest_version()
_OWN = ("deployment", "service", "autoscaler", "disruption", "network")


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def manifest(name: str, place: int = 0) -> Any:
    return documents(KUBERNETES / f"{name}.yaml")[place]


def settings(words: list[str]) -> ServeSettings:
    """Those of a command line. Raises where a setting does not exist or does not hold."""
    pairs = [word.partition("=") for word in words if "=" in word and not word.startswith("-")]
    return ServeSettings.model_validate({key: yaml.safe_load(value) for key, _, value in pairs})


def runtimes() -> list[dict[str, Any]]:
    return [documents(DEPLOY / "kserve" / name)[0] for name in ("serving-runtime.yaml", "serving-runtime-grpc.yaml")]


@pytest.mark.parametrize("name", _OWN)
def test_manifests_are_valid(name: str) -> None:
    for document in documents(KUBERNETES / f"{name}.yaml"):
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_validator_finds_faults() -> None:
    broken = manifest("deployment")
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSION, strict=True)


def test_parts_fit_each_other() -> None:
    deployment = manifest("deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels
    for service in (manifest("service"), manifest("service", 1)):
        assert service["spec"]["selector"].items() <= labels
    assert manifest("disruption")["spec"]["selector"]["matchLabels"].items() <= labels
    assert manifest("network")["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert manifest("autoscaler")["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    found = settings(container["args"])
    assert ports == {"http": found.port, "grpc": found.grpc_port}
    assert {one["targetPort"] for place in (0, 1) for one in manifest("service", place)["spec"]["ports"]} == set(ports)
    assert manifest("monitor")["spec"]["endpoints"][0]["port"] == manifest("service")["spec"]["ports"][0]["name"]
    assert (
        manifest("monitor")["spec"]["selector"]["matchLabels"].items()
        <= manifest("service")["metadata"]["labels"].items()
    )
    listed = manifest("kustomization")["resources"]
    assert {f"{name}.yaml" for name in _OWN} - {"autoscaler.yaml"} == set(listed)
    pod = deployment["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > found.drain_s + 5
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("where", ["kubernetes", "kserve", "kserve-grpc"])
def test_containers_have_no_rights_they_do_not_need(where: str) -> None:
    pod = manifest("deployment")["spec"]["template"]["spec"] if where == "kubernetes" else None
    if pod is None:
        pod = runtimes()[where == "kserve-grpc"]["spec"]
    [container] = pod["containers"]
    context = {**pod.get("securityContext", {}), **container["securityContext"]}
    assert context["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["resources"]["limits"]["memory"]
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_probes_and_metrics_are_those_of_the_server(server: Server) -> None:
    [container] = manifest("deployment")["spec"]["template"]["spec"]["containers"]
    probed = [container, *(runtime["spec"]["containers"][0] for runtime in runtimes())]
    paths = {one[name]["httpGet"]["path"] for one in probed for name in one if name.endswith("Probe")}
    assert len(paths) == 4
    for path in paths | {manifest("monitor")["spec"]["endpoints"][0]["path"]}:
        assert server.ask("GET", path)[0] == 200, path
    told = server.numbers()
    metric = manifest("autoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert metric in told
    [rule] = documents(KUBERNETES / "adapter-rule.yaml")[0]["rules"]
    assert rule["name"]["matches"] == metric
    assert metric in rule["seriesQuery"]


@pytest.mark.parametrize(("place", "protocol", "port"), [(0, "v2", "port"), (1, "grpc-v2", "grpc_port")])
def test_runtimes_of_kserve_are_pods_that_speak_its_protocol(place: int, protocol: str, port: str) -> None:
    runtime = runtimes()[place]
    assert runtime["spec"]["protocolVersions"] == [protocol]
    [container] = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    assert container["args"][0] == "/mnt/models"
    found = settings([word.replace("{{.Name}}", "photos") for word in container["args"]])
    assert found.name == "photos"
    assert container["ports"][0]["containerPort"] == getattr(found, port)
    pod = {"containers": [container], "volumes": runtime["spec"]["volumes"]}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried"}, "spec": pod}
    kubernetes_validate.validate(document, VERSION, strict=True)
    [service] = documents(DEPLOY / "kserve" / "inference-service.yaml")
    asked = service["spec"]["predictor"]["model"]
    assert asked["runtime"] == runtimes()[0]["metadata"]["name"]
    assert asked["modelFormat"]["name"] in [one["name"] for one in runtime["spec"]["supportedModelFormats"]]


def unit() -> str:
    return (DEPLOY / "systemd" / "sortal.service").read_text(encoding="utf-8")


def test_the_unit_is_valid(tmp_path: Path) -> None:
    program = need_program("systemd-analyze", "systemd")
    file = tmp_path / "sortal.service"
    file.write_text(unit().replace("/opt/sortal/bin/sortal", "/bin/true"))
    told = subprocess.run([program, "verify", str(file)], capture_output=True, text=True)
    ours = [line for line in told.stderr.splitlines() if "sortal.service" in line]
    assert (told.returncode, ours) == (0, [])


def test_the_unit_is_kept_from_what_it_does_not_need(tmp_path: Path) -> None:
    program = need_program("systemd-analyze", "systemd")
    (tmp_path / "sortal.service").write_text(unit())
    rated = [program, "security", "--no-pager", "--offline=true", "--threshold=20", str(tmp_path / "sortal.service")]
    told = subprocess.run(rated, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


def test_the_unit_starts_with_the_machine_and_ends_gently() -> None:
    found = dict(re.findall(r"^(\w+)=(.*)$", unit(), re.MULTILINE))
    assert found["WantedBy"] == "multi-user.target"
    assert (found["DynamicUser"], found["Restart"], found["KillSignal"]) == ("yes", "always", "SIGTERM")
    assert (found["User"], found["StateDirectory"]) == ("sortal", "sortal")  # to whom a workspace can belong, and where
    command = found["ExecStart"].split()
    assert command[:2] == ["/opt/sortal/bin/sortal", "serve"]
    served = settings(command)
    assert served.is_loopback
    assert int(found["TimeoutStopSec"]) > served.drain_s
