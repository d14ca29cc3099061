"""One configuration in the database for all nodes: a change at one is in force at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dependency_injector.providers import Object, Provider, Singleton

from opensoul.adapters.config import ConfigInvalid, Overrides
from opensoul.app.container import Container
from opensoul.app.shared_configuration import CopiedDocument
from opensoul.app.supervisor import Supervisor
from opensoul.domain.models import Secret
from opensoul.domain.ports.configuration import ConfigRefused
from tests.app.nodes import LEASE, node
from tests.app.serving import SECRET, Served, config, serving
from tests.control.client import Peer, Refused, connected

ECHO = {"list": [{"id": "main", "runner": "echo"}]}
TWO_AGENTS = {"list": [*ECHO["list"], {"id": "other", "runner": "echo"}]}


def shared_part(**sections: Any) -> dict[str, Any]:
    content = config(**{"agents": ECHO, **sections})
    content["gateway"]["auth"]["token"] = "${GATEWAY_TOKEN}"
    content["gateway"]["shutdown"] = {"lingerSeconds": 0}
    return content


def own_part(url: str, name: str, role: str = "all") -> dict[str, Any]:
    node = {"role": role, "name": name, "leaseSeconds": LEASE, "config": "database"}
    return {"store": {"url": url}, "node": node}


def part_env(home: Path) -> dict[str, Provider[Any]]:
    return {
        "env": Object({"OPENSOUL_STATE_DIR": str(home / "state"), "GATEWAY_TOKEN": SECRET}),
    }


@asynccontextmanager
async def nodes(
    home: Path,
    url: str,
    content: Mapping[str, Any],
    roles: tuple[str, ...] = ("all", "all"),
    parts: Callable[[], dict[str, Provider[Any]]] = dict,
) -> AsyncIterator[list[Served]]:
    """The first node has the content in its file, the others have their own keys only. `parts`:
    what replaces the providers of a container, made for each node."""
    async with AsyncExitStack() as stack:
        found: list[Served] = []
        for number, role in enumerate(roles):
            place = home / f"node{number}"
            place.mkdir()
            whole = {**(content if not found else {}), **own_part(url, f"node{number}", role)}
            found.append(
                await stack.enter_async_context(serving(place, whole, **part_env(place), **parts()))
            )
        yield found


@asynccontextmanager
async def clients(served: list[Served]) -> AsyncIterator[list[Peer]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(connected(node.client, SECRET)) for node in served[:2]
        ]


async def agents(peer: Peer) -> list[str]:
    return [row["id"] for row in (await peer.call("agents.list"))["agents"]]


async def until_agents(peer: Peer, expected: list[str]) -> None:
    """The configuration is applied soon, and nothing tells clients of it."""
    async with asyncio.timeout(20):
        while await agents(peer) != expected:
            pass


async def patch(peer: Peer, raw: Mapping[str, Any], base: str) -> Any:
    return await peer.call("config.patch", {"raw": json.dumps(raw), "baseHash": base})


async def test_the_first_node_stores_its_file_and_all_nodes_have_it(
    emptied_postgres: str, tmp_path: Path
) -> None:
    async with (
        nodes(tmp_path, emptied_postgres, shared_part(agents=TWO_AGENTS)) as served,
        clients(served) as (first, second),
    ):
        assert await agents(first) == await agents(second) == ["main", "other"]
        one, other = await first.call("config.get"), await second.call("config.get")
        assert one["hash"] == other["hash"] == other["appliedConfigHash"]
        assert one["parsed"] == other["parsed"]
        assert not {"store", "node"} & one["parsed"].keys()
        assert (one["config"]["node"]["name"], other["config"]["node"]["name"]) == (
            "node0",
            "node1",
        )
        generations = {node.container.settings()().generation for node in served}
        assert len(generations) == 1
        rows = (await second.call("health"))["nodes"]
        assert {row["configuration"] for row in rows} == generations


@pytest.mark.parametrize("method", ["config.patch", "config.set", "config.apply"])
async def test_a_change_at_one_node_is_in_force_at_all(
    emptied_postgres: str, tmp_path: Path, method: str
) -> None:
    async with (
        nodes(tmp_path, emptied_postgres, shared_part()) as served,
        clients(served) as (first, second),
    ):
        before = await first.call("config.get")
        raw = {"agents": TWO_AGENTS}
        if method != "config.patch":
            raw = before["parsed"] | raw
        changed = await first.call(method, {"raw": json.dumps(raw), "baseHash": before["hash"]})
        await until_agents(second, ["main", "other"])
        assert (await second.call("config.get"))["hash"] == changed["hash"]


async def test_of_two_changes_one_gets_the_conflict(emptied_postgres: str, tmp_path: Path) -> None:
    async with (
        nodes(tmp_path, emptied_postgres, shared_part()) as served,
        clients(served) as both,
    ):
        base = (await both[0].call("config.get"))["hash"]
        outcomes = await asyncio.gather(
            *(
                patch(peer, {"session": {"idleMinutes": minutes}}, base)
                for peer, minutes in zip(both, (5, 6), strict=True)
            ),
            return_exceptions=True,
        )
        (refused,) = [one for one in outcomes if isinstance(one, Refused)]
        (accepted,) = [one for one in outcomes if not isinstance(one, BaseException)]
        assert "config changed since last load" in refused.error["message"]
        for peer in both:
            assert (await peer.call("config.get"))["hash"] == accepted["hash"]


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "wrong": ({"agents": {"list": [{"id": "not an id"}]}}, "agents.list"),
    "node": ({"node": {"role": "worker"}}, "node"),
    "literal secret": ({"gateway": {"auth": {"token": "in the database"}}}, "gateway.auth.token"),
}


@pytest.mark.parametrize("case", INVALID)
async def test_an_invalid_change_is_in_force_at_none(
    emptied_postgres: str, tmp_path: Path, case: str
) -> None:
    raw, path = INVALID[case]
    async with (
        nodes(tmp_path, emptied_postgres, shared_part()) as served,
        clients(served) as (first, second),
    ):
        before = await first.call("config.get")
        with pytest.raises(Refused) as refused:
            await patch(first, raw, before["hash"])
        assert any(path in one["path"] for one in refused.value.error["details"]["issues"])
        for peer in (first, second):
            after = await peer.call("config.get")
            assert (after["hash"], after["appliedConfigHash"]) == (before["hash"],) * 2


async def add_agent_unannounced(home: Path, url: str, base: str) -> None:
    """As a node does whose message is lost."""
    document = CopiedDocument(home / "copy", url)
    data = json.dumps(shared_part(agents=TWO_AGENTS)).encode()
    assert await asyncio.to_thread(document.push, base, data)


async def look(node: Served) -> None:
    watch = node.container.configuration_watch()
    assert watch is not None
    await watch.look()


async def test_a_worker_executes_with_a_configuration_as_new_as_the_gateways(
    emptied_postgres: str, tmp_path: Path
) -> None:
    never = asyncio.Event()

    async def sleep(_: float) -> None:
        await never.wait()

    def idle() -> dict[str, Provider[Any]]:
        return {"supervisor": Singleton(Supervisor, sleep=sleep)}

    roles = ("gateway", "worker")
    async with nodes(tmp_path, emptied_postgres, shared_part(), roles, idle) as (
        gateway,
        worker,
    ):
        base = gateway.container.source().loaded.sha256
        await add_agent_unannounced(tmp_path, emptied_postgres, base)
        await look(gateway)
        assert len(worker.container.settings()().agents) == 1

        text = await gateway.text(model="opensoul/other")

        assert text == "[echo after 0 messages] hello"
        assert len(worker.container.settings()().agents) == 2


async def test_a_change_whose_message_was_lost_is_found(
    emptied_postgres: str, tmp_path: Path
) -> None:
    async with (
        nodes(tmp_path, emptied_postgres, shared_part(), ("all",)) as served,
        clients(served) as (peer,),
    ):
        base = (await peer.call("config.get"))["hash"]
        await add_agent_unannounced(tmp_path, emptied_postgres, base)
        await look(served[0])
        assert await agents(peer) == ["main", "other"]


def files(home: Path, content: Mapping[str, Any]) -> tuple[Path, dict[str, Provider[Any]]]:
    place = home / "node"
    place.mkdir()
    return place, part_env(place)


async def test_a_first_node_with_a_literal_secret_does_not_start_and_stores_nothing(
    emptied_postgres: str, tmp_path: Path
) -> None:
    literal = config(agents=ECHO) | own_part(emptied_postgres, "node")
    place, parts = files(tmp_path, literal)
    with pytest.raises(ConfigRefused, match="secrets stay with the nodes"):
        async with serving(place, literal, **parts):
            pass
    with psycopg.connect(emptied_postgres) as connection:
        assert connection.execute("SELECT count(*) FROM configurations").fetchone() == (0,)


async def test_the_keys_of_a_node_are_not_in_the_database_and_others_have_a_note(
    emptied_postgres: str, tmp_path: Path
) -> None:
    gateway = shared_part()["gateway"] | {"port": 18_999, "bind": "loopback"}
    content = shared_part(gateway=gateway) | own_part(emptied_postgres, "node")
    place, parts = files(tmp_path, content)
    async with serving(place, content, **parts) as served, clients([served]) as (peer,):
        shown = await peer.call("config.get")
        assert {"port", "bind"}.isdisjoint(shown["parsed"]["gateway"])
        assert shown["config"]["gateway"]["port"] == 18_999
        (note,) = [
            one["message"] for one in shown["warnings"] if "have no effect" in one["message"]
        ]
        assert note.startswith("gateway, agents, models in ")


async def test_a_node_without_other_keys_stores_nothing_and_gets_what_the_next_one_stores(
    emptied_postgres: str, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    bare = own_part(emptied_postgres, "first") | {"gateway": {"port": 18_999}}
    whole = shared_part(agents=TWO_AGENTS) | own_part(emptied_postgres, "second")
    parts = part_env(tmp_path / "first"), part_env(tmp_path / "second")
    async with serving(tmp_path / "first", bare, **parts[0]) as first:
        assert first.container.source().loaded.exists is False
        async with serving(tmp_path / "second", whole, **parts[1]):
            await look(first)
            found = first.container.settings()()
    assert [agent.id for agent in found.agents] == ["main", "other"]
    assert found.auth.secret == Secret(SECRET)


async def test_a_copy_is_used_while_the_database_is_away(
    emptied_postgres: str, tmp_path: Path
) -> None:
    content = shared_part() | own_part(emptied_postgres, "node")
    place, parts = files(tmp_path, content)
    async with serving(place, content, **parts) as served:
        before = served.container.settings()()
    away = own_part("postgresql://nobody@127.0.0.1:9/none", "node")
    served.configure(away)
    container = Container(
        **parts,
        overrides=Object(Overrides(config_path=str(served.config_path))),
        home=Object(place),
    )
    after = container.settings()()
    assert after.generation == before.generation
    assert [agent.id for agent in after.agents] == ["main"]


def test_a_node_whose_configuration_is_in_the_database_needs_one(tmp_path: Path) -> None:
    path = tmp_path / "opensoul.json"
    path.write_text('{ node: { config: "database" } }')
    container = Container(
        **part_env(tmp_path),
        overrides=Object(Overrides(config_path=str(path))),
        home=Object(tmp_path),
    )
    with pytest.raises(ConfigInvalid, match=r"node\.config: needs a database"):
        container.settings()


async def test_a_run_of_an_agent_that_the_workers_file_does_not_have_ends_with_an_error(
    emptied_postgres: str, tmp_path: Path
) -> None:
    async with (
        node(tmp_path, emptied_postgres, name="gateway", role="gateway", agents=TWO_AGENTS) as one,
        node(tmp_path, emptied_postgres, name="worker", role="worker", agents=ECHO),
        one.ask(model="opensoul/other") as answer,
    ):
        error = (await answer.json())["error"]
        assert answer.status >= 400
        assert "other" in error["message"]
