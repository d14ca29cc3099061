"""Agents, their files and their models, as clients list and change them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError

from opensoul.adapters.system.files.workspaces import WorkspaceFiles
from opensoul.adapters.transports.control.methods.agents import AgentFiles, AgentMethods
from opensoul.domain.errors import GatewayError, InvalidRequest, UnknownAgent
from opensoul.domain.ports.configuration import ConfigFile, ConfigRefused, ConfigSnapshot, MakePatch
from opensoul.domain.ports.workspaces import FILE_NAMES
from tests.config.editable import editor
from tests.config.place import Place
from tests.websocket.methods import READER, Bench, connection


@dataclass
class TakenOver:
    """A real file; every change of it is in force at once, unless it is to be taken over later."""

    place: Place
    bench: Bench
    at_once: bool = True
    changed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._editor = editor(self.place)

    def snapshot(self, *, reader: bool = False) -> ConfigSnapshot:
        return self._editor.snapshot(reader=reader)

    def replace(self, raw: str, base_hash: str | None) -> ConfigSnapshot:
        return self._editor.replace(raw, base_hash)

    def patch(self, raw: str, base_hash: str | None) -> ConfigSnapshot:
        return self._editor.patch(raw, base_hash)

    def change(self, patch: Mapping[str, object] | MakePatch) -> ConfigSnapshot:
        changed = self._editor.change(patch)
        self.changed.set()
        if self.at_once:
            self.take_over()
        return changed

    def schema(self) -> Mapping[str, object]:
        return self._editor.schema()

    def take_over(self) -> None:
        self.bench.settings = self.place.load().settings


@dataclass
class Agents:
    bench: Bench
    place: Place
    config: TakenOver

    def configure(self, text: str) -> None:
        self.place.write(text)
        self.config.take_over()

    def agent_ids(self) -> list[str]:
        return [agent.id for agent in self.bench.settings.agents]

    def workspace(self, agent_id: str) -> Path:
        return Path(self.bench.settings.agents.find(agent_id, param="").workspace)

    async def ask(self, method: str, client: Any = None, **params: Any) -> Any:
        return await self.bench.ask(method, client, **params)

    async def refusal(self, method: str, **params: Any) -> str:
        with pytest.raises(GatewayError) as caught:
            await self.ask(method, **params)
        return caught.value.message


@pytest_asyncio.fixture
async def agents(tmp_path: Path) -> AsyncIterator[Agents]:
    bench, place = Bench(), Place(tmp_path, {"TOKEN": "token-from-outside"})
    config = TakenOver(place, bench)
    port: ConfigFile = config
    bench.handlers = {
        **bench.handlers,
        **bench.handlers_of(
            AgentMethods,
            AgentFiles,
            config=port,
            workspaces=WorkspaceFiles(place.state, bench.clock),
        ),
    }
    made = Agents(bench, place, config)
    made.configure("{ gateway: { auth: { token: '${TOKEN}' } } } // ours")
    await bench.store.open()
    yield made
    await bench.store.close()


async def test_agents_are_listed_the_default_one_first(agents: Agents) -> None:
    agents.configure('{ agents: { list: [{ id: "a", name: "Ann" }, { id: "b", default: true }] } }')
    told = await agents.ask("agents.list")
    assert (told["defaultId"], told["mainKey"], told["scope"]) == ("b", "main", "per-sender")
    assert [row["id"] for row in told["agents"]] == ["b", "a"]
    assert told["agents"][1] == {
        "id": "a",
        "name": "Ann",
        "identity": {"name": "Ann"},
        "model": {"primary": "openai/gpt-5.2", "fallbacks": []},
        "workspace": str(agents.place.state / "workspace-a"),
    }
    reader = await agents.ask("agents.list", connection("reader", READER))
    assert all("workspace" not in row for row in reader["agents"])


async def test_an_identity_is_that_of_an_agent_or_of_a_session(agents: Agents) -> None:
    agents.configure('{ agents: { list: [{ id: "a", name: "ann" }, { id: "b" }] } }')
    ann = {"agentId": "a", "name": "ann", "avatar": "A"}
    assert await agents.ask("agent.identity.get") == ann
    assert await agents.ask("agent.identity.get", agentId="A") == ann
    told = await agents.ask("agent.identity.get", sessionKey="agent:b:main")
    assert told["agentId"] == "b"
    with pytest.raises(UnknownAgent):
        await agents.ask("agent.identity.get", agentId="nobody")


async def test_an_agent_that_is_created_can_be_used_and_the_others_stay(agents: Agents) -> None:
    told = await agents.ask("agents.create", name="Ops & Co", emoji="🦉", model="openai/gpt-5.2")
    assert told == {
        "ok": True,
        "agentId": "ops-co",
        "name": "Ops & Co",
        "workspace": str(agents.place.state / "workspace-ops-co"),
    }
    assert agents.agent_ids() == ["main", "ops-co"]
    assert agents.bench.settings.agents.default.id == "main"
    assert agents.workspace("ops-co").is_dir()
    text = agents.place.file.read_text()
    assert "'${TOKEN}'" in text
    assert "// ours" in text


async def test_the_answer_waits_until_the_agent_can_be_used(agents: Agents) -> None:
    agents.config.at_once = False
    asked = asyncio.create_task(agents.ask("agents.create", name="ops"))
    await asyncio.to_thread(agents.config.changed.wait)
    assert not asked.done()
    agents.config.take_over()
    assert (await asked)["workspace"] == str(agents.workspace("ops"))


async def test_a_gateway_that_does_not_reload_says_that_the_agent_waits(agents: Agents) -> None:
    agents.configure("{ gateway: { reload: { mode: 'off' } } }")
    agents.config.at_once = False
    workspace = str(agents.place.state / "w")
    told = await agents.ask("agents.create", name="ops", workspace=workspace)
    assert (told["applied"], told["workspace"]) == (False, workspace)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Main", '"main" is reserved'),
        ("OPS", 'agent "ops" already exists'),
        ("!!!", 'the name "!!!" has no letter or digit to make an id from'),
    ],
)
async def test_a_name_that_cannot_be_had_is_refused(
    agents: Agents, name: str, message: str
) -> None:
    await agents.ask("agents.create", name="ops")
    assert await agents.refusal("agents.create", name=name) == message


async def test_what_would_not_be_valid_is_not_written(agents: Agents) -> None:
    before = agents.place.file.read_text()
    with pytest.raises(ConfigRefused, match="there is no provider"):
        await agents.ask("agents.create", name="ops", model="nobody/x")
    assert agents.place.file.read_text() == before


async def test_an_update_changes_what_is_named_and_leaves_the_rest(agents: Agents) -> None:
    agents.configure(
        """{ agents: { list: [
             { id: "a", instructions: "Own.", identity: { name: "A" },
               model: { primary: "openai/x", fallbacks: ["openai/y"] } } ] } }"""
    )
    told = await agents.ask(
        "agents.update", agentId="A", name="Ann", model="openai/z", avatar="https://x/y.png"
    )
    assert told == {"ok": True, "agentId": "a"}
    agent = agents.bench.settings.agents.find("a", param="")
    assert (agent.name, agent.instructions) == ("Ann", "You are A.\n\nOwn.")
    assert [target.ref for target in agent.models] == ["openai/z", "openai/y"]
    assert await agents.refusal("agents.update", agentId="x", name="y") == 'agent "x" not found'


async def test_the_agent_that_is_not_listed_can_be_updated(agents: Agents) -> None:
    await agents.ask("agents.update", agentId="main", name="Molty")
    assert agents.bench.settings.agents.default.name == "Molty"


async def test_a_deleted_agent_is_gone_and_so_is_what_was_bound_to_it(agents: Agents) -> None:
    agents.configure(
        """{ agents: { list: [{ id: "a" }, { id: "b" }] },
             bindings: [{ agentId: "b", match: { channel: "x" } },
                        { agentId: "a", match: { channel: "y" } }] }"""
    )
    await agents.ask("agents.workspace.ensure", agentId="b")
    workspace = agents.workspace("b")
    told = await agents.ask("agents.delete", agentId="B")
    assert told == {"ok": True, "agentId": "b", "removedBindings": 1}
    assert agents.agent_ids() == ["a"]
    assert workspace.is_dir()


async def test_a_workspace_is_moved_aside_and_never_deleted(agents: Agents) -> None:
    await agents.ask("agents.create", name="ops")
    workspace = agents.workspace("ops")
    (workspace / "MEMORY.md").write_text("kept")
    aside = workspace.with_name("workspace-ops.deleted.19700112T134640Z")
    told = await agents.ask("agents.delete", agentId="ops", deleteFiles=True)
    assert told["movedTo"] == str(aside)
    assert not workspace.exists()
    assert (aside / "MEMORY.md").read_text() == "kept"


async def test_a_workspace_that_cannot_be_moved_is_no_reason_to_keep_an_agent(
    agents: Agents,
) -> None:
    await agents.ask("agents.create", name="ops")
    agents.place.state.rename(agents.place.home / "gone")
    agents.place.state.mkdir()
    agents.place.write((agents.place.home / "gone" / "opensoul.json").read_text())
    told = await agents.ask("agents.delete", agentId="ops", deleteFiles=True)
    assert (told["ok"], told["movedTo"]) == (True, None)


async def test_a_workspace_of_two_agents_or_elsewhere_stays(agents: Agents, tmp_path: Path) -> None:
    shared, own = agents.place.state / "workspace-x", tmp_path / "elsewhere"
    agents.configure(
        f"""{{ agents: {{ list: [
             {{ id: "a", default: true, workspace: "{shared}/below" }},
             {{ id: "b", workspace: "{shared}" }}, {{ id: "c", workspace: "{own}" }} ] }} }}"""
    )
    for agent_id in ("b", "c"):
        await agents.ask("agents.workspace.ensure", agentId=agent_id)
        told = await agents.ask("agents.delete", agentId=agent_id, deleteFiles=True)
        assert told.get("movedTo") is None
    assert shared.is_dir()
    assert own.is_dir()


@pytest.mark.parametrize("text", ["{}", '{ agents: { list: [{ id: "main" }, { id: "b" }] } }'])
async def test_the_default_agent_cannot_be_deleted(agents: Agents, text: str) -> None:
    agents.configure(text)
    message = 'default agent "main" cannot be deleted'
    assert await agents.refusal("agents.delete", agentId="main") == message
    assert await agents.refusal("agents.delete", agentId="x") == 'agent "x" not found'


ENTRIES = """{
  agents: {
    ownership: "explicit",
    defaults: { systemAgent: { agentId: "main" } },
    entries: {
      main: {}, // ours
      Ops: { name: "Ops", model: { primary: "openai/x", fallbacks: ["openai/y"] } },
    },
  },
  bindings: [{ agentId: "ops", match: { channel: "x" } }],
}
"""


async def test_a_file_that_has_agents_by_their_ids_keeps_that_form(agents: Agents) -> None:
    agents.configure(ENTRIES)
    assert (await agents.ask("agents.list"))["defaultId"] == "main"
    await agents.ask("agents.create", name="New One", model="openai/z")
    await agents.ask("agents.update", agentId="ops", name="Operations", model="openai/z")
    text = agents.place.file.read_text()
    assert "main: {}, // ours" in text
    assert "list:" not in text
    assert agents.agent_ids() == ["main", "ops", "new-one"]
    ops = agents.bench.settings.agents.find("ops", param="")
    assert (ops.name, [target.model for target in ops.models]) == ("Operations", ["z", "y"])
    told = await agents.ask("agents.delete", agentId="OPS")
    assert told["removedBindings"] == 1
    assert agents.agent_ids() == ["main", "new-one"]
    assert "Ops" not in agents.place.file.read_text()


@pytest.mark.parametrize(
    ("text", "default"),
    [
        (ENTRIES, "main"),
        ("{ agents: { entries: { a: {}, b: {} } } }", "a"),
        ("{ agents: { entries: { a: {}, B: { default: true } } } }", "b"),
        ("{ agents: { defaults: { systemAgent: { agentId: 'B' } },"
         "            list: [{ id: 'a' }, { id: 'b' }] } }", "b"),
    ],
)  # fmt: skip
async def test_the_default_agent_cannot_be_deleted_however_it_is_named(
    agents: Agents, text: str, default: str
) -> None:
    agents.configure(text)
    message = f'default agent "{default}" cannot be deleted'
    assert await agents.refusal("agents.delete", agentId=default) == message
    assert await agents.refusal("agents.create", name=f"{default}!") in (
        f'agent "{default}" already exists',
        '"main" is reserved',
    )


async def test_the_first_of_no_entries_is_main(agents: Agents) -> None:
    agents.configure("{ agents: { entries: {} } }")
    await agents.ask("agents.create", name="ops")
    assert agents.agent_ids() == ["main", "ops"]
    assert "list:" not in agents.place.file.read_text()


async def test_entries_of_an_included_file_are_left_alone(agents: Agents) -> None:
    agents.place.write("{ entries: { a: {}, b: {} } }", "agents.json5")
    agents.configure('{ agents: { $include: "./agents.json5" } }')
    for method, params in (
        ("agents.update", {"agentId": "b", "name": "Bee"}),
        ("agents.delete", {"agentId": "b"}),
    ):
        assert "agents.json5" in await agents.refusal(method, **params)
    assert agents.agent_ids() == ["a", "b"]


async def test_agents_of_an_included_file_are_left_alone(agents: Agents) -> None:
    agents.place.write('{ list: [{ id: "a" }, { id: "b" }] }', "agents.json5")
    agents.configure('{ agents: { $include: "./agents.json5" } }')
    for method, params in (
        ("agents.create", {"name": "ops"}),
        ("agents.update", {"agentId": "b", "name": "Bee"}),
        ("agents.delete", {"agentId": "b"}),
    ):
        assert "agents.json5" in await agents.refusal(method, **params)
    assert agents.agent_ids() == ["a", "b"]


async def test_files_are_written_read_and_listed(agents: Agents) -> None:
    missing = await agents.ask("agents.files.get", agentId="main", name="SOUL.md")
    path = agents.place.state / "workspace" / "SOUL.md"
    assert missing["file"] == {"name": "SOUL.md", "path": str(path), "missing": True}
    written = await agents.ask(
        "agents.files.set", agentId="main", name="SOUL.md", content="Kind. ä"
    )
    assert (written["ok"], written["file"]["size"]) == (True, 8)
    assert path.stat().st_mode & 0o777 == 0o600
    read = await agents.ask("agents.files.get", agentId="main", name="SOUL.md")
    assert read["file"]["content"] == "Kind. ä"
    assert read["workspace"] == str(agents.place.state / "workspace")
    listed = {
        file["name"]: file["missing"]
        for file in (await agents.ask("agents.files.list", agentId="main"))["files"]
    }
    assert listed == {name: name != "SOUL.md" for name in FILE_NAMES if name != "memory.md"}


async def test_where_files_are_is_for_administrators(agents: Agents) -> None:
    reader = connection("reader", READER)
    told = await agents.ask("agents.files.get", reader, agentId="main", name="SOUL.md")
    assert told == {
        "agentId": "main",
        "file": {"name": "SOUL.md", "path": "SOUL.md", "missing": True},
    }


@pytest.mark.parametrize("name", ["../SOUL.md", "secrets.env", "soul.md", "SOUL.md/x", "\0"])
async def test_other_files_are_not_supported(agents: Agents, name: str) -> None:
    for method, more in (("agents.files.get", {}), ("agents.files.set", {"content": "x"})):
        message = await agents.refusal(method, agentId="main", name=name, **more)
        assert message == f'unsupported file "{name}"'


async def test_files_of_an_unknown_agent_are_refused(agents: Agents) -> None:
    assert await agents.refusal("agents.files.list", agentId="x") == 'unknown agent id "x"'


async def test_a_link_out_of_the_workspace_is_not_followed(agents: Agents, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("secret")
    await agents.ask("agents.workspace.ensure", agentId="main")
    link = agents.workspace("main") / "SOUL.md"
    link.symlink_to(outside)
    for method, more in (("agents.files.get", {}), ("agents.files.set", {"content": "x"})):
        with pytest.raises(InvalidRequest, match="not a regular file"):
            await agents.ask(method, agentId="main", name="SOUL.md", **more)
    listed = await agents.ask("agents.files.list", agentId="main")
    assert all(file["missing"] for file in listed["files"])
    assert (outside.read_text(), link.is_symlink()) == ("secret", True)


async def test_models_are_listed_by_provider_and_name(agents: Agents) -> None:
    agents.configure(
        """{ models: { providers: {
             zeta: { baseUrl: "http://127.0.0.1:9/v1", models: [{ id: "z" }] },
             acme: { baseUrl: "http://127.0.0.1:9/v1", models: [
               { id: "b", reasoning: true, contextWindow: 9000, input: ["text", "image"] },
               { id: "a" } ] } } },
           agents: { defaults: { model: "zeta/z" } } }"""
    )
    told = (await agents.ask("models.list"))["models"]
    assert [(row["provider"], row["id"]) for row in told] == [
        ("acme", "a"),
        ("acme", "b"),
        ("zeta", "z"),
    ]
    assert told[1] == {
        "id": "b",
        "name": "b",
        "provider": "acme",
        "contextWindow": 9_000,
        "maxTokens": 8_192,
        "reasoning": True,
        "input": ["text", "image"],
    }
    told = (await agents.ask("models.list", provider="zeta", agentId="main", view="all"))["models"]
    assert [row["id"] for row in told] == ["z"]
    with pytest.raises(UnknownAgent):
        await agents.ask("models.list", agentId="nobody")
    with pytest.raises(ValidationError):
        await agents.ask("models.list", extra=1)


async def test_the_commands_are_those_that_a_chat_knows(agents: Agents) -> None:
    told = (await agents.ask("commands.list", agentId="main"))["commands"]
    names = ["help", "status", "tools", "model", "think", "compact", "new", "reset", "stop"]
    assert [row["name"] for row in told] == names
    assert [row["name"] for row in told if row["acceptsArgs"]] == ["model", "think", "compact"]
