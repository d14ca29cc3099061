"""The files of deploy/ and the Dockerfile fit one another, the product and their tools.

`make test-deploy` checks the objects of Kubernetes and the file of Compose against their published
schemas, too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from .deployments import (
    CHECKS,
    CONFIG_FOLDER,
    DEPLOY,
    KUBERNETES,
    ROOT,
    STATE_FOLDER,
    UNIT,
    Node,
    Object,
    compose,
    compose_node,
    dockerfile,
    kubernetes_node,
    last_stage,
    manifest,
    manifests,
    pods,
    systemd_node,
    unit,
)

IMAGE = f"opensoul:{version('opensoul')}"
VARIABLES = {"POSTGRES_PASSWORD": "secret of the database", "OPENSOUL_GATEWAY_TOKEN": "secret"}
NODES: Mapping[str, Node] = {
    "gateway": kubernetes_node("Deployment", "opensoul-gateway"),
    "worker": kubernetes_node("Deployment", "opensoul-worker"),
    "compose": compose_node(VARIABLES),
    "systemd": systemd_node("3"),
}
"""What serves, of each deployment."""


def seconds_of(name: str, config: str) -> float:
    found = re.search(rf"{name}: (\d+)", config)
    assert found is not None
    return float(found[1])


# What all have in common


@pytest.mark.parametrize("name", NODES)
def test_a_stop_leaves_ten_seconds_more_than_clients_and_runs_have(name: str) -> None:
    (config,) = NODES[name].files.values()
    linger = 0 if name == "worker" else seconds_of("lingerSeconds", config)
    assert NODES[name].grace >= linger + seconds_of("graceSeconds", config) + 10


def test_the_balancer_sees_that_a_node_stops_before_it_listens_no_more() -> None:
    (config,) = NODES["compose"].files.values()
    text = (DEPLOY / "haproxy.cfg").read_text("utf-8")
    check = re.search(r"timeout check (\d+)s", text)
    every = re.search(r"check inter (\d+)s fall (\d+)", text)
    assert check is not None
    assert every is not None
    # The node answers its checks with 503 at once, so none of them takes its whole time.
    assert seconds_of("lingerSeconds", config) > int(every[1]) * int(every[2]) + int(check[1])


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_the_configuration_is_mounted_where_the_process_reads_it(node: Node) -> None:
    assert list(node.files) == [node.environment["OPENSOUL_CONFIG_PATH"]]
    assert node.environment["OPENSOUL_STATE_DIR"].startswith(f"{STATE_FOLDER}/")


@pytest.mark.parametrize("name", ["gateway", "worker", "compose"])
def test_every_variable_of_the_configuration_has_a_value(name: str) -> None:
    (config,) = NODES[name].files.values()
    for variable, default in re.findall(r"\$\{([A-Z_]+)(:-[^}]*)?\}", re.sub(r"//.*", "", config)):
        assert default or variable in NODES[name].environment


def test_no_secret_is_in_a_file() -> None:
    for path in filter(Path.is_file, DEPLOY.rglob("*")):
        text = path.read_text("utf-8")
        written = re.findall(r"(?:PASSWORD|TOKEN|KEY)[=:]\s*(\S+)|://\w+:([^@\s]+)@", text)
        for value in map("".join, written):
            assert value.startswith(("${", "change-this-", "...")), path


# Kubernetes


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod["spec"]["containers"][0]["name"])
def test_a_pod_has_no_rights_that_it_does_not_need(pod: Object) -> None:
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod["spec"]["containers"][0]["name"])
def test_a_pod_writes_to_its_state_and_to_tmp_alone(pod: Object) -> None:
    (container,) = pod["spec"]["containers"]
    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    assert set(mounts) == {CONFIG_FOLDER, STATE_FOLDER, "/tmp"}  # noqa: S108 - in a container
    for path, mount in mounts.items():
        assert ("emptyDir" in volumes[mount["name"]]) is (path != CONFIG_FOLDER)
    # Variables such as OPENSOUL_PORT, of the Service.
    assert pod["spec"]["enableServiceLinks"] is False


def test_selectors_find_the_pods_that_they_are_for() -> None:
    labels = {each["spec"]["containers"][0]["name"]: each["metadata"]["labels"] for each in pods()}
    for each in manifests():
        selector = each.get("spec", {}).get("selector")
        if selector is None:
            continue
        wanted = selector.get("matchLabels", selector).items()
        found = [name for name, has in labels.items() if wanted <= has.items()]
        component = each["metadata"]["labels"].get("app.kubernetes.io/component")
        assert component is None or found == [component]


def test_prometheus_finds_every_node() -> None:
    """Take-overs are counted by the workers that execute them."""
    service = manifest("Service", "opensoul-nodes")["spec"]
    found = [
        each["spec"]["containers"][0]["name"]
        for each in pods()
        if service["selector"].items() <= each["metadata"]["labels"].items()
    ]
    assert (service["clusterIP"], found) == ("None", ["gateway", "worker"])


def test_the_service_is_in_front_of_the_gateways() -> None:
    service = manifest("Service", "opensoul")["spec"]
    (container,) = manifest("Deployment", "opensoul-gateway")["spec"]["template"]["spec"][
        "containers"
    ]
    assert service["sessionAffinity"] == "None"
    assert [each["targetPort"] for each in service["ports"]] == [
        each["name"] for each in container["ports"]
    ]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["OPENSOUL_GATEWAY_PORT"] == str(container["ports"][0]["containerPort"])


@pytest.mark.parametrize("role", ["gateway", "worker"])
def test_a_node_is_restarted_for_its_own_faults_and_not_for_those_of_the_database(
    role: str,
) -> None:
    (container,) = manifest("Deployment", f"opensoul-{role}")["spec"]["template"]["spec"][
        "containers"
    ]
    paths = {probe: container[probe]["httpGet"]["path"] for probe in container if "Probe" in probe}
    assert paths == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert {"name": "OPENSOUL_NODE_ROLE", "value": role} in container["env"]


def test_the_number_of_workers_is_that_of_waiting_runs() -> None:
    scaler = manifest("HorizontalPodAutoscaler", "opensoul-worker")["spec"]
    workers = manifest(scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"])
    # A number in the Deployment would be restored by each `kubectl apply`.
    assert "replicas" not in workers["spec"]
    (metric,) = scaler["metrics"]
    assert metric["external"]["metric"] == {"name": "opensoul_runs_waiting"}
    assert 1 < scaler["minReplicas"] < scaler["maxReplicas"]


@pytest.mark.parametrize("role", ["gateway", "worker"])
def test_a_drained_machine_takes_one_node_at_a_time(role: str) -> None:
    budget = manifest("PodDisruptionBudget", f"opensoul-{role}")["spec"]
    rolling = manifest("Deployment", f"opensoul-{role}")["spec"]["strategy"]["rollingUpdate"]
    assert budget["maxUnavailable"] == 1
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}


def test_kustomize_takes_the_files_that_are_there() -> None:
    kustomization = next(each for each in manifests() if each["kind"] == "Kustomization")
    apart = {"kustomization.yaml", "migrate.yaml", "secret.example.yaml"}
    there = {path.name for path in KUBERNETES.iterdir()}
    assert set(kustomization["resources"]) == there - apart
    (image,) = kustomization["images"]
    assert f"{image['name']}:{image['newTag']}" == IMAGE


def test_every_deployment_has_the_image_of_this_version() -> None:
    images = {each["spec"]["containers"][0]["image"] for each in pods()}
    assert images == {compose(VARIABLES)["services"]["opensoul"]["image"]} == {IMAGE}


def test_kubectl_puts_the_files_together() -> None:
    if (kubectl := shutil.which("kubectl")) is None:
        pytest.skip("there is no kubectl")
    shown = subprocess.run([kubectl, "kustomize", str(KUBERNETES)], capture_output=True)
    assert shown.returncode == 0, shown.stderr
    kinds = [each["kind"] for each in yaml.safe_load_all(shown.stdout)]
    assert sorted(set(kinds)) == [
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "Service",
    ]
    assert kinds.count("Deployment") == 2


SCHEMAS = pytest.mark.skipif(
    not (CHECKS / "python").exists(), reason="`make test-deploy` installs the schemas"
)


@SCHEMAS
def test_objects_fit_the_schemas_of_kubernetes() -> None:
    paths = [path for path in KUBERNETES.glob("*.yaml") if path.stem != "kustomization"]
    checked = subprocess.run(
        [CHECKS / "kubernetes-validate", "--strict", *paths], capture_output=True, text=True
    )
    shown = checked.stdout + checked.stderr
    assert checked.returncode == 0, shown
    objects = [each for each in manifests() if each["kind"] != "Kustomization"]
    assert shown.count("passed for resource") == len(objects)


# Compose


@SCHEMAS
def test_the_file_of_compose_fits_its_specification() -> None:
    program = (
        "import sys, compose_spec; compose_spec.PyCompose.from_json(sys.stdin.read()).validate()"
    )
    checked = subprocess.run(
        [CHECKS / "python", "-c", program],
        input=json.dumps(compose(VARIABLES)),
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr


def test_compose_asks_for_its_secrets() -> None:
    for missing in VARIABLES:
        with pytest.raises(KeyError, match=missing):
            compose({name: value for name, value in VARIABLES.items() if name != missing})


def test_docker_reads_the_file_of_compose() -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("there is no `docker compose`")
    command = [
        docker,
        "compose",
        "-f",
        str(DEPLOY / "compose.yaml"),
        "config",
        "--format",
        "json",
    ]
    # Its plugin may be in the user's home.
    shown = subprocess.run(command, env={**os.environ, **VARIABLES}, capture_output=True)
    assert shown.returncode == 0, shown.stderr
    assert set(json.loads(shown.stdout)["services"]) == {"postgres", "opensoul", "balancer"}


def test_nothing_of_a_node_of_compose_prevents_several() -> None:
    services = compose(VARIABLES)["services"]
    node = services["opensoul"]
    assert not {"container_name", "ports", "hostname"} & set(node)
    assert node["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert all("healthcheck" in services[name] for name in ("postgres", "opensoul"))
    assert services["postgres"]["image"] == "postgres:17"


def test_a_node_of_compose_has_no_rights_that_it_does_not_need() -> None:
    node = compose(VARIABLES)["services"]["opensoul"]
    assert node["read_only"] is True
    assert node["cap_drop"] == ["ALL"]
    assert node["security_opt"] == ["no-new-privileges:true"]
    assert [each.partition(":")[0] for each in node["tmpfs"]] == ["/tmp", STATE_FOLDER]  # noqa: S108
    (user,) = [rest for name, rest in last_stage() if name == "USER"]
    assert node["user"] == user


def test_the_balancer_reads_its_file() -> None:
    if (haproxy := shutil.which("haproxy")) is None:
        pytest.skip("there is no haproxy")
    checked = subprocess.run([haproxy, "-c", "-f", DEPLOY / "haproxy.cfg"], capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_the_balancer_sends_requests_to_ready_nodes_of_all() -> None:
    text = (DEPLOY / "haproxy.cfg").read_text("utf-8")
    assert "option httpchk GET /readyz" in text
    assert not re.search(r"^\s*(cookie|stick)", text, re.M)


# The image


def test_the_image_runs_as_a_user_without_rights() -> None:
    (user,) = [rest for name, rest in last_stage() if name == "USER"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert "HEALTHCHECK" in dict(last_stage())


def test_the_image_is_built_from_files_of_the_tree_that_docker_gets() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = set()
    for name, rest in dockerfile():
        if name == "COPY" and not rest.startswith("--from"):
            copied |= set(rest.split()[:-1])
    assert copied == allowed
    assert all((ROOT / path).exists() for path in copied)


def test_the_image_installs_what_the_pins_say() -> None:
    installs = [rest for name, rest in dockerfile() if name == "RUN" and "pip install" in rest]
    pinned, own = installs
    assert "--require-hashes" in pinned
    assert "requirements/server.txt" in pinned
    assert "--no-deps --no-build-isolation" in own


# systemd


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    # It looks for the program, which is not installed here.
    program = dict(unit()["Service"])["ExecStart"].split()[0]
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text("utf-8").replace(program, "/bin/true"))
    checked = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_each_node_of_systemd_has_its_own_state_and_port() -> None:
    one, two = systemd_node("1").environment, systemd_node("2").environment
    for name in ("OPENSOUL_STATE_DIR", "OPENSOUL_GATEWAY_PORT"):
        assert one[name] != two[name]
    settings = dict(unit()["Service"])
    assert settings["StateDirectory"] == "opensoul/%i"
    assert settings["Restart"] == "always"
    assert settings["User"] == "opensoul"
