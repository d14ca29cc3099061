"""Conversations and their items, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.keyed import created, provider
from tests.app.serving import SECRET, Served, serving
from tests.fakes.behaviours import answer, fail
from tests.fakes.provider import FakeProvider

from .stateful import call, content, refused, respond, said

__all__ = ["provider"]
ALL = "/v1/conversations"
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CALL = {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": "{}"}}


@pytest.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with serving(tmp_path, content(provider)) as served:
        yield served


def message(text: str, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text, **more}


async def begun(served: Served, *items: dict[str, Any], secret: str = SECRET, **fields: Any) -> str:
    """The path of a new conversation."""
    body = {"items": list(items), **fields}
    status, conversation = await call(served, "POST", ALL, body, secret=secret)
    assert status == 200, conversation
    assert conversation["object"] == "conversation"
    return f"{ALL}/{conversation['id']}"


def id_of(path: str) -> str:
    return path.rpartition("/")[2]


async def texts(served: Served, path: str) -> list[str]:
    """The texts of the items, oldest first."""
    status, page = await call(served, "GET", f"{path}/items?order=asc&limit=100")
    assert status == 200, page
    return [
        item["content"][0]["text"] if item["type"] == "message" else item["type"]
        for item in page["data"]
    ]


async def test_a_conversation_is_retrieved_updated_and_deleted(served: Served) -> None:
    path = await begun(served, message("one"), metadata={"a": "b"})

    status, found = await call(served, "GET", path)
    assert (status, found["metadata"], found["id"]) == (200, {"a": "b"}, id_of(path))
    status, updated = await call(served, "POST", path, {"metadata": {"c": "d"}})
    assert (status, updated) == (200, {**found, "metadata": {"c": "d"}})
    status, deleted = await call(served, "DELETE", path)
    assert deleted == {"id": id_of(path), "object": "conversation.deleted", "deleted": True}
    status, answered = await call(served, "GET", path)
    assert status == 404
    assert answered["error"]["message"] == f"Conversation with id '{id_of(path)}' not found."


async def test_a_response_adds_to_its_conversation(served: Served, provider: FakeProvider) -> None:
    path = await begun(served, message("My name is Ann."))
    first = await respond(served, "one", conversation=id_of(path))
    await respond(served, "two", conversation={"id": id_of(path)})

    assert first["conversation"] == {"id": id_of(path)}
    assert said(provider.requests[0]) == ["My name is Ann.", "one"]
    assert said(provider.requests[1]) == ["My name is Ann.", "one", "Hello!", "two"]
    assert await texts(served, path) == ["My name is Ann.", "one", "Hello!", "two", "Hello!"]


async def test_items_are_added_retrieved_and_deleted(
    served: Served, provider: FakeProvider
) -> None:
    path = await begun(served, message("one", id="msg_one"))
    status, added = await call(served, "POST", f"{path}/items", {"items": [message("two")]})
    assert (status, [item["content"][0]["text"] for item in added["data"]]) == (200, ["two"])

    status, item = await call(served, "GET", f"{path}/items/msg_one")
    assert (status, item["content"][0]["text"]) == (200, "one")
    status, conversation = await call(served, "DELETE", f"{path}/items/msg_one")
    assert (status, conversation["id"]) == (200, id_of(path))
    assert (await call(served, "GET", f"{path}/items/msg_one"))[0] == 404
    assert (await call(served, "DELETE", f"{path}/items/msg_one"))[0] == 404
    assert await texts(served, path) == ["two"]


async def test_a_model_gets_what_is_left_of_a_conversation(
    served: Served, provider: FakeProvider
) -> None:
    path = await begun(served)
    for text in ("one", "two"):
        await respond(served, text, conversation=id_of(path))
    page = (await call(served, "GET", f"{path}/items?order=asc"))[1]
    for item in page["data"][:2]:
        await call(served, "DELETE", f"{path}/items/{item['id']}")
    await call(served, "POST", f"{path}/items", {"items": [message("by the way")]})
    await respond(served, "three", conversation=id_of(path))

    assert said(provider.requests[-1]) == ["two", "Hello!", "by the way", "three"]


async def test_another_agent_gets_the_same_conversation(
    served: Served, provider: FakeProvider
) -> None:
    path = await begun(served)
    await respond(served, "one", conversation=id_of(path))
    await respond(served, "two", conversation=id_of(path), model="opensoul/guide")

    assert said(provider.requests[-1]) == ["one", "Hello!", "two"]


async def test_results_of_tools_go_on_in_a_conversation(
    served: Served, provider: FakeProvider
) -> None:
    path = await begun(served)
    provider.will(answer("I look.", tool_calls=[CALL], finish_reason="tool_calls"))
    first = await respond(served, "Is it sunny?", tools=[TOOL], conversation=id_of(path))
    called = first["output"][-1]["call_id"]
    output = {"type": "function_call_output", "call_id": called, "output": "yes"}
    await respond(served, [output], tools=[TOOL], conversation=id_of(path))

    sent: Any = provider.requests[-1].json
    roles = [one["role"] for one in sent["messages"] if one["role"] != "system"]
    assert roles == ["user", "assistant", "tool"]
    kinds = ["Is it sunny?", "I look.", "function_call", "function_call_output", "Hello!"]
    assert await texts(served, path) == kinds


async def test_a_failed_response_adds_nothing(served: Served, provider: FakeProvider) -> None:
    path = await begun(served)
    provider.will(fail(400, {"error": {"message": "no"}}))
    await refused(served, 400, "one", conversation=id_of(path))
    await respond(served, "two", conversation=id_of(path))

    assert await texts(served, path) == ["two", "Hello!"]


async def test_a_response_that_is_not_stored_adds_its_items(served: Served) -> None:
    path = await begun(served)
    first = await respond(served, "one", conversation=id_of(path), store=False)

    assert (await call(served, "GET", f"/v1/responses/{first['id']}"))[0] == 404
    assert await texts(served, path) == ["one", "Hello!"]
    assert (await call(served, "GET", f"/v1/responses/{first['id']}"))[0] == 404


async def test_one_response_at_a_time(served: Served, provider: FakeProvider) -> None:
    path = await begun(served)
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    first = await respond(served, "one", conversation=id_of(path), background=True)
    await provider.arrival()

    error = await refused(served, 409, "two", conversation=id_of(path))
    assert error["code"] == "conversation_locked"
    assert await texts(served, path) == []
    await call(served, "POST", f"/v1/responses/{first['id']}/cancel")
    await respond(served, "three", conversation=id_of(path))
    assert await texts(served, path) == ["three", "Hello!"]


async def test_a_deleted_conversation_takes_its_sessions_with_it(served: Served) -> None:
    path = await begun(served)
    first = await respond(served, "one", conversation=id_of(path))
    stored = await served.container.stored_responses().find(first["id"])
    assert stored is not None
    assert await served.container.catalog().turn(stored.run_id) is not None

    await call(served, "DELETE", path)

    assert await served.container.catalog().turn(stored.run_id) is None
    await refused(served, 404, conversation=id_of(path))


async def test_a_conversation_and_a_response_exclude_one_another(served: Served) -> None:
    path = await begun(served)
    first = await respond(served, "one")

    error = await refused(served, 400, conversation=id_of(path), previous_response_id=first["id"])

    assert error["message"].startswith("Mutually exclusive parameters")


async def test_an_unknown_conversation_is_refused(served: Served) -> None:
    error = await refused(served, 404, conversation="conv_none")

    assert error["message"] == "Conversation with id 'conv_none' not found."


@pytest.mark.parametrize(
    ("method", "rest", "body", "param"),
    [
        ("POST", "", {"metadata": None}, "metadata"),
        ("POST", "", {"metadata": {"a": 1}}, "metadata.a"),
        ("POST", "/items", {}, "items"),
        ("POST", "/items", {"items": []}, "items"),
        ("POST", "/items", {"items": [message("x")] * 21}, "items"),
        ("POST", "/items", {"items": [{"type": "image_generation_call"}]}, "items[0].type"),
        ("POST", "/items", {"items": [message("x", role="robot")]}, "items[0].role"),
        ("GET", "/items?limit=101", None, "limit"),
        ("GET", "/items?after=none", None, "after"),
    ],
)
async def test_what_is_wrong_is_named(
    served: Served, method: str, rest: str, body: object, param: str
) -> None:
    path = await begun(served)

    status, answered = await call(served, method, path + rest, body)

    assert (status, answered["error"]["param"]) == (400, param)


async def test_the_conversation_of_another_key_is_unknown(served: Served) -> None:
    mine, other = [await created(served, name) for name in ("mine", "other")]
    path = await begun(served, message("one", id="msg_one"), secret=mine)
    requests: list[tuple[str, str, object]] = [
        ("GET", "", None),
        ("POST", "", {"metadata": {}}),
        ("DELETE", "", None),
        ("GET", "/items", None),
        ("POST", "/items", {"items": [message("two")]}),
        ("GET", "/items/msg_one", None),
        ("DELETE", "/items/msg_one", None),
    ]
    for method, rest, body in requests:
        status, answered = await call(served, method, path + rest, body, secret=other)
        assert status == 404, (method, rest)
        assert answered["error"]["message"] == f"Conversation with id '{id_of(path)}' not found."
    await refused(served, 404, secret=other, conversation=id_of(path))
    await respond(served, "two", secret=mine, conversation=id_of(path))


async def test_a_conversation_outlives_a_restart(tmp_path: Path, provider: FakeProvider) -> None:
    async with serving(tmp_path, content(provider)) as served:
        path = await begun(served, message("one"))
        await respond(served, "two", conversation=id_of(path))
    async with serving(tmp_path, content(provider)) as served:
        assert await texts(served, path) == ["one", "two", "Hello!"]
        await respond(served, "three", conversation=id_of(path))
        assert said(provider.requests[-1]) == ["one", "two", "Hello!", "three"]


@pytest.mark.parametrize(
    ("headers", "metadata"),
    [({"x-opensoul-session-key": "mine"}, {}), ({}, {"session_key": "mine"})],
)
async def test_a_conversation_has_a_session_of_its_own(
    served: Served, headers: dict[str, str], metadata: dict[str, str]
) -> None:
    path = await begun(served)
    body = {"input": "one", "conversation": id_of(path), "metadata": metadata}
    async with served.client.post(
        "/v1/responses", json=body, headers=served.authorization | headers
    ) as response:
        assert response.status == 400
        assert (await response.json())["error"]["param"] == "conversation"


async def test_headers_say_what_the_session_was_found_by(served: Served) -> None:
    path = await begun(served)
    first = await respond(served, "one")
    found = []
    for fields in ({"conversation": id_of(path)}, {"previous_response_id": first["id"]}):
        async with served.client.post(
            "/v1/responses", json={"input": "two", **fields}, headers=served.authorization
        ) as response:
            assert response.status == 200
            found.append(response.headers["x-opensoul-session-bound-by"])

    assert found == ["conversation", "previous_response_id"]


@pytest.mark.parametrize("background", [False, True])
async def test_a_repeated_request_gets_the_response_that_it_has_begun(
    served: Served, provider: FakeProvider, background: bool
) -> None:
    path = await begun(served, message("before"))
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    body = {"input": "one", "conversation": id_of(path), "background": background}
    headers = {**served.authorization, "Idempotency-Key": "k1"}

    async def repeated() -> Any:
        async with served.client.post("/v1/responses", json=body, headers=headers) as response:
            return response.status, (await response.json()).get("id")

    first = asyncio.create_task(repeated())
    await provider.arrival()
    if background:  # Its run goes on still.
        assert await first == await repeated()
    gate.set()

    assert await first == await repeated()
    assert (await first)[0] == 200
    assert len(provider.requests) == 1
    await respond(served, "two", conversation=id_of(path))
    assert said(provider.requests[-1]) == ["before", "one", "Hello!", "two"]


async def test_what_a_key_stores_counts_as_its_requests(served: Served) -> None:
    key = await created(served, "slow", requestsPerMinute=2)
    path = await begun(served, secret=key)
    body = {"items": [message("one")]}

    assert (await call(served, "POST", f"{path}/items", body, secret=key))[0] == 200
    status, answered = await call(served, "POST", ALL, {}, secret=key)
    assert (status, answered["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (await call(served, "GET", path, secret=key))[0] == 200


async def test_what_the_operator_adds_is_in_the_conversation_of_a_key(
    served: Served, provider: FakeProvider
) -> None:
    key = await created(served, "mine")
    path = await begun(served, secret=key)

    await respond(served, "one", conversation=id_of(path))
    await respond(served, "two", conversation=id_of(path), secret=key)

    assert said(provider.requests[1]) == ["one", "Hello!", "two"]
    assert await texts(served, path) == ["one", "Hello!", "two", "Hello!"]


async def test_a_key_waits_for_what_the_operator_adds(
    served: Served, provider: FakeProvider
) -> None:
    key = await created(served, "mine")
    path = await begun(served, secret=key)
    gate = asyncio.Event()
    provider.will(answer("Slowly", " said", gate=gate))
    await respond(served, "one", conversation=id_of(path), background=True)
    await provider.arrival()

    error = await refused(served, 409, "two", conversation=id_of(path), secret=key)
    gate.set()

    assert error["code"] == "conversation_locked"


async def test_items_with_equal_ids_in_a_request_are_all_kept(
    served: Served, provider: FakeProvider
) -> None:
    both = [message("one", id="same"), message("two", id="same"), message("three", id="")]
    path = await begun(served, *both)
    assert await texts(served, path) == ["one", "two", "three"]

    other = await begun(served)
    response = await respond(served, both, conversation=id_of(other))
    assert await texts(served, other) == ["one", "two", "three", "Hello!"]

    listed = f"/v1/responses/{response['id']}/input_items?order=asc&limit=1"
    found, after = [], ""
    for _ in both:
        _, page = await call(served, "GET", f"{listed}{after}")
        found += [item["content"][0]["text"] for item in page["data"]]
        after = f"&after={page['last_id']}"
    assert found == ["one", "two", "three"]


async def test_an_item_that_the_conversation_has_is_refused(
    served: Served, provider: FakeProvider
) -> None:
    path = await begun(served, message("one", id="msg_one"))
    again = [message("new"), message("changed", id="msg_one")]

    status, answered = await call(served, "POST", f"{path}/items", {"items": again})
    assert (status, answered["error"]["param"]) == (400, "items[1].id")
    error = await refused(served, 400, again, conversation=id_of(path))
    assert error["param"] == "input[1].id"
    assert error["message"].startswith("Duplicate item found with id msg_one.")
    assert await texts(served, path) == ["one"]
    reference = {"type": "item_reference", "id": "msg_one"}
    await respond(served, [reference, message("two")], conversation=id_of(path))
    assert await texts(served, path) == ["one", "two", "Hello!"]


async def test_the_id_of_an_item_is_a_string(served: Served) -> None:
    status, answered = await call(served, "POST", ALL, {"items": [message("one", id=5)]})
    assert (status, answered["error"]["param"]) == (400, "items[0].id")
