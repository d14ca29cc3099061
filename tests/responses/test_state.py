"""Responses that go on from another one, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

from opensoul.adapters.persistence.memory import MemoryResponses
from opensoul.domain.errors import StoreFailed
from opensoul.domain.responses import StoredResponse
from tests.app.keyed import created, provider
from tests.app.serving import SECRET, Served, serving
from tests.approvals.office import ARGUMENTS, calls, open_office
from tests.fakes.behaviours import answer, fail
from tests.fakes.provider import FakeProvider

from .stateful import ENDPOINTS, call, content, frames, refused, respond, said

__all__ = ["provider"]
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CALL = {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": "{}"}}


@pytest.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with serving(tmp_path, content(provider)) as served:
        yield served


async def test_a_response_goes_on_from_the_one_before(
    served: Served, provider: FakeProvider
) -> None:
    first = await respond(served, "one")
    second = await respond(served, "two", previous_response_id=first["id"])
    await respond(served, "three", previous_response_id=second["id"])

    assert said(provider.requests[-1]) == ["one", "Hello!", "two", "Hello!", "three"]
    assert second["previous_response_id"] == first["id"]


async def test_it_branches_from_one_that_is_not_the_newest(
    served: Served, provider: FakeProvider
) -> None:
    first = await respond(served, "one")
    second = await respond(served, "two", previous_response_id=first["id"])
    await respond(served, "other", previous_response_id=first["id"])
    assert said(provider.requests[-1]) == ["one", "Hello!", "other"]

    await respond(served, "three", previous_response_id=second["id"])
    assert said(provider.requests[-1]) == ["one", "Hello!", "two", "Hello!", "three"]


async def test_instructions_are_not_carried_over(served: Served, provider: FakeProvider) -> None:
    first = await respond(served, "one", instructions="Speak like a pirate.")
    await respond(served, "two", previous_response_id=first["id"])

    assert "pirate" in str(provider.requests[0].json)
    assert "pirate" not in str(provider.requests[1].json)


async def test_outputs_go_on_with_exactly_that_call(served: Served, provider: FakeProvider) -> None:
    provider.will(answer("I look.", tool_calls=[CALL], finish_reason="tool_calls"))
    first = await respond(served, "Is it sunny?", tools=[TOOL])
    called = first["output"][-1]
    assert called["type"] == "function_call"
    output = {"type": "function_call_output", "call_id": called["call_id"], "output": "yes"}
    await respond(served, [output], previous_response_id=first["id"], tools=[TOOL])

    sent: Any = provider.requests[-1].json
    assert sent is not None
    roles = [message["role"] for message in sent["messages"] if message["role"] != "system"]
    assert roles == ["user", "assistant", "tool"]
    assert sent["messages"][-1]["tool_call_id"] == sent["messages"][-2]["tool_calls"][0]["id"]


@pytest.mark.parametrize("previous", ["resp_" + "0" * 32, "nonsense", "x" * 300])
async def test_an_unknown_response_cannot_be_followed(served: Served, previous: str) -> None:
    error = await refused(served, 404, previous_response_id=previous)

    assert error["message"] == f"Previous response with id '{previous[:100]}' not found."
    assert (error["param"], error["code"]) == (
        "previous_response_id",
        "previous_response_not_found",
    )
    assert error["type"] == "invalid_request_error"


async def test_what_is_not_stored_is_not_found(served: Served) -> None:
    first = await respond(served, store=False)

    assert first["store"] is False
    await refused(served, 404, previous_response_id=first["id"])
    status, answered = await call(served, "GET", f"/v1/responses/{first['id']}")
    assert status == 404
    assert answered["error"]["message"] == f"Response with id '{first['id']}' not found."


async def test_a_stored_response_is_as_it_was_answered(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(answer("Hm.", tool_calls=[CALL], finish_reason="tool_calls"))
    fields: dict[str, Any] = {"instructions": "Be brief.", "tools": [TOOL], "temperature": 0.5}
    whole = await respond(served, "one", metadata={"a": "b"}, **fields)

    status, found = await call(served, "GET", f"/v1/responses/{whole['id']}")

    assert status == 200
    assert found == {**whole, "completed_at": found["completed_at"]}
    assert found["output"][-1]["name"] == "weather"


async def test_a_failed_response_is_stored_as_failed(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(fail(400, {"error": {"message": "no"}}))
    body = {"model": "opensoul", "input": "Hi"}
    async with served.client.post(
        "/v1/responses", json=body, headers=served.authorization
    ) as response:
        assert response.status == 400
        run_id = response.headers["x-opensoul-run-id"]
    response_id = f"resp_{run_id.replace('-', '')}"

    status, found = await call(served, "GET", f"/v1/responses/{response_id}")

    assert (status, found["status"], found["output"]) == (200, "failed", [])
    assert found["error"]["message"]


async def test_a_deleted_response_is_gone(served: Served) -> None:
    first = await respond(served)
    path = f"/v1/responses/{first['id']}"

    answered = await call(served, "DELETE", path)

    assert answered == (200, {"id": first["id"], "object": "response", "deleted": True})
    assert (await call(served, "GET", path))[0] == 404
    assert (await call(served, "DELETE", path))[0] == 404
    await refused(served, 404, previous_response_id=first["id"])


async def test_the_session_of_a_chain_goes_with_its_last_response(served: Served) -> None:
    first = await respond(served, "one")
    second = await respond(served, "two", previous_response_id=first["id"])
    catalog = served.container.catalog()

    async def turn_of(response: dict[str, Any]) -> object:
        stored = await served.container.stored_responses().find(response["id"])
        return None if stored is None else await catalog.turn(stored.run_id)

    await call(served, "DELETE", f"/v1/responses/{first['id']}")
    assert await turn_of(second) is not None
    await respond(served, "three", previous_response_id=second["id"], store=False)
    run_id = (await served.container.stored_responses().find(second["id"])).run_id  # type: ignore[union-attr]
    await call(served, "DELETE", f"/v1/responses/{second['id']}")

    assert await catalog.turn(run_id) is None


@pytest.mark.parametrize(
    ("query", "expected", "more"),
    [
        ("", ["b", "a"], False),
        ("?order=asc", ["a", "b"], False),
        ("?order=asc&limit=1", ["a"], True),
        ("?order=asc&after=msg_1", ["b"], False),
        ("?after=msg_1", [], False),
    ],
)
async def test_the_input_is_listed(
    served: Served, query: str, expected: list[str], more: bool
) -> None:
    items = [
        {"role": "user", "content": "a", "id": "msg_1"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
    ]
    first = await respond(served, items)

    status, page = await call(served, "GET", f"/v1/responses/{first['id']}/input_items{query}")

    assert status == 200
    assert [item["content"][0]["text"] for item in page["data"]] == expected
    assert page["has_more"] is more
    assert page["first_id"] == (page["data"][0]["id"] if expected else None)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "order=up", "after=nothing"])
async def test_a_wrong_page_is_refused(served: Served, query: str) -> None:
    first = await respond(served)

    status, answered = await call(served, "GET", f"/v1/responses/{first['id']}/input_items?{query}")

    assert (status, answered["error"]["param"]) == (400, query.partition("=")[0])


class FailingOnce(MemoryResponses):
    """It cannot be written to at first."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts = 0

    async def put(self, response: StoredResponse) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise StoreFailed("The disk is full.")
        await super().put(response)


