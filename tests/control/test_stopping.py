"""The Gateway stops: runs end, everybody hears how, and only then connections are closed."""

from __future__ import annotations

import asyncio

import pytest

from tests.app.serving import Served
from tests.control.client import Peer, Refused
from tests.control.conftest import Enter
from tests.fakes.behaviours import answer, hang_after
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.both_loops

RESTART = (1012, "service restart")
WORDS = ["word " * 20] * 2_000


def asked(key: str, session: str = "main") -> dict[str, str]:
    return {"message": "hi", "sessionKey": session, "idempotencyKey": key}


async def test_what_waits_for_a_client_is_sent_before_its_connection_is_closed(
    served: Served, enter: Enter, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.default = answer(*WORDS, gate=gate)
    async with enter() as principal, enter() as follower, enter() as listener:
        await listener.call("sessions.messages.subscribe", {"key": "main"})
        request = principal.send("agent", asked("K"))
        assert (await principal.answer(request))["status"] == "accepted"
        await follower.call("runs.follow", {"runId": "K", "afterSeq": 0})

        served.container.lifecycle().begin_drain()
        with pytest.raises(Refused, match="shutting down"):
            await follower.call("chat.send", asked("L"))
        gate.set()

        ends = [await peer.closed() for peer in (principal, follower, listener)]
        final = await principal.answer(request)

    assert ends == [RESTART] * 3
    assert final["status"] == "ok"
    assert numbers(follower) == list(range(1, len(WORDS) + 3))
    for peer in (principal, listener):
        assert numbers(peer)[-1] == len(WORDS) + 2
        assert [f for f in peer.events if f["event"] == "chat"][-1]["payload"]["state"] == "final"


async def test_runs_that_outlast_the_grace_are_left_to_the_next_process(
    served: Served, enter: Enter, provider: FakeProvider
) -> None:
    provider.default = hang_after("Hel")
    async with enter() as principal:
        requests = [principal.send("agent", asked(f"K{n}", f"talk-{n % 3}")) for n in range(9)]
        for request in requests:
            await principal.answer(request)

        await served.container.gateway().drain(0)
        served.container.lifecycle().begin_drain()

        assert await principal.closed() == RESTART
        for request in requests:
            with pytest.raises(Refused, match="goes on when it is started again"):
                await principal.answer(request)

    assert await served.container.queue().unfinished() == ()


def numbers(peer: Peer) -> list[int]:
    return [frame["payload"]["seq"] for frame in peer.events if frame["event"] == "agent"]
