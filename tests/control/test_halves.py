"""Half a surrogate pair: text in a message, refused by name in a key."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control.client import Peer, Refused
from tests.fakes.provider import FakeProvider

HALF = "\ud83d"
JOINED = "\ud83d\ude00"
"""Two escapes in JSON, and one character."""


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("agent", {"agentId": "main"}),
        ("chat.send", {"sessionKey": "main"}),
        ("sessions.send", {"key": "agent:main:main"}),
    ],
)
async def test_half_a_pair_in_a_message_is_replaced(
    peer: Peer, provider: FakeProvider, method: str, params: dict[str, Any]
) -> None:
    message = f"wait {HALF} for {JOINED}!"

    await peer.call(method, params | {"message": message, "idempotencyKey": "K"})

    sent = (await provider.arrival()).json["messages"][-1]["content"]
    assert sent == "wait \ufffd for \U0001f600!"


async def test_half_a_pair_in_other_texts_is_replaced_too(peer: Peer) -> None:
    await peer.call("sessions.patch", {"key": "agent:main:main", "label": f"trip {HALF}"})
    await peer.call("chat.inject", {"sessionKey": "main", "message": HALF, "label": f"a{HALF}"})

    history = await peer.call("chat.history", {"sessionKey": "main"})
    assert history["messages"][-1]["content"][0]["text"] == "[a\ufffd]\n\n\ufffd"
    row = await peer.call("sessions.resolve", {"label": "trip \ufffd"})
    assert row["key"] == "agent:main:main"


@pytest.mark.parametrize(
    ("method", "params", "named"),
    [
        ("agent", {"message": "x", "sessionKey": HALF, "idempotencyKey": "K"}, "sessionKey"),
        ("agent", {"message": "x", "agentId": HALF, "idempotencyKey": "K"}, "agentId"),
        ("agent", {"message": "x", "idempotencyKey": HALF}, "idempotencyKey"),
        ("chat.send", {"message": "x", "sessionKey": HALF, "idempotencyKey": "K"}, "sessionKey"),
        ("sessions.patch", {"key": HALF, "label": "x"}, "key"),
        ("sessions.patch", {"key": "agent:main:main", "model": HALF}, "model"),
        ("runs.get", {"runId": HALF}, "runId"),
        ("sessions.resolve", {"sessionId": HALF}, "sessionId"),
    ],
)
async def test_half_a_pair_in_a_key_is_refused_by_the_field_s_name(
    peer: Peer, provider: FakeProvider, method: str, params: dict[str, Any], named: str
) -> None:
    with pytest.raises(Refused) as refused:
        await peer.call(method, params)

    assert refused.value.error["code"] == "INVALID_REQUEST"
    assert named in refused.value.error["message"]
    assert provider.requests == []