@pytest.mark.parametrize("key", [None, "again"])
async def test_a_response_that_could_not_be_stored_is_sent_again_under_its_key(
    key: str | None, tmp_path: Path, provider: FakeProvider
) -> None:
    parts = {"stored_responses": providers.Object(FailingOnce())}
    body = {"model": "opensoul", "input": "Hi", "background": True}
    headers = {"Authorization": f"Bearer {SECRET}"} | ({"Idempotency-Key": key} if key else {})
    async with serving(tmp_path, content(provider), **parts) as served:
        for wanted in (503, 200):
            async with served.client.post("/v1/responses", json=body, headers=headers) as sent:
                answered = await sent.json()
                assert sent.status == wanted, answered
        ended = await frames(served, f"/v1/responses/{answered['id']}?stream=true")
        async with served.client.get("/v1/runs", headers=headers) as sent:
            statuses = {run["status"] for run in (await sent.json())["data"]}

    assert ended[-1]["type"] == "response.completed"
    assert statuses == ({"finished"} if key else {"finished", "aborted"})


async def test_items_of_stored_responses_can_be_referred_to(
    served: Served, provider: FakeProvider
) -> None:
    first = await respond(served, "one")
    referred = {"type": "item_reference", "id": first["output"][0]["id"]}
    await respond(
        served, [{"role": "user", "content": "one"}, referred, {"role": "user", "content": "two"}]
    )

    assert said(provider.requests[-1]) == ["one", "Hello!", "two"]
    error = await refused(served, 404, [{"type": "item_reference", "id": "msg_none"}])
    assert error["param"] == "input[0]"


