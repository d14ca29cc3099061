"""What a provider gets of an agent's workspace and skills, from a Gateway on a real port."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dependency_injector.providers import Object

from opensoul.client import CallFailed, Client, Options
from tests.app.serving import SECRET, Served, config, serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()
DATE = "# Date\n\nToday is Saturday, 2026-11-28. The time zone is UTC."
INSTRUCTIONS = "Be brief."
FILE = (
    "# Workspace files\n\nThese files of your workspace are part of your instructions.\n\n"
    '<file name="AGENTS.md">\n{}\n</file>'
)


@asynccontextmanager
async def gateway(
    home: Path, *, tools: object = None, **agent: object
) -> AsyncIterator[tuple[Served, FakeProvider]]:
    """A Gateway whose agent has the workspace `home/workspace`."""
    async with FakeProvider() as provider:
        content = config(
            provider.base_url,
            agents={
                "defaults": {"model": "fake/m", "userTimezone": "UTC"},
                "list": [
                    {
                        "id": "main",
                        "instructions": INSTRUCTIONS,
                        "workspace": str(home / "workspace"),
                        **agent,
                    }
                ],
            },
            tools=tools or {},
        )
        async with serving(home, content, clock=Object(lambda: NOW)) as served:
            yield served, provider


def administrator(served: Served) -> Client:
    url, scopes = served.url.replace("http", "ws", 1), ("operator.admin",)
    return Client(Options(url=url, token=SECRET, client_id="cli", mode="cli", scopes=scopes))


async def messages(served: Served, provider: FakeProvider, **body: Any) -> list[dict[str, Any]]:
    """The messages that the provider gets for a question."""
    await served.text(**body)
    sent: list[dict[str, Any]] = (await provider.arrival()).json["messages"]
    return sent


async def system(served: Served, provider: FakeProvider) -> str:
    first, question = await messages(served, provider)
    assert (first["role"], question["role"]) == ("system", "user")
    text: str = first["content"]
    return text


def write(home: Path, name: str, text: str) -> None:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


async def test_an_agent_without_files_tools_and_skills_sends_its_instructions_only(
    tmp_path: Path,
) -> None:
    write(tmp_path, "state/skills/mail/SKILL.md", "---\ndescription: Sends.\n---")
    async with gateway(tmp_path) as (served, provider):
        assert await system(served, provider) == INSTRUCTIONS
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize("tools", [{"allow": ["read", "exec"]}, {"allow": ["group:fs"]}])
async def test_offered_tools_alone_make_no_workspace(tmp_path: Path, tools: object) -> None:
    async with gateway(tmp_path, tools=tools) as (served, provider):
        assert (await system(served, provider)).startswith(f"{INSTRUCTIONS}\n\n# Tools\n\n")
    assert not (tmp_path / "workspace").exists()


async def test_an_unknown_agent_has_no_workspace(tmp_path: Path) -> None:
    async with gateway(tmp_path, tools={"allow": ["*"]}) as (served, _):
        async with served.ask(model="opensoul:nobody") as response:
            assert response.status == 404
        async with served.ask({"x-opensoul-agent-id": "nobody"}) as response:
            assert response.status in (400, 404)
        async with administrator(served) as client:
            with pytest.raises(CallFailed, match="nobody"):
                await client.call("agents.workspace.ensure", {"agentId": "nobody"})
            with pytest.raises(CallFailed, match="nobody"):
                await client.run_agent("/call list {}", agent_id="nobody")
        assert not [path for path in (tmp_path / "state").iterdir() if "workspace" in path.name]


async def test_files_are_in_the_next_prompt_as_soon_as_they_are_written(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (served, provider):
        prompts = [await system(served, provider)]
        for text in ("Be kind.", "Be bold.", ""):
            write(tmp_path, "workspace/AGENTS.md", text)
            prompts.append(await system(served, provider))
            prompts.append(await system(served, provider))

    kind, bold = (
        f"{INSTRUCTIONS}\n\n{FILE.format(text)}\n\n{DATE}" for text in ("Be kind.", "Be bold.")
    )
    assert prompts == [INSTRUCTIONS, kind, kind, bold, bold, INSTRUCTIONS, INSTRUCTIONS]


async def test_the_layer_of_a_request_comes_behind_what_the_agent_knows(tmp_path: Path) -> None:
    write(tmp_path, "workspace/AGENTS.md", "Be kind.")
    layer = {"role": "system", "content": "Answer in French."}
    question = {"role": "user", "content": "hello"}
    async with gateway(tmp_path) as (served, provider):
        first, second = await messages(served, provider, messages=[layer, question])

    assert first["content"].startswith(INSTRUCTIONS)
    assert first["content"].endswith(f"{DATE}\n\nAnswer in French.")
    assert second == question


async def test_unusable_files_do_not_break_a_turn(tmp_path: Path) -> None:
    write(tmp_path, "secret.md", "secret")
    write(tmp_path, "workspace/AGENTS.md", "Be kind.")
    (tmp_path / "workspace" / "SOUL.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "workspace" / "USER.md").write_bytes(b"\xff")
    async with gateway(tmp_path) as (served, provider):
        prompt = await system(served, provider)

    assert prompt == f"{INSTRUCTIONS}\n\n{FILE.format('Be kind.')}\n\n{DATE}"


async def test_a_sub_agent_knows_how_to_work_and_not_whom_for(tmp_path: Path) -> None:
    for name in ("AGENTS", "SOUL", "USER", "TOOLS", "MEMORY"):
        write(tmp_path, f"workspace/{name}.md", f"This is {name}.")
    function = {"name": "sessions_spawn", "arguments": '{"task": "Count the files."}'}
    call = {"index": 0, "id": "c1", "type": "function", "function": function}
    async with gateway(tmp_path, tools={"allow": ["sessions_spawn"]}) as (served, provider):
        provider.will(answer(tool_calls=[call], finish_reason="tool_calls"))
        await served.text()
        parent = (await provider.arrival()).json["messages"]
        requests = [(await provider.arrival()).json["messages"] for _ in range(2)]

    (child,) = [one for one in requests if "Count the files." in str(one[-1]["content"])]
    known = re.findall("This is ([A-Z]+)", parent[0]["content"])
    assert known == ["AGENTS", "SOUL", "USER", "TOOLS", "MEMORY"]
    assert re.findall("This is ([A-Z]+)", child[0]["content"]) == ["AGENTS", "TOOLS"]


SCRIPTED = {"providers": {"scripted": {"api": "scripted", "models": [{"id": "m"}]}}}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("skills/pdf/SKILL.md", "---\ndescription: Reads.\n---\nIn the workspace."),
        ("{state}/skills/mail/SKILL.md", "---\ndescription: Sends.\n---\nShared."),
        ("{state}/skills/mail/templates/a.txt", "Dear"),
    ],
)
async def test_a_model_reads_the_skills_that_its_prompt_lists(
    tmp_path: Path, path: str, text: str
) -> None:
    folder = path.format(state="state") if path.startswith("{") else f"workspace/{path}"
    write(tmp_path, folder, text)
    content = config(
        agents={
            "defaults": {"model": "scripted/m", "workspace": str(tmp_path / "workspace")},
        },
        models=SCRIPTED,
        tools={"allow": ["read"]},
    )
    call = json.dumps({"path": path.format(state=tmp_path / "state")})
    async with serving(tmp_path, content) as served:
        answer = await served.text(messages=[{"role": "user", "content": f"/call read {call}"}])

    assert text in answer


async def test_the_list_of_skills_follows_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "state/skills/mail/SKILL.md", "---\ndescription: Sends.\n---")
    async with gateway(tmp_path, tools={"allow": ["read"]}) as (served, provider):
        before = await system(served, provider)
        write(tmp_path, "workspace/skills/mail/SKILL.md", "---\ndescription: Mine.\n---")
        after = await system(served, provider)

    assert f"\n- `mail` (`{tmp_path}/state/skills/mail/SKILL.md`): Sends.\n" in before
    assert "\n- `mail` (`skills/mail/SKILL.md`): Mine.\n" in after


async def test_files_written_over_the_control_plane_count_for_the_next_turn(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (served, provider):
        async with administrator(served) as client:
            file = {"agentId": "main", "name": "AGENTS.md", "content": "Be kind."}
            await client.call("agents.files.set", file)
        assert FILE.format("Be kind.") in await system(served, provider)
