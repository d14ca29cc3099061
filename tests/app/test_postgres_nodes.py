"""The table of the processes of one Gateway."""

from __future__ import annotations

import os
from pathlib import Path

from tests.fakes.behaviours import hang
from tests.fakes.provider import FakeProvider

from .nodes import node, nodes
from .serving import config, serving


async def test_each_process_is_in_the_list_until_it_ends(tmp_path: Path, postgres_url: str) -> None:
    async with node(tmp_path, postgres_url, name="a") as first:
        directory = first.container.nodes()
        async with node(tmp_path, postgres_url, name="b", role="worker"):
            both = await directory.list()
        alone = await directory.list()

    assert [(one.name, one.role, one.alive, one.pid) for one in both] == [
        ("a", "all", True, os.getpid()),
        ("b", "worker", True, os.getpid()),
    ]
    assert both[0].id == first.container.bus().node_id
    assert both[0].configuration == both[1].configuration  # But for what is of a node.
    assert both[0].version == first.container.facts().version
    assert [one.name for one in alone] == ["a"]


async def test_the_list_says_which_process_executes_how_many_runs(
    tmp_path: Path, postgres_url: str
) -> None:
    async with (
        FakeProvider() as provider,
        nodes(
            tmp_path, postgres_url, provider.base_url, front="gateway", back="worker"
        ) as processes,
    ):
        provider.will(hang())
        async with processes[0].ask(stream=True):
            await provider.arrival()
            listed = await processes[0].container.nodes().list()

    assert {one.name: one.runs for one in listed} == {"front": 0, "back": 1}


async def test_a_process_that_died_is_listed_as_dead_and_forgotten_later(
    tmp_path: Path, postgres_url: str
) -> None:
    async with node(tmp_path, postgres_url, name="a") as served:
        of_dead = (await served.container.nodes().list())[0]
        async with node(tmp_path, postgres_url, name="b") as other:
            directory = other.container.nodes()
            database = other.container.run_events().database  # type: ignore[attr-defined]
            for seconds, dead in ((40, [("a", False)]), (400, [])):
                await database.execute(
                    "UPDATE nodes SET heartbeat_at = server_now() - %s WHERE id = %s",
                    (seconds, of_dead.id),
                )
                await directory.heartbeat()  # type: ignore[attr-defined]
                assert [(one.name, one.alive) for one in await directory.list()] == [
                    *dead,
                    ("b", True),
                ]


async def test_without_a_database_the_process_is_its_only_node(tmp_path: Path) -> None:
    async with serving(tmp_path, config(node={"name": "alone"})) as served:
        (only,) = await served.container.nodes().list()

    assert (only.name, only.role, only.alive, only.runs) == ("alone", "all", True, 0)
    assert only.id == served.container.executor().owner