async def test_a_session_and_a_response_of_another_session_are_refused(served: Served) -> None:
    first = await respond(served)
    async with served.client.post(
        "/v1/responses",
        json={"input": "Hi", "previous_response_id": first["id"]},
        headers={**served.authorization, "x-opensoul-session-key": "other"},
    ) as response:
        assert response.status == 400
        assert (await response.json())["error"]["param"] == "previous_response_id"


async def test_another_agent_cannot_go_on(served: Served) -> None:
    first = await respond(served)

    error = await refused(served, 400, model="opensoul/guide", previous_response_id=first["id"])

    assert "guide" in error["message"]


# In the background


async def test_a_response_in_the_background_goes_on_without_its_client(
    served: Served, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    begun = await respond(served, background=True)
    assert begun["status"] in ("queued", "in_progress")
    assert begun["background"] is True
    path = f"/v1/responses/{begun['id']}"
    await provider.arrival()
    assert (await call(served, "GET", path))[1]["status"] == "in_progress"

    gate.set()
    events = await frames(served, f"{path}?stream=true")

    assert events[-1]["type"] == "response.completed"
    found = (await call(served, "GET", path))[1]
    assert found == {**events[-1]["response"], "completed_at": found["completed_at"]}
    assert found["output"][0]["content"][0]["text"] == "Hello!"


async def test_its_events_are_resumed_behind_any_of_them(
    served: Served, provider: FakeProvider
) -> None:
    begun = await respond(served, background=True)
    path = f"/v1/responses/{begun['id']}?stream=true"
    whole = await frames(served, path)
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))

    for after in range(len(whole) + 1):
        assert await frames(served, f"{path}&starting_after={after}") == whole[after + 1 :]


async def test_a_streamed_response_is_resumed_as_it_was_streamed(served: Served) -> None:
    body = {"input": "Hi", "stream": True, "background": True}
    async with served.client.post(
        "/v1/responses", json=body, headers=served.authorization
    ) as response:
        lines = (await response.text()).splitlines()
    live = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    again = await frames(served, f"/v1/responses/{live[0]['response']['id']}?stream=true")

    def untimed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**event, "response": {**event["response"], "completed_at": None}}
            if "response" in event
            else event
            for event in events
        ]

    assert untimed(again) == untimed(live)


