"""`opensoul mcp`: servers of tools are listed, started, added, changed and removed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyjson5
import pytest

from tests.mcp.servers import PROJECT

from .command import Home


@pytest.fixture
def configured(home: Home, tmp_path: Path) -> Home:
    """One server that works, one that does not start, one that is disabled."""
    command = {"command": sys.executable, "cwd": str(PROJECT), "env": {"API_KEY": "env-secret"}}
    server = ["-m", "tests.fakes.mcp_server", str(tmp_path)]
    servers = {
        "works": command | {"args": server, "tools": {"allow": ["add", "store"]}},
        "fails": command | {"args": [*server, "--fail"]},
        "off": {"url": "https://mcp.example.com/mcp?key=url-secret", "enabled": False},
    }
    home.configure(json.dumps({"mcp": {"servers": servers}})).chmod(0o600)
    return home


def servers_of(home: Home) -> dict[str, object]:
    written: dict[str, dict[str, dict[str, object]]] = pyjson5.decode(home.config_file.read_text())
    return written["mcp"]["servers"]


def test_servers_are_listed_without_their_secrets(configured: Home) -> None:
    listed = configured.opensoul("mcp")
    assert listed.code == 0
    for name in ("works", "fails", "off", "disabled", "https://mcp.example.com/mcp"):
        assert name in listed.out
    assert list(configured.opensoul("mcp", "list", "--json").json["servers"]) == [
        "works",
        "fails",
        "off",
    ]
    for arguments in (("mcp",), ("mcp", "list", "--json"), ("config", "get", "mcp")):
        assert "env-secret" not in configured.opensoul(*arguments).out


def test_probe_starts_what_is_enabled_and_says_what_failed(configured: Home) -> None:
    outcome = configured.opensoul("mcp", "probe", "--json")
    assert outcome.code == 1
    works, fails = outcome.json["servers"]
    assert works == {
        "name": "works",
        "state": "running",
        "about": "fake 1.2",
        "tools": ["works__add", "works__store"],
        "ok": True,
    }
    assert (fails["name"], fails["state"], fails["ok"]) == ("fails", "failed", False)
    assert "no licence for ***" in fails["problem"]
    one = configured.opensoul("mcp", "probe", "works")
    assert one.code == 0
    assert "2 tools" in one.out


def test_tools_that_cannot_be_used_are_named(home: Home, tmp_path: Path) -> None:
    arguments = ["-m", "tests.fakes.mcp_server", str(tmp_path), "--broken"]
    server = {"command": sys.executable, "cwd": str(PROJECT), "args": arguments}
    home.configure(json.dumps({"mcp": {"servers": {"fake": server}}})).chmod(0o600)

    probed = home.opensoul("mcp", "probe")
    assert probed.code == 0
    assert "1 tools; ' ' is left out: it has no name; 'odd' is left out" in " ".join(
        probed.out.split()
    )
    findings = home.opensoul("doctor", "--json").json["findings"]
    found = [one["message"] for one in findings if one["code"] == "mcp_tool_left_out"]
    assert len(found) == 2
    assert "the tool 'odd' of the MCP server fake" in found[1]


def test_tools_lists_names_and_effects(configured: Home) -> None:
    outcome = configured.opensoul("mcp", "tools", "works", "--json")
    assert outcome.code == 0
    add, store = outcome.json["tools"]
    assert (add["name"], add["effects"]) == ("works__add", ["read"])
    assert (store["name"], store["effects"]) == (
        "works__store",
        ["execute", "network", "read", "write"],
    )
    text = configured.opensoul("mcp", "tools", "works")
    assert "Add two numbers." in text.out
    failed = configured.opensoul("mcp", "tools", "fails")
    assert failed.code == 1
    assert "no licence for ***" in failed.err


def test_the_tools_of_an_agent_include_those_that_it_may_not_use(configured: Home) -> None:
    listed = configured.opensoul("agents", "tools", "main", "--json").json["tools"]
    of_servers = [tool for tool in listed if tool["source"] == "mcp"]
    assert [(tool["name"], tool["source"], tool["verdict"]) for tool in of_servers] == [
        ("works__add", "mcp", "denied"),
        ("works__store", "mcp", "denied"),
    ]


@pytest.mark.parametrize("command", ["probe", "tools", "unset"])
def test_an_unknown_server_is_refused(configured: Home, command: str) -> None:
    outcome = configured.opensoul("mcp", command, "nobody", "--json")
    assert (outcome.code, outcome.json_error["code"]) == (1, "mcp_server_unknown")


def test_a_program_and_a_url_are_added(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.configure("{ // Ours.\n}")
    monkeypatch.setenv("TIME_KEY", "t")
    options = ["--env", "TIME_KEY", "--env", "A=b", "--cwd", "."]
    program = ["--", "mcp-server-time", "--local-timezone", "UTC"]
    assert home.opensoul("mcp", "add", "time", *options, *program).code == 0
    header = ["--header", "X-Team=blue", "--sse"]
    url = ["--url", "https://mcp.example.com/sse"]
    assert home.opensoul("mcp", "add", "search", *url, *header).code == 0
    assert servers_of(home) == {
        "time": {
            "command": "mcp-server-time",
            "args": ["--local-timezone", "UTC"],
            "env": {"TIME_KEY": "${TIME_KEY}", "A": "b"},
            "cwd": str(home.path),
        },
        "search": {
            "url": "https://mcp.example.com/sse",
            "transport": "sse",
            "headers": {"X-Team": "blue"},
        },
    }
    assert "// Ours." in home.config_file.read_text()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("add", "works", "--", "x"), "mcp_server_exists"),
        (("add", "new"), "config_invalid"),
        (("add", "new", "--url", "http://x/mcp", "--", "x"), "config_invalid"),
        (("add", "a__b", "--", "x"), "config_invalid"),
        (("add", "new", "--url", "http://x/mcp", "--header", "X"), "usage"),
        (("set", "new", "5"), "usage"),
        (("set", "new", "{ command: 5 }"), "config_invalid"),
    ],
)
def test_a_wrong_server_is_not_written(
    configured: Home, arguments: tuple[str, ...], code: str
) -> None:
    before = configured.config_file.read_bytes()
    outcome = configured.opensoul("mcp", *arguments[:2], "--json", *arguments[2:])
    assert (outcome.code != 0, outcome.json_error["code"]) == (True, code)
    assert configured.config_file.read_bytes() == before


def test_a_server_is_replaced_and_removed(configured: Home) -> None:
    assert configured.opensoul("mcp", "set", "works", "{ command: 'other' }").code == 0
    assert servers_of(configured)["works"] == {"command": "other"}
    assert configured.opensoul("mcp", "unset", "works").code == 0
    assert list(servers_of(configured)) == ["fails", "off"]


def test_doctor_finds_servers_that_do_not_start(configured: Home) -> None:
    findings = configured.opensoul("doctor", "--json").json["findings"]
    (found,) = [one for one in findings if one["code"] == "mcp_server_unavailable"]
    assert "The MCP server fails is not available" in found["message"]
    assert "env-secret" not in json.dumps(findings)
