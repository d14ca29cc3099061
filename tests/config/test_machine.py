"""What a client may not name in the configuration: paths, programs and addresses of the machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from opensoul.adapters.config.schema import Root
from opensoul.adapters.config.schema.fields import Machine, PathText, Section, Text, setting
from opensoul.adapters.config.schema.walk import Entry, entries, mark
from opensoul.domain.ports.configuration import ConfigRefused, ConfigSnapshot

from .editable import editor
from .place import Place

_SMELLS = re.compile(
    r"path|file|dir|folder|workspace|store$|root|command|cmd|program|exec|binary|script|runner"
    r"|transport|plugin|socket|bind|host|origin|prox|url|address|endpoint|server",
    re.IGNORECASE,
)
PATH = get_args(PathText)[1]
_BEGIN = {
    "agents": {"list": [{"id": "main", "workspace": "/srv/ours"}]},
    "logging": {"file": "/var/log/ours.log", "level": "info"},
    "gateway": {"trustedProxies": ["10.0.0.1"], "allowedHosts": ["ours.example"]},
    "mcp": {"servers": {"files": {"command": "npx", "args": ["-y", "files", "/srv"]}}},
    "channels": {"some": {"list": [{"id": "a", "cliPath": "/bin/a"}, {"id": "b"}]}},
}


def patch(place: Place, given: dict[str, Any]) -> ConfigSnapshot:
    file = editor(place)
    return file.patch(json.dumps(given), file.snapshot().hash)


def nested(path: str, value: object) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = [value] if key == "0" else {key: value}
    assert isinstance(value, dict)
    return value


def refused(place: Place, given: dict[str, Any], way: str = "patch") -> str:
    """The message of the refusal; nothing may have been written."""
    before = place.file.read_bytes()
    file = editor(place)
    with pytest.raises(ConfigRefused) as caught:
        getattr(file, way)(json.dumps(given), file.snapshot().hash)
    assert place.file.read_bytes() == before
    return caught.value.message


def texts(annotation: Any) -> bool:
    """Whether strings that are not from a fixed list can stand there."""
    if get_origin(annotation) is Annotated:
        return texts(get_args(annotation)[0])
    return annotation is str or any(map(texts, get_args(annotation)))


def parts(annotation: Any) -> list[Any]:
    """What an annotation is made of."""
    return [annotation, *(part for arm in get_args(annotation) for part in parts(arm))]


def unmarked(model: type[BaseModel]) -> list[str]:
    """Fields that look as if they named something of the machine, and do not say what."""

    def smells(entry: Entry) -> bool:
        if mark(entry.field, "x-machine") in get_args(Machine):
            return False
        # Text that people read names nothing, and no client may change anything in `secrets`.
        if mark(entry.field, "x-text") or entry.path[0] == "secrets":
            return False
        by_type = PATH in parts(entry.field.annotation) + list(entry.field.metadata)
        by_name = _SMELLS.search(entry.path[-1]) is not None
        return by_type or (by_name and texts(entry.field.annotation))

    return [".".join(entry.path) for entry in entries(model) if smells(entry)]


class _Forgetful(Section):
    marked: PathText = setting("x", machine="file")
    by_type: PathText = setting("x")
    optional: PathText | None = None
    command: Text = setting("x")
    extra_dirs: list[Text] = setting(list)
    greeting: Text = setting("x")


def test_every_key_that_names_something_of_the_machine_says_so() -> None:
    assert unmarked(_Forgetful) == ["byType", "optional", "command", "extraDirs"]
    assert unmarked(Root) == []


@pytest.mark.parametrize("way", ["patch", "replace"])
def test_the_log_cannot_be_led_to_another_file(place: Place, way: str) -> None:
    """What requests hold is written to the log, and a shell would run it from there."""
    place.write("{}")
    bashrc = (f"{place.home}/.bashrc", "~/.bashrc", "../.bashrc", "logs/../../.bashrc")
    for file in (*bashrc, "~root/.x.log", "/etc/cron.d/x", f"{place.home}/x.log"):
        message = refused(place, {"logging": {"file": file}}, way)
        assert "set it on the Gateway's machine, with `opensoul config set`" in message
    assert patch(place, {"logging": {"file": "logs/opensoul.log"}}).valid


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("session.store", "/srv/x/.bashrc"),
        ("session.store", "opensoul.json"),
        ("gateway.tls.certPath", "/etc/passwd"),
        ("gateway.tls.keyPath", "/etc/shadow"),
        ("gateway.tls.caPath", "/srv/ca.pem"),
        ("models.providers.p.models.0", {"id": "m", "file": "/srv/model.gguf"}),
        ("agents.defaults.workspace", "/etc"),
        ("agents.list.0", {"id": "main", "workspace": "/srv/.ssh"}),
        ("agents.entries.main.workspace", "~/.ssh"),
        ("agents.list.0", {"id": "main", "runner": "somebodys-plugin"}),
        ("agents.list.0", {"id": "main", "runner": {"use": "python", "target": "os:system"}}),
        ("agents.list.0", {"id": "main", "runner": {"use": "echo", "path": "elsewhere"}}),
        ("gateway.transports", ["somebodys-plugin"]),
        ("gateway.bind", "lan"),
        ("gateway.bind", "tailnet"),
        ("gateway.bind", "auto"),
        ("gateway.customBindHost", "0.0.0.0"),  # noqa: S104 - refused
        ("gateway.auth.mode", "none"),
        ("gateway.trustedProxies", ["0.0.0.0/1"]),
        ("gateway.allowedHosts", ["evil.example"]),
        ("gateway.controlUi.allowedOrigins", ["https://evil.example"]),
        ("gateway.http.cors.origins", ["https://evil.example"]),
    ],
)
def test_a_client_cannot_name_what_is_the_machines(place: Place, path: str, value: object) -> None:
    place.write("{}")
    place.env["PASSWORD"] = "x"
    for way in ("patch", "replace"):
        assert "on the Gateway's machine" in refused(place, nested(path, value), way)


@pytest.mark.parametrize(
    "spelled",
    [
        "\\\\host\\share\\x.log", "C:\\x.log", "c:x.log", "//host/x.log", "x\\..\\..\\x.log",
        "${HOME}/x.log", "${NONE:-/etc}/x.log", "$${X}/x.log", "%APPDATA%/x.log", "~/x.log",
        "a/\n/x.log", "x.log\0", " x.log", "../x.log", "link/x.log", "linked.log", "x.LOG", "log",
        "../.OPENSOUL/x.log", "opensoul.sqlite3", "a/" * 3_000 + "x.log", "file:///x.log",
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_leads_out_of_the_state_directory(
    place: Place, tmp_path: Path, spelled: str
) -> None:
    place.write("{}")
    place.env["HOME"] = str(tmp_path)
    (place.state / "link").symlink_to(tmp_path)
    (place.state / "linked.log").symlink_to(place.state / "opensoul.sqlite3")
    refused(place, {"logging": {"file": spelled}})


def test_inside_the_state_directory_a_client_may_name_paths(place: Place) -> None:
    place.write("{}")
    given = {
        "logging": {"file": str(place.state / "logs" / "a.log")},
        "agents": {"list": [{"id": "main", "workspace": "workspaces/a/../b"}]},
        "gateway": {"bind": "loopback", "auth": {"mode": "token"}},
        "session": {"store": ":memory:"},
    }
    assert patch(place, given).valid
    message = refused(place, {"agents": {"list": [{"id": "main", "workspace": "."}]}})
    assert "directory" in message


def test_what_is_there_stays_when_something_else_is_edited(place: Place) -> None:
    place.write(json.dumps(_BEGIN))
    file = editor(place)
    snapshot = file.snapshot()
    assert snapshot.raw is not None
    raw = snapshot.raw.replace('"info"', '"debug"')
    assert file.replace(raw, snapshot.hash).valid
    patch(place, {"agents": {"list": [{"id": "new", "workspace": "/srv/ours"}, {"id": "main"}]}})
    patch(place, {"gateway": {"trustedProxies": [], "allowedHosts": None}})
    patch(place, {"channels": {"some": {"list": [{"id": "b"}]}}, "mcp": None})
    refused(place, {"gateway": {"trustedProxies": ["10.0.0.1"]}})


def test_a_variable_cannot_lead_a_path_elsewhere(place: Place) -> None:
    text = "{ logging: { file: '${LOG_KEY:-/var/log/ours}/x.log' }, env: { LOG_TOKEN: 'x' } }"
    place.write(text)
    assert "may name a log only inside" in refused(place, {"env": {"LOG_KEY": "/etc"}})
    assert "may name a log only inside" in refused(place, {"env": {"vars": {"LOG_KEY": "/etc"}}})
    assert patch(place, {"env": {"LOG_KEY": str(place.state)}}).valid


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "PATH", "PYTHONPATH", "NODE_OPTIONS", "https_proxy", "BASH_ENV", "HOME",
     "GIT_SSH_COMMAND", "OPENAI_BASE_URL", "OPENSOUL_GATEWAY_PORT", "SSH_ASKPASS"],
)  # fmt: skip
def test_a_client_sets_no_variable_that_steers_programs(place: Place, name: str) -> None:
    place.write("{}")
    for env in ({name: "x"}, {"vars": {name: "x"}}):
        assert "only variables whose names end with" in refused(place, {"env": env})
    assert patch(place, {"env": {"OPENAI_API_KEY": "x", "vars": {"BOT_TOKEN": "y"}}}).valid


_INERT = [
        "agents.defaults.cliBackends.x.command", "agents.defaults.models.a/b.agentRuntime",
        "agents.entries.main.agentDir", "agents.entries.main.runtime", "agents.defaults.repoRoot",
        "hooks.transformsDir", "plugins.load.paths", "browser.executablePath", "proxy",
        "channels.signal.cliPath", "gateway.controlUi.root", "gateway.tailscale.mode",
        "commands.bash", "update.channel", "nobody.knows.this",
        "logging.redactPatterns", "gateway.remote.url",
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((path, "/bin/sh") for path in _INERT),
        *(("hooks.x", value) for value in (True, ["-c", "id"], {"a": {"b": 5}})),
    ],
)
def test_a_client_sets_no_key_that_another_program_would_follow(
    place: Place, path: str, value: object
) -> None:
    place.write(json.dumps(_BEGIN | {"agents": {"entries": {"main": {}}}}))
    assert "another program that reads this file" in refused(place, nested(path, value))


_RULES = {"profile": "coding", "deny": ["exec"]}
_CONFINED = {"sandbox": {"mode": "bubblewrap"}}
_GUARDED = {
    "tools": _RULES,
    "agents": {
        "defaults": _CONFINED,
        "list": [{"id": "main", "tools": {"deny": ["write"]}}, {"id": "other"}],
    },
}


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"tools": None}, id="all gone"),
        pytest.param({"tools": {"deny": []}}, id="a deny gone"),
        pytest.param({"tools": {"deny": ["exec", "write"]}}, id="one more deny"),
        pytest.param({"tools": {"profile": "full"}}, id="another profile"),
        pytest.param({"tools": {"alsoAllow": ["web_fetch"]}}, id="one more tool"),
        pytest.param({"tools": {"exec": {"ask": "off"}}}, id="no approvals"),
        pytest.param({"tools": {"exec": {"allowlist": ["sh *"]}}}, id="a command"),
        pytest.param({"tools": {"web": {}}}, id="a key without effect"),
        pytest.param({"gateway": {"tools": {"invoke": {"allow": ["*"]}}}}, id="a client's tool"),
        pytest.param({"agents": {"defaults": {"subagents": {"allowAgents": ["*"]}}}},
                     id="sub-agents of other agents"),
        pytest.param({"agents": {"list": [{"id": "other", "subagents": {"allowAgents": ["*"]}}]}},
                     id="sub-agents of other agents, for one agent"),
        pytest.param({"agents": {"list": [{"id": "main"}]}}, id="an agent's gone"),
        pytest.param({"agents": {"list": [{"id": "other", "tools": {"allow": ["*"]}}]}},
                     id="an agent's new"),
        pytest.param({"agents": {"list": [{"id": "new", "tools": {"profile": "full"}}]}},
                     id="a new agent's"),
        pytest.param({"agents": {"defaults": {"sandbox": {"mode": "off"}}}}, id="no sandbox"),
        pytest.param({"agents": {"defaults": {"sandbox": None}}}, id="a sandbox gone"),
        pytest.param({"agents": {"defaults": {"sandbox": {"network": True}}}}, id="the network"),
        pytest.param({"agents": {"list": [{"id": "other", "sandbox": {"mode": "off"}}]}},
                     id="an agent's sandbox"),
        pytest.param({"agents": {"entries": {"MAIN": {}}}}, id="an agent in entries without them"),
        pytest.param({"agents": {"entries": {"x": {"tools": {"profile": "full"}}}}},
                     id="an agent in entries"),
    ],
)  # fmt: skip
def test_a_client_does_not_change_what_agents_may_do(place: Place, given: dict[str, Any]) -> None:
    place.write(json.dumps(_GUARDED))
    for way in ("patch", "replace"):
        changed = given
        if way == "replace" and "tools" not in given:
            agents = {"defaults": _CONFINED, **given.get("agents", {})}
            changed = {"tools": _RULES, **given, "agents": agents}
        assert "a client may not decide what agents may do" in refused(place, changed, way)


def test_a_client_does_not_put_an_agent_over_an_included_one(place: Place) -> None:
    place.write(json.dumps(_GUARDED["agents"]), "agents.json5")
    place.write('{ agents: { $include: "./agents.json5" } }')
    message = refused(place, {"agents": {"entries": {"main": {}}}})
    assert "agents.entries.main.tools: a client may not decide what agents may do" in message


def test_a_client_moves_agents_with_what_they_may_do(place: Place) -> None:
    place.write(json.dumps(_GUARDED))
    main = {"id": "main", "name": "M", "tools": {"deny": ["write"]}}
    listed = [{"id": "new"}, {"id": "other", "tools": {}}, main]
    file = editor(place)
    agents = {"defaults": _CONFINED, "list": listed}
    given = {"tools": _RULES, "agents": agents}
    replaced = file.replace(json.dumps(given), file.snapshot().hash)
    assert replaced.valid
    assert patch(place, {"agents": {"defaults": {"maxWaiting": 3}}}).valid


def test_the_words_of_a_command_stay_together(place: Place) -> None:
    args = ["-c", "id", "safe"]
    place.write(json.dumps({"mcp": {"servers": {"x": {"command": "sh", "args": args}}}}))
    for changed in (["id", "-c", "safe"], ["-c", "id"], ["-c", "safe"]):
        refused(place, {"mcp": {"servers": {"x": {"args": changed}}}})
    refused(place, {"mcp": {"servers": {"y": {"command": "sh"}}}})


def test_tls_and_authentication_cannot_be_switched_off(place: Place) -> None:
    for name in ("cert.pem", "key.pem"):
        place.write("", name)
    tls = {"enabled": True, "certPath": "cert.pem", "keyPath": "key.pem"}
    place.write(json.dumps({"gateway": {"tls": tls}}))
    for gateway in ({"tls": None}, {"tls": {"enabled": None}}, {"tls": {"enabled": False}}):
        assert "may not take this protection away" in refused(place, {"gateway": gateway})
    assert patch(place, {"gateway": {"auth": {"mode": "token", "token": "another"}}}).valid


def test_the_machines_own_user_may_do_all_of_that(place: Place) -> None:
    place.write("{}")
    file = editor(place, on_machine=True)
    given = {"logging": {"file": "/var/log/x.log"}, "mcp": {"servers": {"x": {"command": "sh"}}}}
    assert file.change(given).valid
    assert json.loads(place.file.read_text()) == given


def test_a_refusal_does_not_grow_with_the_request(place: Place) -> None:
    place.write("{}")
    file = editor(place)
    with pytest.raises(ConfigRefused) as caught:
        file.patch(json.dumps({f"unknown-{i}": {"x": 1} for i in range(500)}), file.snapshot().hash)
    assert len(caught.value.issues) == 20
