"""What operators are shown of Python agents that are being loaded, or cannot be."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.python_agents import (
    AgentRun,
    PythonAgents,
    Status,
    inspected,
)
from opensoul.client import Client
from opensoul.domain.access import Principal
from opensoul.domain.agents import Agent, Isolation, PythonTarget
from tests.app.serving import SECRET, Served, serving
from tests.python_agents.conftest import Write, configured
from tests.python_agents.test_functions import ASYNC_GENERATOR, FUNCTION

WAITS = """
    with open(__file__ + ".gate") as gate:
        gate.read()
    def agent(run):
        return "loaded"
"""
"""Its import ends when somebody has written into the named pipe."""


async def states_of(served: Served) -> dict[str, Mapping[str, Any]]:
    url = served.url.replace("http", "ws", 1)
    async with Client.connect(url, token=SECRET, scopes=["operator.admin"]) as client:
        status = await client.status()
    return {row["agentId"]: row for row in status["pythonAgents"]}


async def degraded(served: Served) -> Mapping[str, str]:
    async with served.client.get("/readyz") as response:
        assert response.status == 200
        found: Mapping[str, str] = (await response.json()).get("degraded", {})
        return found


@pytest.mark.parametrize("isolation", ["thread", "inline"])
async def test_an_import_that_takes_long_delays_no_other_agent(
    isolation: str, write: Write, tmp_path: Path
) -> None:
    slow, quick = write(WAITS), write(FUNCTION)
    gate = tmp_path / f"{slow}.py.gate"
    os.mkfifo(gate)
    content = configured(
        {"target": f"{slow}:agent", "isolation": isolation}, {"target": f"{quick}:agent"}
    )

    async with serving(tmp_path, content) as served:
        other = await served.text(model="opensoul/a1")
        loading, shown = await states_of(served), await degraded(served)
        answer = asyncio.create_task(served.text())
        await asyncio.to_thread(gate.write_text, "go on")
        text = await answer
        ready, nothing = await states_of(served), await degraded(served)

    assert (other, text) == ("hello !", "loaded")
    assert loading["main"] == {
        "agentId": "main",
        "target": f"{slow}:agent",
        "isolation": isolation,
        "state": "loading",
    }
    assert shown == {"agent main": "The agent `main` is being loaded."}
    assert (ready["main"]["state"], ready["main"]["description"]) == ("ready", "a function")
    assert nothing == {}


FAILURES = {
    "raises": ("raise OSError('no disk at /srv/secret')", "OSError: no disk at /srv/secret"),
    "exits": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "needs": ("import langgraph_x\nimport langgraph", "needs `langgraph_x`"),
    "attribute": (
        "def __getattr__(name):\n    raise LookupError('nothing here')",
        "LookupError: nothing here",
    ),
}


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize(("text", "why"), FAILURES.values(), ids=FAILURES)
async def test_an_agent_that_cannot_be_loaded_is_in_the_status(
    text: str, why: str, isolation: str, write: Write, tmp_path: Path
) -> None:
    runner = {"target": f"{write(text)}:agent", "isolation": isolation}
    content = configured(runner, {"target": f"{write(FUNCTION)}:agent"})

    async with serving(tmp_path, content) as served:
        await served.container.python_agents().loaded("main")
        other = await served.text(model="opensoul/a1")
        shown, public = await states_of(served), await degraded(served)

    assert other == "hello !"
    assert shown["main"]["state"] == "failed"
    assert why in shown["main"]["problem"]
    assert public == {"agent main": "The agent `main` cannot be loaded."}


def test_a_missing_framework_names_the_extra_that_installs_it(write: Write, tmp_path: Path) -> None:
    name = write("raise ModuleNotFoundError('x', name='langgraph.graph')")

    found = asyncio.run(inspected(PythonTarget(f"{name}:agent", str(tmp_path))))

    assert found.problem.endswith("not installed: pip install 'opensoul[langgraph]'.")


async def test_an_inspection_describes_an_agent(write: Write, tmp_path: Path) -> None:
    name = write(ASYNC_GENERATOR)

    found = await inspected(PythonTarget(f"{name}:agent", str(tmp_path)))

    assert (found.framework, found.kind) == ("plain", "an async generator function")
    assert not found.problem
    assert name not in sys.modules


async def test_an_inspection_shows_the_lines_of_the_users_code_alone(
    write: Write, tmp_path: Path
) -> None:
    name = write("def fail():\n    return 1 / 0\nfail()\n")

    found = await inspected(PythonTarget(f"{name}:agent", str(tmp_path)))

    assert "ZeroDivisionError" in found.problem
    assert f'{name}.py", line 2, in fail' in found.traceback
    assert "importlib" not in found.traceback
    assert "loading.py" not in found.traceback


async def test_an_import_without_an_end_is_given_up(write: Write, tmp_path: Path) -> None:
    name = write("import threading\nthreading.Event().wait()\n")

    found = await inspected(PythonTarget(f"{name}:agent", str(tmp_path)), patience=0.1)

    assert found.problem == "The import of the agent has not ended after 0.1 s."


class Picky:
    """A framework whose adapter fails."""

    types = frozenset({"builtins.dict"})

    def describe(self, target: object) -> str:
        raise RuntimeError("an adapter for another release")

    async def run(self, target: object, run: AgentRun) -> Any:
        yield ""


async def test_a_framework_whose_adapter_fails_is_reported(write: Write, tmp_path: Path) -> None:
    name = write("agent = {}")
    point = EntryPoint("picky", f"{__name__}:Picky", "opensoul.python_agents")
    agents = PythonAgents(lambda group: [point])
    target = PythonTarget(f"{name}:agent", str(tmp_path), Isolation.THREAD)
    agents.configure([Agent("main", "main", runner="python", python=target)])

    state = await agents.loaded("main")
    await agents.close()

    assert state.described()["state"] == "failed"
    assert "RuntimeError: an adapter for another release" in state.what


async def test_an_adapter_that_cannot_be_loaded_harms_no_other_agent(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    points = [
        EntryPoint("a-missing", "no_such_module:Adapter", "opensoul.python_agents"),
        EntryPoint("picky", f"{__name__}:Picky", "opensoul.python_agents"),
    ]
    agents = PythonAgents(lambda group: points)
    target = PythonTarget(f"{write(FUNCTION)}:agent", str(tmp_path), Isolation.THREAD)
    agents.configure([Agent("main", "main", runner="python", python=target)])

    state = await agents.loaded("main")
    await agents.close()

    assert (state.status, state.what) == (Status.READY, "a function")
    assert "the adapter of a framework cannot be loaded" in caplog.text


AGENT = "def agent(run):\n    return 'hi'\n"
SAME = {
    "the target": {"NAME.py": AGENT},
    "a module of a package": {"things/NAME.py": AGENT},
    "a helper": {"agent_PATH.py": f"from NAME import helper\n{AGENT}", "NAME.py": "helper = 1"},
    "a helper that is imported later": {
        "agent_PATH.py": "def agent(run):\n    import NAME\n    return NAME.text",
        "NAME.py": "text = 'hi'",
    },
    "a helper of a helper": {
        "pack_PATH/__init__.py": "",
        "pack_PATH/main.py": f"from .inner import more\n{AGENT}",
        "pack_PATH/inner.py": "import NAME.deep\nmore = 1",
        "NAME/__init__.py": "",
        "NAME/deep.py": "",
    },
}


@pytest.mark.parametrize("files", SAME.values(), ids=SAME)
async def test_a_module_of_the_same_name_in_another_path_is_refused(
    files: dict[str, str], tmp_path: Path
) -> None:
    name = f"same_{uuid.uuid4().hex[:8]}"
    paths = [tmp_path / "one", tmp_path / "two"]
    found = []
    for path in paths:
        for file, text in files.items():
            written = path / file.replace("NAME", name).replace("PATH", f"{path.name}_{name}")
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(text.replace("NAME", name))
            if "def agent" in text:
                module = ".".join(written.relative_to(path).with_suffix("").parts)
                target = PythonTarget(f"{module}:agent", str(path))
                found.append(Agent(path.name, "", python=target))
    agents = PythonAgents(lambda group: [])
    agents.configure(found)

    states = [await agents.loaded(path.name) for path in paths]
    await agents.close()

    good, bad = sorted(states, key=lambda state: state.status is Status.FAILED)
    assert (good.status, bad.status) == (Status.READY, Status.FAILED), (good.what, bad.what)
    assert all(str(path) in bad.what for path in paths)
    assert name in bad.what
    assert 'isolation: "process"' in bad.what


async def test_modules_of_other_names_and_the_parts_of_a_namespace_are_not_in_the_way(
    tmp_path: Path,
) -> None:
    name = f"spaces_{uuid.uuid4().hex[:8]}"
    for path in ("one", "two"):
        folder = tmp_path / path / name
        folder.mkdir(parents=True)
        (folder / f"{path}.py").write_text(f"import json\nimport os.path\n{AGENT}")
        (tmp_path / path / "json.py").write_text("is_not_imported = True")
    agents = PythonAgents(lambda group: [])
    agents.configure(
        Agent(path, "", python=PythonTarget(f"{name}.{path}:agent", str(tmp_path / path)))
        for path in ("one", "two")
    )

    states = [await agents.loaded(path) for path in ("one", "two")]
    await agents.close()

    assert [state.status for state in states] == [Status.READY] * 2, states


async def test_a_module_behind_a_symbolic_link_is_loaded(tmp_path: Path) -> None:
    name = f"linked_{uuid.uuid4().hex[:8]}"
    code, path = tmp_path / "code", tmp_path / "a directory of agents"
    code.mkdir()
    path.mkdir()
    (code / "x.py").write_text("def agent(run):\n    return run.text\n")
    (path / f"{name}.py").symlink_to(code / "x.py")
    agents = PythonAgents(lambda group: [])
    agents.configure([Agent("main", "", python=PythonTarget(f"{name}:agent", str(path)))])

    state = await agents.loaded("main")
    await agents.close()

    assert state.status is Status.READY, state.what


async def test_a_run_of_an_agent_that_is_gone_does_not_bring_it_back(
    write: Write, tmp_path: Path
) -> None:
    agent = Agent("main", "", python=PythonTarget(f"{write(FUNCTION)}:agent", str(tmp_path)))
    agents = PythonAgents(lambda group: [])
    agents.configure([agent])
    agents.configure([])
    run = AgentRun(
        "hi", (), (), "agent:main:main", "main", "r", Principal("a", frozenset(), "token")
    )

    events = [event async for batch in agents.stream(agent, run) for event in batch]
    states = agents.states()
    await agents.close()

    assert events
    assert states == ()


async def test_parts_of_a_namespace_can_be_imported_at_the_same_time(tmp_path: Path) -> None:
    agents = PythonAgents(lambda group: [])
    statuses = []
    for number in range(20):
        name = f"parts_{uuid.uuid4().hex[:8]}"
        pair = []
        for part in ("one", "two"):
            path = tmp_path / f"{part}_{number}"
            (path / name).mkdir(parents=True)
            (path / name / f"{part}.py").write_text(AGENT)
            # Each of the two is imported in a thread of its own.
            target = PythonTarget(f"{name}.{part}:agent", str(path), Isolation.INLINE)
            pair.append(Agent(part, "", python=target))
        agents.configure(pair)
        statuses += [(await agents.loaded(agent.id)).status for agent in pair]
    await agents.close()

    assert statuses == [Status.READY] * 40
