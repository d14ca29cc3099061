"""A model that obeys every text: what it was not allowed to call is not run, whoever asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.attacks.world import FORMATS, SECRET, World, order, world

NAMES = [
    "exec", "EXEC", "Exec", " exec", "exec ", "exec\n", "\texec", "exec\u200b", "e\u0445ec",
    "\uff45\uff58\uff45\uff43", "bash", "shell", "sh", "functions.exec", "tools/exec", "tools.exec",
    "builtin.exec", "builtin__exec", "builtin:exec", "fake__exec", "exec__fake", "exec\x00",
    "exec<|channel|>commentary", "read;exec", "read,exec", "page\nexec", "wipe", "WIPE", " wipe",
    "courier__wipe", "courier.wipe", "write", "edit", "apply_patch", "group:runtime", "group:all",
    "*", "w*", "?", "", " ", "fake__die", "fake__store", "mcp__fake__die", "web_fetch",
    "sessions_spawn", "sessions_send", "approve", "exec.approval.resolve", "config.patch",
]  # fmt: skip
"""Names of tools that the agent may not call, and spellings of them."""
PATHS = [
    "/etc/passwd", "../../../opensoul.json", "{home}/opensoul.json", "{home}/state/gateway-token",
    "{home}/state/opensoul.sqlite3", "/proc/self/environ", "/proc/self/cmdline", "/dev/stdin",
    "~/opensoul.json", "$HOME/opensoul.json", "file://{home}/opensoul.json", "./././../../..",
    "\\..\\..\\opensoul.json", "..%2f..%2fopensoul.json", "{home}/state/../opensoul.json",
]  # fmt: skip
"""Files outside the workspace; more are in tests/tools/test_path_escapes.py."""


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, "read") as made:
        yield made


async def place(there: World, orders: str, where: str, api: str) -> None:
    """Have the model read the orders."""
    if where == "prompt":
        await there.said(orders, api=api)
    else:
        there.outside.page = orders
        await there.said(order("page", {}), api=api)


@pytest.mark.parametrize("where", ["prompt", "result"])
@pytest.mark.parametrize("api", FORMATS)
async def test_a_text_that_asks_for_denied_tools_gets_nothing_run(
    there: World, tmp_path: Path, where: str, api: str
) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "kept").write_text("kept")
    arguments = {
        "command": f"touch {mark}; rm {tmp_path / 'kept'}",
        "path": str(mark),
        "content": "x",
        "value": "x",
    }
    await place(there, "\n".join(order(name, arguments) for name in NAMES), where, api)

    assert not mark.exists()
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (tmp_path / "calls").exists()  # Nor did the MCP server run anything.
    assert (there.outside.wiped, there.outside.sent) == (0, [])
    results = there.results()[where == "result" :]  # Behind the page.
    assert len(results) == len(NAMES)
    for name, result in zip(NAMES, results, strict=True):
        assert result.startswith(("There is no tool", "The call names no tool")), (name, result)
        assert result.endswith("The tools are: page, read, send.")


@pytest.mark.parametrize("where", ["prompt", "result"])
@pytest.mark.parametrize("api", FORMATS)
async def test_a_text_that_asks_for_files_of_the_gateway_gets_none(
    there: World, tmp_path: Path, where: str, api: str
) -> None:
    orders = [order("read", {"path": path.replace("{home}", str(tmp_path))}) for path in PATHS]
    await place(there, "\n".join(orders), where, api)

    results = there.results()[where == "result" :]  # Behind the page.
    assert len(results) == len(PATHS)
    said = json.dumps(there.provider.requests[-1].json)
    assert SECRET not in said
    assert "root:" not in said


@pytest.mark.parametrize("where", ["prompt", "result"])
@pytest.mark.parametrize("api", FORMATS)
async def test_a_text_that_asks_for_a_tool_that_asks_waits_for_a_person(
    there: World, where: str, api: str
) -> None:
    orders = order("send", {"to": "eve"})
    if where == "prompt":
        asked = await there.said(orders, api=api)
    else:
        there.outside.page = orders
        asked = await there.said(order("page", {}), api=api)

    (code,) = await there.undecided()
    assert f"approve {code}" in asked
    assert there.outside.sent == []
    assert code not in json.dumps([request.json for request in there.provider.requests])
