"""Responses over WebSocket, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from opensoul.adapters.transports import RouteTable, Transport
from opensoul.domain.runs import RunStatus
from tests.app.keyed import bearer, created, provider
from tests.app.serving import SECRET, Served, serving
from tests.control.client import connected
from tests.fakes.behaviours import answer, fail
from tests.fakes.provider import FakeProvider

from .stateful import call, content, frames, said

__all__ = ["provider"]
PATH = "/v1/responses"


@pytest.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with serving(tmp_path, content(provider)) as served:
        yield served


class Socket:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, text: object = "Hi", **fields: Any) -> None:
        await self.socket.send_json({"type": "response.create", "input": text, **fields})

    async def event(self) -> dict[str, Any]:
        event = await self.socket.receive_json(timeout=10)
        assert isinstance(event, dict)
        return event

    async def events(self) -> list[dict[str, Any]]:
        """Those of one response, or an error."""
        events = [await self.event()]
        ends = ("response.completed", "response.failed", "response.incomplete", "error")
        while events[-1]["type"] not in ends:
            events.append(await self.event())
        return events

    async def respond(self, text: object = "Hi", **fields: Any) -> dict[str, Any]:
        """The response object of a request."""
        await self.send(text, **fields)
        *_, last = await self.events()
        assert last["type"] == "response.completed", last
        response = last["response"]
        assert isinstance(response, dict)
        return response

    async def error(self, text: object = "Hi", **fields: Any) -> tuple[int, dict[str, Any]]:
        await self.send(text, **fields)
        (error,) = await self.events()
        assert error["type"] == "error"
        return error["status"], error["error"]


@asynccontextmanager
async def connection(served: Served, secret: str = SECRET) -> AsyncIterator[Socket]:
    async with served.client.ws_connect(PATH, headers=bearer(secret)) as socket:
        yield Socket(socket)


async def test_the_events_are_those_of_the_stream(served: Served) -> None:
    async with connection(served) as socket:
        await socket.send("Hi")
        events = await socket.events()

    response = events[0]["response"]
    again = await frames(served, f"{PATH}/{response['id']}?stream=true")
    assert [event["type"] for event in again] == [event["type"] for event in events]
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Hello!"


async def test_a_connection_has_many_responses(served: Served, provider: FakeProvider) -> None:
    async with connection(served) as socket:
        first = await socket.respond("one")
        await socket.respond("two", previous_response_id=first["id"])

    assert said(provider.requests[-1]) == ["one", "Hello!", "two"]


async def test_the_newest_need_not_be_stored_to_be_followed(
    served: Served, provider: FakeProvider
) -> None:
    async with connection(served) as socket:
        first = await socket.respond("one", store=False)
        second = await socket.respond("two", store=False, previous_response_id=first["id"])
        assert said(provider.requests[-1]) == ["one", "Hello!", "two"]
        status, error = await socket.error("x", previous_response_id=first["id"])
    async with connection(served) as socket:
        other = await socket.error("x", previous_response_id=second["id"])

    assert (status, error["code"]) == (404, "previous_response_not_found")
    assert other[0] == 404
    assert (await call(served, "GET", f"{PATH}/{second['id']}"))[0] == 404


async def test_the_developers_message_holds_on_a_connection(
    served: Served, provider: FakeProvider
) -> None:
    async with connection(served) as socket:
        for text, follows in (("Rhyme.", True), ("r" * 70_000, False)):
            asked = [{"role": "developer", "content": text}, {"role": "user", "content": "one"}]
            first = await socket.respond(asked, store=False)
            fields = {"store": False, "previous_response_id": first["id"]}
            if follows:
                await socket.respond("two", **fields)
                assert text in provider.requests[-1].json["messages"][0]["content"]
            else:
                status, error = await socket.error("two", **fields)
                assert (status, error["code"]) == (404, "previous_response_not_found")


async def test_messages_wait_for_the_response_before_them(served: Served) -> None:
    async with connection(served) as socket:
        await socket.send("one")
        await socket.send("two")
        first, second = await socket.events(), await socket.events()

    assert first[-1]["response"]["id"] != second[-1]["response"]["id"]
    assert second[0]["type"] == "response.created"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"type": "session.update"}, "type"),
        ({"type": "response.create"}, "input"),
        ({"type": "response.create", "input": "x", "temperature": 9}, "temperature"),
        ({"type": "response.create", "input": "x", "generate": False}, "generate"),
        ([], None),
    ],
)
async def test_a_wrong_message_gets_an_error_and_the_connection_goes_on(
    served: Served, message: object, param: str | None
) -> None:
    async with connection(served) as socket:
        await socket.socket.send_json(message)
        (error,) = await socket.events()
        await socket.socket.send_str("{")
        (broken,) = await socket.events()
        await socket.respond()

    assert (error["status"], error["error"]["param"]) == (400, param)
    assert (broken["status"], broken["error"]["type"]) == (400, "invalid_request_error")


async def test_a_failure_of_the_provider_is_an_error(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(fail(400, {"error": {"message": "no"}}))
    async with connection(served) as socket:
        status, error = await socket.error()
        await socket.respond()

    assert (status, error["code"]) == (400, "provider_bad_request")


async def test_a_client_that_leaves_stops_its_run(served: Served, provider: FakeProvider) -> None:
    provider.will(answer("Hel", "lo!", gate=asyncio.Event()))
    async with connection(served) as socket:
        await socket.send()
        run_id = (await socket.event())["response"]["id"].removeprefix("resp_")

    found = await served.container.stored_responses().find(f"resp_{run_id}")
    assert found is not None
    run_events = served.container.run_events()
    await run_events.ended(found.run_id)
    record = await run_events.find(found.run_id)
    assert record is not None
    assert record.status is RunStatus.ABORTED


async def test_a_response_in_the_background_goes_on(served: Served, provider: FakeProvider) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    async with connection(served) as socket:
        await socket.send(background=True)
        response = (await socket.event())["response"]
    gate.set()

    events = await frames(served, f"{PATH}/{response['id']}?stream=true")

    assert events[-1]["type"] == "response.completed"


@pytest.mark.parametrize(("secret", "status"), [("wrong", 401), ("", 401)])
async def test_a_stranger_is_refused(served: Served, secret: str, status: int) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await served.client.ws_connect(PATH, headers=bearer(secret) if secret else {})

    assert refused.value.status == status


async def test_a_key_that_is_revoked_ends_its_connections(served: Served) -> None:
    secret = await created(served, "mine")
    async with connection(served, secret) as socket:
        await socket.respond()
        async with connected(served.client, SECRET) as operator:
            (key,) = (await operator.call("keys.list", {}))["keys"]
            await operator.call("keys.revoke", {"key": key["id"]})
        message = await socket.socket.receive(timeout=10)

    assert message.type is aiohttp.WSMsgType.CLOSE
    assert socket.socket.close_code == 4001


async def test_it_is_closed_when_the_gateway_stops(tmp_path: Path, provider: FakeProvider) -> None:
    async with serving(tmp_path, content(provider)) as served:
        session = aiohttp.ClientSession(served.url)
        socket = await session.ws_connect(PATH, headers=bearer(SECRET))
    message = await socket.receive(timeout=10)
    await session.close()

    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


async def test_it_is_off_with_its_endpoint(tmp_path: Path, provider: FakeProvider) -> None:
    whole = content(provider)
    whole["gateway"]["http"]["endpoints"] = {"responses": {"enabled": False}}
    async with serving(tmp_path, whole) as served:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await served.client.ws_connect(PATH, headers=bearer(SECRET))

    assert refused.value.status == 404


async def test_other_paths_are_the_control_plane_s(served: Served) -> None:
    async with served.client.ws_connect("/v1/responses/other") as socket:
        challenge = json.loads((await socket.receive(timeout=10)).data)

    assert challenge["event"] == "connect.challenge"


async def upgrade() -> None:
    """Never called."""


@pytest.mark.parametrize(
    ("paths", "is_right"),
    [(["", "/a"], True), (["/a", "/b"], True), (["", ""], False), (["/a", "/a"], False)],
)
def test_one_transport_answers_the_upgrades_of_a_path(paths: list[str], is_right: bool) -> None:
    transports = [
        Transport(str(number), upgrade=upgrade, upgrade_path=path)
        for number, path in enumerate(paths)
    ]
    if is_right:
        assert RouteTable(transports).transports == tuple(transports)
    else:
        with pytest.raises(ValueError, match="two transports answer WebSocket upgrades"):
            RouteTable(transports)
