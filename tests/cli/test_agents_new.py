"""`opensoul agents new`: an agent that runs, and its entry in the configuration."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from opensoul.adapters.python_agents import GROUP, PLAIN
from opensoul.app.plugins import installed
from tests.app.serving import Served, config, serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider
from tests.python_agents.conftest import configured

from .command import Home


def test_a_function_is_written_and_can_be_served(home: Home) -> None:
    done = home.opensoul("agents", "new", "front-desk")
    assert (done.code, done.err) == (0, "")
    assert str(home.path / "front_desk.py") in done.out
    for command in (
        "opensoul agents check front-desk",
        "opensoul dev front_desk:agent",
        "opensoul gateway run",
    ):
        assert command in done.out
    assert "pip install" not in done.out

    checked = home.opensoul("agents", "check", "front-desk", "--json")
    assert (checked.code, checked.json["framework"]) == (0, PLAIN)
    shown = home.opensoul("config", "show", "--json").json["config"]
    assert shown["gateway"]["http"]["endpoints"]["chatCompletions"]["enabled"] is True


def test_the_rest_of_the_configuration_stays(home: Home) -> None:
    home.configure("{\n  // Ours.\n  agents: { list: [{ id: 'beta', runner: 'echo' }] },\n}\n")
    assert home.opensoul("agents", "new", "support", "--path", "code").code == 0
    text = home.config_file.read_text()
    assert "// Ours." in text
    assert "chatCompletions" not in text
    agents = home.opensoul("agents", "list", "--json").json
    assert agents["default"] == "beta"
    assert [agent["id"] for agent in agents["agents"]] == ["beta", "support"]
    assert agents["agents"][1]["path"] == str(home.path / "code")


def test_the_agent_that_needs_no_entry_stays(home: Home) -> None:
    home.configure("{ agents: { defaults: { model: { primary: 'openai/gpt-5.2' } } } }")
    assert home.opensoul("agents", "new", "support").code == 0
    agents = home.opensoul("agents", "list", "--json").json
    assert (agents["default"], len(agents["agents"])) == ("main", 2)


def test_nothing_is_overwritten(home: Home) -> None:
    home.configure("{ agents: { list: [{ id: 'support', runner: 'echo' }] } }")
    before = home.config_file.read_bytes()
    taken = home.opensoul("agents", "new", "support", "--json")
    assert (taken.code, taken.json_error["code"]) == (1, "agent_exists")
    assert not (home.path / "support.py").exists()

    (home.path / "help_desk.py").write_text("mine")
    there = home.opensoul("agents", "new", "help-desk", "--json")
    assert (there.code, there.json_error["code"]) == (1, "file_exists")
    assert (home.path / "help_desk.py").read_text() == "mine"
    assert home.config_file.read_bytes() == before


@pytest.mark.parametrize("name", ["Support", "9to5", "a b", "../up", "json", "class", "click", ""])
def test_a_name_that_cannot_be_a_module_is_refused(home: Home, name: str) -> None:
    refused = home.opensoul("agents", "new", "--json", "--", name)
    assert (refused.code, refused.json_error["code"]) == (1, "invalid_option")
    assert list(home.path.glob("*.py")) == []


@pytest.mark.parametrize("framework", ["pydantic-ai", "langgraph", "openai-agents"])
def test_the_agent_of_a_framework_has_a_tool(
    home: Home, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = home.opensoul("agents", "new", "clock-desk", "--framework", framework, "--json")
    assert made.code == 0
    assert made.json["target"] == "clock_desk:agent"
    module = ast.parse(Path(made.json["module"]).read_text())
    functions = [node.name for node in module.body if isinstance(node, ast.FunctionDef)]
    assert "current_time" in functions
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    printed = home.opensoul("agents", "new", "second-desk", "--framework", framework).out
    assert "export OPENAI_API_KEY=..." in printed
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    printed = home.opensoul("agents", "new", "third-desk", "--framework", framework).out
    assert "OPENAI_API_KEY" not in printed


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("framework", "module"),
    [
        ("pydantic-ai", "pydantic_ai"),
        ("openai-agents", "agents"),
        ("langgraph", "langchain_openai"),
    ],
)
def test_the_agent_of_a_framework_is_recognised(
    home: Home, framework: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(module)
    if framework not in {point.name for point in installed(GROUP)}:
        pytest.skip(f"there is no adapter for {framework} in this installation")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    home.opensoul("agents", "new", "clock-desk", "--framework", framework)
    checked = home.opensoul("agents", "check", "clock-desk", "--json")
    assert (checked.code, checked.json["framework"]) == (0, framework), checked


async def test_the_function_knows_the_conversation(home: Home, tmp_path: Path) -> None:
    home.opensoul("agents", "new", "front-desk")
    runner = {"target": "front_desk:agent", "path": str(home.path), "isolation": "process"}

    async with serving(tmp_path, configured(runner)) as served:
        first = await asked(served, "hello")
        second = await asked(served, "again")

    assert first == "You said: hello\n"
    assert second == "You said: again\nBefore that you said: hello\n"


@pytest.mark.parametrize(
    ("framework", "module"),
    [
        ("pydantic-ai", "pydantic_ai"),
        pytest.param("openai-agents", "agents", marks=pytest.mark.e2e),
    ],
)
async def test_the_agent_of_a_framework_calls_the_gateways_model_and_its_tool(
    home: Home, tmp_path: Path, framework: str, module: str
) -> None:
    pytest.importorskip(module)
    home.opensoul("agents", "new", "clock-desk", "--framework", framework)
    runner = {"target": "clock_desk:agent", "path": str(home.path), "isolation": "process"}
    call = {"name": "current_time", "arguments": "{}"}
    calls = [{"index": 0, "id": "c1", "type": "function", "function": call}]

    async with FakeProvider() as provider:
        provider.will(answer(tool_calls=calls, finish_reason="tool_calls"), answer("It is noon."))
        content = configured(runner, models=config(provider.base_url)["models"])
        content["agents"]["defaults"] = {"model": {"primary": "fake/m"}}
        async with serving(tmp_path, content) as served:
            text = await asked(served, "What time is it?")
        first, second = [request.json for request in provider.requests]

    assert text == "It is noon."
    assert [tool["function"]["name"] for tool in first["tools"]] == ["current_time"]
    assert second["messages"][-1]["role"] == "tool"
    assert "+00:00" in str(second["messages"][-1]["content"])


async def asked(served: Served, text: str) -> str:
    return await served.text(messages=[{"role": "user", "content": text}], user="ada")
