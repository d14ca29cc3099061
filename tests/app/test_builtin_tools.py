"""The built-in tools behind the policy: offered and run where the configuration says so."""

from __future__ import annotations

import json
import os
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from dependency_injector.providers import Object

from opensoul.adapters.config import Overrides
from opensoul.app.container import Container
from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import Toolbox, ToolContext
from opensoul.domain.scopes import Scope
from opensoul.domain.tools import ToolResult
from tests.fakes.domain import run
from tests.sandbox.available import needs_bubblewrap

FILES = {"read", "write", "edit", "list", "search"}
MEMORY = {"memory_search", "memory_write"}
SESSIONS = {
    *("sessions_list", "sessions_history", "sessions_send", "sessions_spawn"),
    "session_status",
}


def gateway(
    home: Path, tools: object, sandbox: object = None, **variables: str
) -> tuple[Toolbox, ToolContext]:
    """The tools of a Gateway with that configuration, and a run of its agent."""
    path = home / "opensoul.json"
    configuration = {
        "session": {"store": ":memory:"},
        "gateway": {"auth": {"token": "a secret of the tests"}},
        "agents": {"defaults": {"workspace": str(home / "workspace"), "sandbox": sandbox or {}}},
        "tools": tools,
    }
    path.write_text(json.dumps(configuration))
    container = Container(
        overrides=Object(Overrides(config_path=str(path))),
        env=Object({"OPENSOUL_STATE_DIR": str(home / "state"), "SECRET": "leaked", **variables}),
        home=Object(home / "home"),
    )
    agent = container.settings()().agents.default
    spec = run()
    return container.toolbox(), ToolContext(agent, spec.id, spec.session_key, spec.principal_id)


async def result(toolbox: Toolbox, context: ToolContext, tool: str, **arguments: str) -> ToolResult:
    call = ToolCall("c1", tool, json.dumps(arguments))
    async with aclosing(toolbox.run(context, call, key="run-1:1:c1")) as outputs:
        last = [output async for output in outputs][-1]
    assert isinstance(last, ToolResult)
    return last


@pytest.mark.parametrize(
    ("tools", "offered"),
    [
        ({}, set()),
        ({"exec": {"security": "full"}}, set()),
        ({"deny": ["exec"]}, set()),
        ({"allow": ["group:fs"]}, FILES),
        ({"profile": "full"}, FILES | MEMORY | SESSIONS | {"exec", "web_fetch"}),
        ({"profile": "coding", "deny": ["exec"]}, FILES | MEMORY | SESSIONS),
        ({"profile": "minimal"}, {"session_status"}),
        ({"allow": ["group:memory"]}, MEMORY),
        ({"allow": ["web_fetch", "exec"]}, {"web_fetch", "exec"}),
    ],
)
async def test_built_in_tools_are_offered_where_a_rule_names_them(
    tmp_path: Path, tools: object, offered: set[str]
) -> None:
    toolbox, context = gateway(tmp_path, tools)

    assert {spec.name for spec in await toolbox.tools(context)} == offered
    assert not (tmp_path / "workspace").exists()


async def test_a_tool_that_is_offered_runs_and_another_one_does_not(tmp_path: Path) -> None:
    toolbox, context = gateway(tmp_path, {"allow": ["group:fs", "exec"], "deny": ["write"]})

    denied = await result(toolbox, context, "write", path="x", content="x")
    assert denied.is_error
    assert not (tmp_path / "workspace").exists()
    assert (await result(toolbox, context, "list")).text == "[the folder is empty]"
    printed = await result(toolbox, context, "exec", command="pwd; env")
    assert printed.text.startswith(f"{tmp_path}/workspace\n")
    assert "leaked" not in printed.text


@needs_bubblewrap
async def test_a_configured_sandbox_confines_commands(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "token").write_text("leaked")
    (tmp_path / "state" / "skills").mkdir()
    (tmp_path / "state" / "skills" / "run").write_text("skilled")
    rules, sandbox = {"allow": ["exec"]}, {"mode": "bubblewrap", "limits": {"maxProcesses": 99}}
    toolbox, context = gateway(tmp_path, rules, sandbox, PATH=os.environ["PATH"])

    printed = await result(
        toolbox,
        context,
        "exec",
        command=f"cd {tmp_path}/state; cat token; cat skills/run; rm skills/run || true",
    )

    assert "leaked" not in printed.text
    assert "No such file or directory" in printed.text
    assert "skilled" in printed.text
    assert (tmp_path / "state" / "skills" / "run").exists()
    assert context.agent.sandbox.limits.processes == 99


@pytest.mark.parametrize("mode", ["bubblewrap", "non-main", "all"])
async def test_a_sandbox_that_is_not_available_has_commands_refused(
    tmp_path: Path, mode: str
) -> None:
    toolbox, context = gateway(
        tmp_path, {"allow": ["exec"]}, {"mode": mode, "docker": {}}, PATH=str(tmp_path)
    )

    refused = await result(toolbox, context, "exec", command="touch ran")

    assert refused.is_error
    assert "The sandbox is not available, and nothing is run without it" in refused.text
    assert not (tmp_path / "workspace" / "ran").exists()


async def test_a_client_that_may_only_read_has_the_tools_that_only_read(tmp_path: Path) -> None:
    toolbox, context = gateway(tmp_path, {"allow": ["*"]})
    reading = replace(context, scopes=frozenset({Scope.READ}))

    assert {spec.name for spec in await toolbox.tools(reading)} == {
        *("read", "list", "search", "memory_search", "sessions_list", "sessions_history")
    }
    for tool in ("write", "edit", "exec", "web_fetch", "memory_write", "session_status"):
        refused = await result(toolbox, reading, tool)
        assert refused.is_error
        assert "missing scope: operator.write" in refused.text
    assert not (tmp_path / "workspace").exists()
