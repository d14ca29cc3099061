"""Responses, conversations and repeated requests of several Gateways over one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.app.keyed import content, provider
from tests.app.nodes import serving_nodes
from tests.app.quiet_nodes import never
from tests.app.serving import Served
from tests.fakes.behaviours import answer, hang_after
from tests.fakes.provider import FakeProvider

__all__ = ["provider"]


@pytest_asyncio.fixture
async def nodes(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> AsyncIterator[list[Served]]:
    whole = content(provider)
    endpoints = {"responses": {"enabled": True}, "chatCompletions": {"enabled": True}}
    whole["gateway"]["http"] = {"endpoints": endpoints}
    async with serving_nodes(tmp_path, emptied_postgres, whole, parts=never) as nodes:
        yield nodes


async def called(
    node: Served, method: str, path: str, headers: dict[str, str] | None = None, **body: Any
) -> tuple[int, Any]:
    sent: dict[str, Any] = {"json": body} if body else {}
    authorized = node.authorization | (headers or {})
    async with node.client.request(method, f"/v1{path}", headers=authorized, **sent) as response:
        return response.status, await response.json()


async def respond(
    node: Served, text: str, headers: dict[str, str] | None = None, **body: Any
) -> Any:
    asked = {"model": "opensoul", "input": text, **body}
    status, response = await called(node, "POST", "/responses", headers, **asked)
    assert status == 200, response
    return response


async def test_a_response_goes_on_at_the_other_node(
    nodes: list[Served], provider: FakeProvider
) -> None:
    one, other = nodes
    first = await respond(one, "one")
    await provider.arrival()
    second = await respond(other, "two", previous_response_id=first["id"])
    sent = (await provider.arrival()).json["messages"]
    assert [message["content"] for message in sent] == ["one", "Hello!", "two"]
    third = await respond(one, "three", previous_response_id=second["id"])
    assert len((await provider.arrival()).json["messages"]) == 5
    for node in nodes:
        assert await called(node, "GET", f"/responses/{third['id']}") == (200, third)
    assert (await called(one, "DELETE", f"/responses/{third['id']}"))[0] == 200
    assert (await called(other, "GET", f"/responses/{third['id']}"))[0] == 404


async def test_a_conversation_is_the_same_at_all_nodes(
    nodes: list[Served], provider: FakeProvider
) -> None:
    one, other = nodes
    _, conversation = await called(one, "POST", "/conversations", metadata={"topic": "demo"})
    name = conversation["id"]
    await respond(one, "one", conversation=name)
    await respond(other, "two", conversation=name)
    await provider.arrival()
    assert len((await provider.arrival()).json["messages"]) == 3
    for node in nodes:
        _, items = await called(node, "GET", f"/conversations/{name}/items?order=asc")
        texts = [item["content"][0]["text"] for item in items["data"]]
        assert texts == ["one", "Hello!", "two", "Hello!"]
    assert (await called(other, "DELETE", f"/conversations/{name}"))[0] == 200
    assert (await called(one, "GET", f"/conversations/{name}"))[0] == 404


async def test_two_responses_of_a_conversation_are_not_begun_at_two_nodes(
    nodes: list[Served], provider: FakeProvider
) -> None:
    _, conversation = await called(nodes[0], "POST", "/conversations", metadata={"topic": "demo"})
    name, gate = conversation["id"], asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))

    async def begin(number: int) -> int:
        asked = {"model": "opensoul", "input": f"{number}", "conversation": name}
        status, _ = await called(nodes[number % 2], "POST", "/responses", **asked)
        if status != 200:
            gate.set()  # The others may end.
        return status

    statuses = await asyncio.gather(*(begin(number) for number in range(2)))
    assert statuses.count(200) == 1
    _, items = await called(nodes[0], "GET", f"/conversations/{name}/items")
    assert len(items["data"]) == 2


async def test_a_response_in_the_background_is_cancelled_at_the_other_node(
    nodes: list[Served], provider: FakeProvider
) -> None:
    one, other = nodes
    provider.will(hang_after("Hel"))
    begun = await respond(one, "one", background=True)
    left = await provider.arrival()
    status, cancelled = await called(other, "POST", f"/responses/{begun['id']}/cancel")
    assert (status, cancelled["status"]) == (200, "cancelled")
    await left.disconnected.wait()
    assert (await called(one, "GET", f"/responses/{begun['id']}"))[1]["status"] == "cancelled"


async def test_equal_requests_at_all_nodes_are_one_run(
    nodes: list[Served], provider: FakeProvider
) -> None:
    key = {"Idempotency-Key": "the same"}
    responses = await asyncio.gather(
        *(respond(nodes[number % 2], "one", key) for number in range(10))
    )
    assert len({response["id"] for response in responses}) == 1
    await provider.arrival()
    await respond(nodes[1], "another")
    assert (await provider.arrival()).json["messages"][-1]["content"] == "another"
    status, refused = await called(
        nodes[1], "POST", "/responses", key, model="opensoul", input="two"
    )
    assert (status, refused["error"]["code"]) == (409, "idempotency_key_reused")
