"""What the files of deploy/ and the Dockerfile run, read from them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
UNIT = DEPLOY / "systemd" / "opensoul@.service"
CHECKS = ROOT / ".opensoul" / "deployment" / "bin"
"""Where `make test-deploy` installs what knows the schemas."""
CONFIG_FOLDER = "/etc/opensoul"
STATE_FOLDER = "/var/lib/opensoul"

Object = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """A process of a deployment. `files`: the texts of what is mounted, by path. `grace`: seconds
    from SIGTERM to SIGKILL."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    files: Mapping[str, str]
    ready_path: str
    grace: float


# Kubernetes


def manifests() -> Iterator[Object]:
    """Every object of deploy/kubernetes."""
    for path in sorted(KUBERNETES.glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text("utf-8"))


def manifest(kind: str, name: str) -> Object:
    return next(
        each for each in manifests() if each["kind"] == kind and each["metadata"]["name"] == name
    )


def pods() -> list[Object]:
    """The templates of Pods, of Deployments and Jobs."""
    return [each["spec"]["template"] for each in manifests() if "template" in each.get("spec", ())]


def kubernetes_node(kind: str, name: str) -> Node:
    """The process of the only container of a Deployment or Job."""
    pod = manifest(kind, name)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = dict(image_environment())
    for source in container["envFrom"]:
        environment |= manifest("Secret", source["secretRef"]["name"])["stringData"]
    environment |= {each["name"]: each["value"] for each in container.get("env", ())}
    volumes = {each["name"]: each for each in pod["volumes"]}
    files = {}
    for mount in container["volumeMounts"]:
        if "configMap" in (volume := volumes[mount["name"]]):
            for name, text in manifest("ConfigMap", volume["configMap"]["name"])["data"].items():
                files[f"{mount['mountPath']}/{name}"] = text
    return Node(
        command=(*image_entry_point(), *container["args"]),
        environment=environment,
        files=files,
        ready_path=container.get("readinessProbe", {}).get("httpGet", {}).get("path", ""),
        grace=pod.get("terminationGracePeriodSeconds", 30)
        - container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0),
    )


# Docker


def compose(variables: Mapping[str, str]) -> Object:
    """The file of Compose, with the values of variables in it."""
    path = DEPLOY / "compose.yaml"
    loaded = _interpolated(yaml.safe_load(path.read_text("utf-8")), variables)
    assert isinstance(loaded, dict)
    return loaded


def compose_node(variables: Mapping[str, str]) -> Node:
    service = compose(variables)["services"]["opensoul"]
    files = {}
    for volume in service["volumes"]:
        source, target, _ = volume.split(":")
        files[target] = (DEPLOY / source).read_text("utf-8")
    found = re.search(r":18789(/\w+)", service["healthcheck"]["test"][-1])
    assert found is not None
    return Node(
        command=(*image_entry_point(), *service["command"]),
        environment={**image_environment(), **service["environment"]},
        files=files,
        ready_path=found[1],
        grace=float(service["stop_grace_period"].removesuffix("s")),
    )


_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def _interpolated(value: object, variables: Mapping[str, str]) -> object:
    def text_of(found: re.Match[str]) -> str:
        name, kind, text = found.groups()
        if variables.get(name):
            return variables[name]
        if kind == "-":
            return str(text)
        raise KeyError(f"{name}: {text}")

    match value:
        case str():
            return _VARIABLE.sub(text_of, value)
        case dict():
            return {name: _interpolated(each, variables) for name, each in value.items()}
        case list():
            return [_interpolated(each, variables) for each in value]
        case _:
            return value


def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile: a name and the rest of the line."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    instructions = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in instructions]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions behind each FROM."""
    found: list[list[tuple[str, str]]] = []
    for name, rest in dockerfile():
        if name == "FROM":
            found.append([])
        elif found:
            found[-1].append((name, rest))
    return found


def last_stage() -> list[tuple[str, str]]:
    return stages()[-1]


def image_entry_point() -> tuple[str, ...]:
    return tuple(json.loads(dict(last_stage())["ENTRYPOINT"]))


def image_environment() -> Mapping[str, str]:
    """The variables of the image, but PATH, which is that of the tests' processes."""
    variables = stage_environment(last_stage())
    return {name: value for name, value in variables.items() if name != "PATH"}


def stage_environment(stage: list[tuple[str, str]]) -> Mapping[str, str]:
    settings = [each for name, rest in stage if name == "ENV" for each in shlex.split(rest)]
    return dict(each.split("=", 1) for each in settings)


# systemd


def unit() -> Mapping[str, list[tuple[str, str]]]:
    """The settings of each section of the unit; a name may be there more than once."""
    sections: dict[str, list[tuple[str, str]]] = {}
    section: list[tuple[str, str]] = []
    for line in UNIT.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = sections[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section.append((name, value))
    return sections


def systemd_node(instance: str) -> Node:
    service = unit()["Service"]
    environment = {}
    for name, value in service:
        if name == "Environment":
            for each in shlex.split(value):
                variable, _, text = each.replace("%i", instance).partition("=")
                environment[variable] = text.replace("%S", "/var/lib")
    settings = dict(service)
    program, *arguments = settings["ExecStart"].split()
    return Node(
        command=(Path(program).name, *arguments),
        environment=environment,
        # The file is the operator's own; this one fits.
        files={environment["OPENSOUL_CONFIG_PATH"]: (DEPLOY / "opensoul.json5").read_text("utf-8")},
        ready_path="/readyz",
        grace=float(settings["TimeoutStopSec"].removesuffix("s")),
    )
