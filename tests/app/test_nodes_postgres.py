"""Several Gateways over one database."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.app.nodes import serving_nodes
from tests.app.serving import config

ECHO = {"list": [{"id": "main", "runner": "echo"}]}


def content() -> dict[str, Any]:
    return config(agents=ECHO)


@pytest.mark.parametrize("roles", [("all", "all"), ("gateway", "gateway", "worker")])
async def test_nodes_have_one_session(
    emptied_postgres: str, tmp_path: Path, roles: tuple[str, ...]
) -> None:
    async with serving_nodes(tmp_path, emptied_postgres, content(), roles) as nodes:
        texts = [await node.text(user="u") for node in nodes[:2]]
    assert texts == ["[echo after 0 messages] hello", "[echo after 2 messages] hello"]


async def test_a_repeated_request_gets_the_run_of_another_node(
    emptied_postgres: str, tmp_path: Path
) -> None:
    async with serving_nodes(tmp_path, emptied_postgres, content()) as (first, second):
        key = {"Idempotency-Key": "the same"}
        texts = {await node.text(key, user="u") for node in (first, second, first)}
    assert texts == {"[echo after 0 messages] hello"}


async def test_a_worker_serves_its_probes_only(emptied_postgres: str, tmp_path: Path) -> None:
    async with (
        serving_nodes(tmp_path, emptied_postgres, content(), ("worker",)) as (worker,),
        worker.client.get("/readyz") as ready,
        worker.ask() as refused,
    ):
        assert (ready.status, refused.status) == (200, 404)
        assert "accepts no requests" in (await refused.json())["error"]["message"]


async def test_a_message_reaches_the_other_nodes_only(
    emptied_postgres: str, tmp_path: Path
) -> None:
    async with serving_nodes(tmp_path, emptied_postgres, content()) as (first, second):
        one, other = first.container.bus(), second.container.bus()
        own: list[str] = []
        received: asyncio.Queue[str] = asyncio.Queue()
        one.subscribe("tests", own.append)
        end = other.subscribe("tests", received.put_nowait)
        # The database knows of a subscription a moment later; a message before that is lost.
        while received.empty():
            one.publish("tests", "ü")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    assert await received.get() == "ü"
                    break
        assert own == []
        end()


async def test_a_message_that_is_too_large_is_refused(
    emptied_postgres: str, tmp_path: Path
) -> None:
    async with serving_nodes(tmp_path, emptied_postgres, content(), ("all",)) as (node,):
        with pytest.raises(ValueError, match="7002 bytes"):
            node.container.bus().publish("tests", "ü" * 3_501)
