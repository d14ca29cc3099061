"""`mcp.servers`: the settings, their errors, and what clients may see and write of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opensoul.adapters.config import REDACTED, ConfigInvalid, redacted
from opensoul.domain.ports.configuration import ConfigRefused
from opensoul.domain.settings import McpServerSettings

from .editable import editor
from .place import Place

FILES = {
    "command": "npx",
    "args": ["-y", "files", "/srv"],
    "env": {"API_KEY": "env-secret", "PORT": 4711, "DEBUG": True},
    "cwd": "work",
}
SEARCH = {
    "url": "https://mcp.example.com/mcp",
    "headers": {"X-Team": "blue-secret"},
    "transport": "sse",
    "enabled": False,
    "tools": {"allow": ["find_*"], "deny": ["find_all"]},
    "connectionTimeoutMs": 1500,
    "requestTimeoutMs": 2500,
}


def mcp(**servers: Any) -> str:
    return json.dumps({"mcp": {"servers": servers}})


def test_a_program_and_a_url_become_servers(place: Place) -> None:
    files, search = place.load(mcp(files=FILES, search=SEARCH)).settings.mcp_servers
    assert (files.name, files.command, files.args) == ("files", "npx", ("-y", "files", "/srv"))
    assert [(name, value.reveal()) for name, value in files.env] == [
        ("API_KEY", "env-secret"),
        ("PORT", "4711"),
        ("DEBUG", "true"),
    ]
    assert files.cwd == str(place.state / "work")
    assert (files.enabled, files.allow, files.deny) == (True, ("*",), ())
    assert (files.connection_timeout, files.request_timeout) == (30.0, 60.0)
    assert (search.url, search.sse, search.enabled) == (SEARCH["url"], True, False)
    assert (search.allow, search.deny) == (("find_*",), ("find_all",))
    assert (search.connection_timeout, search.request_timeout) == (1.5, 2.5)
    assert [(name, value.reveal()) for name, value in search.headers] == [("X-Team", "blue-secret")]


def test_an_empty_list_allows_no_tool(place: Place) -> None:
    text = mcp(files={"command": "x", "tools": {"allow": []}})
    assert place.load(text).settings.mcp_servers == (
        McpServerSettings("files", command="x", allow=()),
    )


@pytest.mark.parametrize(
    ("name", "entry", "problem"),
    [
        ("a", {}, "needs either `command`"),
        ("a", {"command": "x", "url": "http://x/mcp"}, "needs either `command`"),
        ("a", {"command": "x", "transport": "sse"}, "needs `url` for the transport `sse`"),
        ("a", {"url": "http://x/mcp", "transport": "stdio"}, "needs `command` for the transport"),
        ("a", {"url": "ftp://x/mcp"}, "must be an http:// or https:// URL"),
        ("a", {"url": "http://me:pw@x/mcp"}, "must be an http:// or https:// URL"),
        ("a", {"command": "x", "env": {"A=B": "c"}}, "A=B"),
        ("a", {"command": "x", "requestTimeoutMs": 0}, "requestTimeoutMs"),
        ("a__b", {"command": "x"}, "the name of a server"),
        ("a b", {"command": "x"}, "the name of a server"),
        ("a" * 33, {"command": "x"}, "the name of a server"),
    ],
)
def test_a_wrong_server_is_an_error_that_names_it(
    place: Place, name: str, entry: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        place.load(mcp(**{name: entry}))
    (issue,) = caught.value.issues
    assert problem in f"{issue}"
    assert "pw" not in f"{issue}"


@pytest.mark.parametrize("reader", [False, True])
def test_variables_and_headers_are_hidden(place: Place, reader: bool) -> None:
    loaded = place.load(mcp(files=FILES, search=SEARCH))
    shown = redacted(loaded, reader=reader)["mcp"]["servers"]
    assert shown["files"]["env"] == {"API_KEY": REDACTED, "PORT": REDACTED, "DEBUG": True}
    assert shown["search"]["headers"] == {"X-Team": REDACTED}
    assert "env-secret" not in repr(loaded)
    assert "blue-secret" not in repr(loaded)


def test_secrets_among_the_arguments_are_hidden(place: Place) -> None:
    server = {"command": "x", "args": ["--api-token", "arg-secret", "--verbose", "loud"]}
    shown = redacted(place.load(mcp(files=server)))["mcp"]["servers"]["files"]["args"]
    assert shown == ["--api-token", REDACTED, "--verbose", "loud"]


def test_a_reader_sees_no_program_and_no_address(place: Place) -> None:
    shown = redacted(place.load(mcp(files=FILES, search=SEARCH)), reader=True)["mcp"]["servers"]
    assert shown["files"]["args"] == [REDACTED] * 3
    assert {shown["files"]["command"], shown["files"]["cwd"], shown["search"]["url"]} == {REDACTED}
    assert shown["search"]["tools"] == {"allow": ["find_*"], "deny": ["find_all"]}


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"command": "sh"}},
        {"files": {"args": ["files", "-y", "/srv"]}},
        {"files": {"args": ["-y", "files"]}},
        {"files": {"env": {"LD_PRELOAD": "x.so"}}},
        {"files": {"cwd": "/"}},
        {"search": {"url": "https://other.example.com/mcp"}},
        {"search": {"headers": {"X-Team": "red"}}},
        {"other": {"command": "npx"}},
        {"search": {"enabled": True}},
        {"search": {"tools": None}},
        {"search": {"tools": {"deny": []}}},
        {"files": None},
        {"other": {"url": "https://mcp.example.com/mcp"}},
    ],
)
def test_a_client_may_not_change_the_servers(place: Place, change: dict[str, Any]) -> None:
    place.write(mcp(files=FILES, search=SEARCH))
    file = editor(place)
    with pytest.raises(ConfigRefused, match="may not change the servers of tools"):
        file.patch(json.dumps({"mcp": {"servers": change}}), file.snapshot().hash)


def test_a_client_may_edit_around_the_servers_and_remove_them_all(place: Place) -> None:
    place.write(mcp(files=FILES, search=SEARCH))
    file = editor(place)
    assert file.patch('{"logging": {"level": "debug"}}', file.snapshot().hash).valid
    assert len(place.load(place.file.read_text()).settings.mcp_servers) == 2
    assert file.patch('{"mcp": null}', file.snapshot().hash).valid
    assert place.load(place.file.read_text()).settings.mcp_servers == ()