async def test_a_response_in_the_background_is_cancelled(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(answer("Hel", "lo!", gate=asyncio.Event()))
    begun = await respond(served, background=True)
    await provider.arrival()
    path = f"/v1/responses/{begun['id']}"

    status, cancelled = await call(served, "POST", f"{path}/cancel")

    assert (status, cancelled["status"]) == (200, "cancelled")
    assert (await call(served, "GET", path))[1]["status"] == "cancelled"
    assert (await call(served, "POST", f"{path}/cancel"))[1]["status"] == "cancelled"


async def test_only_those_in_the_background_are_cancelled(served: Served) -> None:
    first = await respond(served)

    status, answered = await call(served, "POST", f"/v1/responses/{first['id']}/cancel")

    assert (status, answered["error"]["message"]) == (400, "Cannot cancel a synchronous response.")


async def test_a_response_in_the_background_has_to_be_stored(served: Served) -> None:
    assert (await refused(served, 400, background=True, store=False))["param"] == "background"


@pytest.mark.parametrize(
    ("query", "param"),
    [("stream=maybe", "stream"), ("stream=true&starting_after=-1", "starting_after")],
)
async def test_a_wrong_query_is_refused(served: Served, query: str, param: str) -> None:
    first = await respond(served)

    status, answered = await call(served, "GET", f"/v1/responses/{first['id']}?{query}")

    assert (status, answered["error"]["param"]) == (400, param)


# Others, and restarts


async def test_what_belongs_to_another_key_is_unknown(served: Served) -> None:
    mine, other = [await created(served, name) for name in ("mine", "other")]
    first = await respond(served, secret=mine)
    unknown = "resp_" + "0" * 32
    for method, rest in [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]:
        answered = [
            await call(served, method, f"/v1/responses/{one}{rest}", secret=other)
            for one in (first["id"], unknown)
        ]
        assert answered[0][0] == 404
        assert str(answered[0]).replace(first["id"], unknown) == str(answered[1])
    await refused(served, 404, secret=other, previous_response_id=first["id"])
    await respond(served, secret=mine, previous_response_id=first["id"])


async def test_all_of_it_outlives_a_restart(tmp_path: Path, provider: FakeProvider) -> None:
    async with serving(tmp_path, content(provider)) as served:
        first = await respond(served, "one")
        second = await respond(served, "two", previous_response_id=first["id"])
    async with serving(tmp_path, content(provider)) as served:
        status, found = await call(served, "GET", f"/v1/responses/{second['id']}")
        assert (status, found["output"]) == (200, second["output"])
        await respond(served, "other", previous_response_id=first["id"])
        assert said(provider.requests[-1]) == ["one", "Hello!", "other"]


async def test_a_response_in_the_background_outlives_a_restart(
    tmp_path: Path, provider: FakeProvider
) -> None:
    provider.will(answer("Hel", "lo!", gate=asyncio.Event()))
    whole = content(provider)
    whole["gateway"]["shutdown"] = {"graceSeconds": 0}
    async with serving(tmp_path, whole) as served:
        begun = await respond(served, "one", background=True)
        await provider.arrival()
    async with serving(tmp_path, whole) as served:
        events = await frames(served, f"/v1/responses/{begun['id']}?stream=true")
        assert events[-1]["type"] == "response.completed"
        await respond(served, "two", previous_response_id=begun["id"])
        assert said(provider.requests[-1]) == ["one", "Hello!", "two"]


async def test_outputs_go_on_after_a_restart(tmp_path: Path, provider: FakeProvider) -> None:
    provider.will(answer("I look.", tool_calls=[CALL], finish_reason="tool_calls"))
    async with serving(tmp_path, content(provider)) as served:
        first = await respond(served, "Is it sunny?", tools=[TOOL])
    called = first["output"][-1]["call_id"]
    output = {"type": "function_call_output", "call_id": called, "output": "yes"}
    async with serving(tmp_path, content(provider)) as served:
        second = await respond(served, [output], previous_response_id=first["id"], tools=[TOOL])

    assert said(provider.requests[-1]) == ["Is it sunny?", "I look.", "yes"]
    assert second["output"][0]["content"][0]["text"] == "Hello!"


async def test_an_output_without_its_call_is_refused(served: Served) -> None:
    first = await respond(served, "one")
    output = {"type": "function_call_output", "call_id": "call_none", "output": "yes"}

    await refused(served, 400, [output], previous_response_id=first["id"])


async def test_a_response_that_waits_is_decided_by_the_next_message(
    tmp_path: Path, provider: FakeProvider
) -> None:
    gateway = {"http": {"endpoints": ENDPOINTS}}
    async with open_office(tmp_path, provider, sections={"gateway": gateway}) as office:
        provider.will(calls(), answer("It is sent."), answer("You are welcome."))
        first = await respond(office.served, "Send it.", model="opensoul/guide")
        (code,) = re.findall(r"^approve (\S+)$", first["output"][0]["content"][0]["text"], re.M)
        path = f"/v1/responses/{first['id']}"
        assert (await call(office.served, "GET", path))[1]["status"] == "in_progress"

        second = await respond(office.served, f"approve {code}", previous_response_id=first["id"])

        assert second["id"] == first["id"]
        assert office.courier.sent == [ARGUMENTS]
        stored = (await call(office.served, "GET", path))[1]
        assert stored | {"output": second["output"]} == second
        assert (second["status"], second["previous_response_id"]) == ("completed", None)
        await respond(office.served, "Thanks.", previous_response_id=first["id"])
        assert said(provider.requests[-1])[-2:] == ["It is sent.", "Thanks."]


async def test_a_stream_in_the_background_begins_with_its_id(
    served: Served, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("", "Hello!", gate=gate))
    body = {"input": "Hi", "stream": True, "background": True}
    async with served.client.post(
        "/v1/responses", json=body, headers=served.authorization
    ) as response:
        while not (line := (await response.content.readline()).decode()).startswith("data: "):
            assert line.startswith(("event: ", ":", "\n"))
    event = json.loads(line[6:])
    assert event["type"] == "response.created"
    gate.set()

    events = await frames(served, f"/v1/responses/{event['response']['id']}?stream=true")

    assert events[0] == event
    assert events[-1]["type"] == "response.completed"


async def test_a_response_to_a_command_has_the_history_of_the_one_before(
    served: Served, provider: FakeProvider
) -> None:
    first = await respond(served, "one")
    second = await respond(served, "/status", previous_response_id=first["id"])
    assert len(provider.requests) == 1
    await respond(served, "two", previous_response_id=second["id"])

    assert said(provider.requests[-1]) == ["one", "Hello!", "two"]


async def test_a_principal_of_some_agents_goes_on_from_its_own(
    tmp_path: Path, provider: FakeProvider
) -> None:
    gateway = {"http": {"endpoints": ENDPOINTS}}
    async with open_office(tmp_path, provider, sections={"gateway": gateway}) as office:
        body = {"model": "opensoul/guide", "input": "one"}

        async def statuses(by: str, **fields: str) -> tuple[int, dict[str, Any]]:
            async with office.served.client.post(
                "/v1/responses", json=body | fields, headers=office.headers(by)
            ) as response:
                return response.status, await response.json()

        status, first = await statuses("grace")
        assert status == 200
        assert (await statuses("alan", previous_response_id=first["id"]))[0] == 404
        assert (await statuses("grace", previous_response_id=first["id"]))[0] == 200

    assert said(provider.requests[-1])[0] == "one"
    assert len(said(provider.requests[-1])) == 3


async def test_a_response_of_a_temporary_conversation_is_not_stored(served: Served) -> None:
    headers = {**served.authorization, "x-openwebui-chat-id": "temporary:1"}
    async with served.client.post(
        "/v1/responses", json={"input": "Hi"}, headers=headers
    ) as response:
        answered = await response.json()

    assert answered["store"] is False
    assert (await call(served, "GET", f"/v1/responses/{answered['id']}"))[0] == 404


async def test_what_others_have_made_is_changed_by_administrators_only(
    tmp_path: Path, provider: FakeProvider
) -> None:
    gateway = {"http": {"endpoints": ENDPOINTS}}
    async with open_office(tmp_path, provider, sections={"gateway": gateway}) as office:
        served, narrowed = office.served, {"x-opensoul-scopes": "operator.write"}
        first = await respond(served)
        body = {"items": [{"role": "user", "content": "x", "id": "msg_x"}]}
        talk = (await call(served, "POST", "/v1/conversations", body))[1]["id"]
        added = {"items": [{"role": "user", "content": "y"}]}
        requests: list[tuple[str, str, object]] = [
            ("DELETE", f"/v1/responses/{first['id']}", None),
            ("POST", f"/v1/conversations/{talk}", {"metadata": {}}),
            ("POST", f"/v1/conversations/{talk}/items", added),
            ("DELETE", f"/v1/conversations/{talk}/items/msg_x", None),
            ("DELETE", f"/v1/conversations/{talk}", None),
        ]
        for more, expected in [(narrowed, 403), ({}, 200)]:
            for method, path, sent in requests:
                async with served.client.request(
                    method, path, json=sent, headers=office.headers("ada") | more
                ) as response:
                    assert response.status == expected, (method, path, await response.text())


async def test_two_responses_at_once_go_on_from_the_same_one(
    served: Served, provider: FakeProvider
) -> None:
    first = await respond(served, "one")

    both = await asyncio.gather(
        *(respond(served, text, previous_response_id=first["id"]) for text in ("left", "right"))
    )

    histories = [said(request) for request in provider.requests[1:]]
    assert sorted(histories) == [["one", "Hello!", "left"], ["one", "Hello!", "right"]]
    for response, text in zip(both, ("left", "right"), strict=True):
        await respond(served, "on", previous_response_id=response["id"])
        assert said(provider.requests[-1]) == ["one", "Hello!", text, "Hello!", "on"]


async def test_messages_of_developers_hold_for_the_responses_that_follow(
    served: Served, provider: FakeProvider
) -> None:
    def of(role: str, text: str) -> dict[str, str]:
        return {"role": role, "content": text}

    first = await respond(
        served, [of("developer", "Rhyme."), of("user", "one")], instructions="Bow."
    )
    second = await respond(served, "two", previous_response_id=first["id"])
    again = [of("system", "Rhyme."), of("system", "Sing."), of("user", "three")]
    third = await respond(served, again, previous_response_id=second["id"])
    await respond(served, "four", previous_response_id=third["id"])
    await respond(served, "other", previous_response_id=second["id"])

    assert [_layers(request.json) for request in provider.requests] == [
        ["Bow.", "Rhyme."],
        ["Rhyme."],
        ["Rhyme.", "Sing."],
        ["Rhyme.", "Sing."],
        ["Rhyme."],
    ]
    assert said(provider.requests[1]) == ["one", "Hello!", "two"]


def _layers(body: Any) -> list[str]:
    """The layers of a test in the system prompt."""
    paragraphs = body["messages"][0]["content"].split("\n\n")
    return [text for text in paragraphs if text in ("Bow.", "Rhyme.", "Sing.")]
