"""Names, keys and ids with control or format characters are refused at every source."""

from __future__ import annotations

from typing import Any

import pytest

from tests.app.serving import SECRET, Served

from .client import Refused, connect_params, knocking
from .conftest import Enter

OVERRIDE = "U+202E RIGHT-TO-LEFT OVERRIDE at position 2"
EVIL = "a\u202eb"
CLIENT = {"id": "cli", "version": "1", "platform": "linux", "mode": "cli"}

REQUESTS: list[tuple[str, dict[str, Any], str]] = [
    ("agent", {"message": "x", "idempotencyKey": "k1", "sessionKey": EVIL}, "sessionKey"),
    ("agent", {"message": "x", "idempotencyKey": EVIL}, "idempotencyKey"),
    ("agent", {"message": "x", "idempotencyKey": "k2", "agentId": EVIL}, "agentId"),
    ("agent", {"message": "x", "idempotencyKey": "k3", "label": EVIL}, "label"),
    ("chat.send", {"sessionKey": EVIL, "message": "x", "idempotencyKey": "k4"}, "sessionKey"),
    ("chat.send", {"sessionKey": "main", "message": "x", "idempotencyKey": EVIL}, "idempotency"),
    ("chat.inject", {"sessionKey": "main", "message": "x", "label": EVIL}, "label"),
    ("sessions.create", {"key": EVIL}, "at /key"),
    ("sessions.create", {"label": EVIL}, "label"),
    ("sessions.patch", {"key": EVIL, "label": "x"}, "session key"),
    ("sessions.patch", {"key": "main", "label": EVIL}, "label"),
    ("sessions.patch", {"key": "main", "execNode": EVIL}, "execNode"),
    ("runs.get", {"runId": EVIL}, "runId"),
    ("agents.create", {"name": EVIL, "workspace": "x"}, "name"),
    ("system-event", {"text": "x", "deviceId": EVIL}, "deviceId"),
    ("system-event", {"text": "x", "host": EVIL}, "host"),
    ("system-event", {"text": "x", EVIL: "x"}, "name of a property"),
]


@pytest.mark.parametrize(("method", "params", "field"), REQUESTS)
async def test_a_request_is_refused_with_the_field_and_the_character(
    enter: Enter, method: str, params: dict[str, Any], field: str
) -> None:
    async with enter() as peer:
        with pytest.raises(Refused) as refused:
            await peer.call(method, params)
    message = refused.value.error["message"]
    assert refused.value.error["code"] == "INVALID_REQUEST"
    assert field in message
    assert OVERRIDE in message


@pytest.mark.parametrize(
    "field", ["displayName", "deviceFamily", "modelIdentifier", "instanceId", "version", "platform"]
)
async def test_a_client_is_not_let_in_under_such_a_name(served: Served, field: str) -> None:
    async with knocking(served.client) as peer:
        with pytest.raises(Refused) as refused:
            await peer.call("connect", connect_params(SECRET, client=CLIENT | {field: EVIL}))
    message = refused.value.error["message"]
    assert message.startswith(f"invalid connect params: at /client/{field}: ")
    assert message.endswith(OVERRIDE)


async def test_a_session_key_in_a_header_is_refused(served: Served) -> None:
    name = "x-opensoul-session-key"
    body = {"messages": [{"role": "user", "content": "x"}]}
    headers = {"Authorization": f"Bearer {SECRET}", name: EVIL}
    async with served.client.post("/v1/chat/completions", json=body, headers=headers) as response:
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, name)
    assert OVERRIDE in error["message"]


async def test_a_name_in_any_script_is_taken(enter: Enter) -> None:
    name = "Zoë 👩\u200d👧 \u0645\u06cc\u200c\u062e\u0648"
    async with enter(client=CLIENT | {"displayName": name}) as peer:
        made = await peer.call("sessions.create", {"key": f"trip {name}", "label": name})
        assert made["key"] == f"agent:main:trip {name}"
        listed = await peer.call("sessions.list", {"label": name})
        assert [row["label"] for row in listed["sessions"]] == [name]
