"""What a request held is released when it ends, without the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from quart.wrappers import Request

from opensoul.adapters.transports.control.broadcast.broadcaster import RunBroadcaster
from opensoul.adapters.transports.control.connection.connection import Call, Params
from opensoul.adapters.transports.control.protocol.frames import RequestFrame
from opensoul.adapters.transports.http.context import RequestContext
from opensoul.domain.errors import GatewayError
from opensoul.domain.execution.live_runs import LiveRun
from opensoul.domain.messages import Message
from opensoul.domain.runs.spec import RunRequest, RunSpec
from tests.app.serving import SECRET, Served, config, serving
from tests.control.client import Peer, Refused, connected
from tests.fakes.behaviours import answer, cut, fail, hang_after
from tests.fakes.provider import FakeProvider
from tests.http.client import bare

PATIENCE = 10.0
HELD = (
    Call,
    RequestContext,
    GatewayError,
    LiveRun,
    Message,
    Params,
    Request,
    RequestFrame,
    RunSpec,
    RunRequest,
    RunBroadcaster,
)


@dataclass
class Rig:
    """A Gateway with a provider, and one client of each kind that stays."""

    provider: FakeProvider
    served: Served
    peer: Peer
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def new(self, kind: str) -> str:
        return f"{kind}{next(self._numbers)}"

    def agent(self, peer: Peer | None = None, **params: Any) -> str:
        """Ask for a run in a session of its own; the request's id."""
        asked = {
            "message": "x" * 300_000,
            "idempotencyKey": self.new("k"),
            "sessionKey": f"agent:main:{self.new('s')}",
        }
        return (peer or self.peer).send("agent", asked | params)

    async def begun(self, known: int) -> None:
        """Return when the provider has begun to answer one more than `known` requests."""
        while len(self.provider.requests) == known:
            await self.provider.arrival()
        await self.provider.requests[-1].started.wait()

    @property
    def port(self) -> int:
        return int(self.served.url.rpartition(":")[2])


def _content(provider: FakeProvider) -> dict[str, Any]:
    content = config(provider.base_url)
    content["gateway"]["http"]["endpoints"]["a2a"] = {"enabled": True}
    return content


@asynccontextmanager
async def served_rig(home: Path) -> AsyncIterator[Rig]:
    async with (
        FakeProvider(answer("Hel", "lo!")) as provider,
        serving(home, _content(provider)) as served,
        connected(served.client, SECRET) as peer,
    ):
        yield Rig(provider, served, peer)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """With the event loop of production. asyncio's own keeps a cancelled timer, with its context,
    for as long as it was to wait."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


@pytest.fixture(scope="module")
def rig(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    stack = AsyncExitStack()
    home = tmp_path_factory.mktemp("gateway")
    yield runner.run(stack.enter_async_context(served_rig(home)))
    runner.run(stack.aclose())


async def answered(rig: Rig) -> None:
    assert await rig.served.text() == "Hello!"


async def answered_in_a_session(rig: Rig) -> None:
    # An answer that is kept in the working set belongs to the session, not to the request.
    async with rig.served.ask(user=rig.new("u"), messages=[{"role": "user", "content": "a"}]) as r:
        assert r.status == 200


async def streamed(rig: Rig) -> None:
    async with rig.served.ask(stream=True) as response:
        assert b"[DONE]" in await response.read()


async def failed(rig: Rig) -> None:
    rig.provider.will(fail(401))
    async with rig.served.ask() as response:
        assert response.status == 502


async def failed_while_streaming(rig: Rig) -> None:
    gate = asyncio.Event()
    rig.provider.will(cut("Hel", gate=gate))
    async with rig.served.ask(stream=True) as response:
        await response.content.readuntil(b"Hel")
        gate.set()
        assert b'"error"' in await response.read()


async def refused(rig: Rig) -> None:
    async with rig.served.ask(temperature="hot") as response:
        assert response.status == 400


async def refused_as_no_json(rig: Rig) -> None:
    body, headers = b'{"messages": [' + b" " * 300_000, rig.served.authorization
    headers["Content-Type"] = "application/json"
    async with rig.served.client.post("/v1/chat/completions", data=body, headers=headers) as r:
        assert r.status == 400


async def refused_as_too_large(rig: Rig) -> None:
    async with bare(rig.port) as client:
        client.writer.write(_head(10**9) + b"x" * 100_000)
        assert (await client.read_head())[0] == 413


def _head(length: int) -> bytes:
    lines = ("POST /v1/chat/completions HTTP/1.1", "Host: localhost", f"Content-Length: {length}")
    return "\r\n".join([*lines, f"Authorization: Bearer {SECRET}", "", ""]).encode()


async def refused_as_a_stranger(rig: Rig) -> None:
    async with rig.served.ask({"Authorization": "Bearer no"}) as response:
        assert response.status == 401


async def refused_for_its_path(rig: Rig) -> None:
    async with rig.served.client.post("/nowhere", data=b"x" * 300_000) as response:
        assert response.status == 404


async def _called_by_a2a(rig: Rig, method: str, text: str = "hello", **message: Any) -> str:
    message |= {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": text}]}
    params = {"message": message}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = rig.served.authorization
    async with rig.served.client.post("/a2a", json=body, headers=headers) as response:
        return await response.text()


async def answered_to_a2a(rig: Rig) -> None:
    assert "COMPLETED" in await _called_by_a2a(rig, "SendMessage")


async def streamed_to_a2a(rig: Rig) -> None:
    assert "COMPLETED" in await _called_by_a2a(rig, "SendStreamingMessage")


async def failed_for_a2a(rig: Rig) -> None:
    rig.provider.will(fail(401))
    assert "FAILED" in await _called_by_a2a(rig, "SendMessage")


async def refused_to_a2a(rig: Rig) -> None:
    assert "error" in await _called_by_a2a(rig, "SendMessage", contextId="a b")
    assert "error" in await _called_by_a2a(rig, "Nothing")


async def left_while_sending(rig: Rig) -> None:
    async with bare(rig.port) as client:
        client.writer.write(_head(300_000) + b"x" * 200_000)
        await client.writer.drain()


async def left_while_waiting(rig: Rig) -> None:
    await _leave(rig, stream=False)


async def left_while_streaming(rig: Rig) -> None:
    await _leave(rig, stream=True)


async def _leave(rig: Rig, *, stream: bool) -> None:
    rig.provider.will(hang_after("Hel"))
    known = len(rig.provider.requests)
    with suppress(aiohttp.ClientError, asyncio.CancelledError):
        asking = asyncio.ensure_future(rig.served.ask(stream=stream).__aenter__())
        await rig.begun(known)
        if stream:
            (await asking).close()
        asking.cancel()
        await asking
    await rig.provider.requests[-1].disconnected.wait()


async def aborted(rig: Rig) -> None:
    await _abort(rig, stream=False)


async def aborted_while_streaming(rig: Rig) -> None:
    await _abort(rig, stream=True)


async def _abort(rig: Rig, *, stream: bool) -> None:
    rig.provider.will(hang_after("Hel"))
    known = len(rig.provider.requests)
    session = f"agent:main:{rig.new('s')}"
    headers = {"x-opensoul-session-key": session}

    async def ask() -> None:
        async with rig.served.ask(headers, stream=stream) as response:
            await response.read()

    asking = asyncio.create_task(ask())
    await rig.begun(known)
    await rig.peer.call("chat.abort", {"sessionKey": session})
    await asking


async def agent_answered(rig: Rig) -> None:
    request = rig.agent()
    await rig.peer.answer(request)
    assert (await rig.peer.answer(request))["status"] == "ok"


async def agent_failed(rig: Rig) -> None:
    rig.provider.will(fail(401))
    request = rig.agent()
    await rig.peer.answer(request)
    with pytest.raises(Refused):
        await rig.peer.answer(request)


async def agent_aborted(rig: Rig) -> None:
    rig.provider.will(hang_after("Hel"))
    session = f"agent:main:{rig.new('s')}"
    request = rig.agent(sessionKey=session)
    run = (await rig.peer.answer(request))["runId"]
    await rig.peer.event("chat", runId=run, state="delta")
    await rig.peer.call("chat.abort", {"sessionKey": session})
    with suppress(Refused):
        await rig.peer.answer(request)


async def agent_refused(rig: Rig) -> None:
    for wrong in ({"nonsense": ["x" * 1_000] * 100}, {"thinking": "nonsense"}, {"message": 1}):
        with pytest.raises(Refused):
            await rig.peer.answer(rig.agent(**wrong))


async def agent_left(rig: Rig) -> None:
    async with connected(rig.served.client, SECRET) as peer:
        await peer.answer(rig.agent(peer))


async def chat_sent(rig: Rig) -> None:
    asked = {"message": "x" * 300_000, "idempotencyKey": rig.new("k")}
    session = {"sessionKey": f"agent:main:{rig.new('s')}"}
    run = (await rig.peer.call("chat.send", asked | session))["runId"]
    await rig.peer.event("chat", runId=run, state="final")


Case = Callable[[Rig], Awaitable[None]]
CASES: tuple[Case, ...] = (
    answered,
    answered_in_a_session,
    streamed,
    failed,
    failed_while_streaming,
    refused,
    refused_as_no_json,
    answered_to_a2a,
    streamed_to_a2a,
    failed_for_a2a,
    refused_to_a2a,
    refused_as_too_large,
    refused_as_a_stranger,
    refused_for_its_path,
    left_while_sending,
    left_while_waiting,
    left_while_streaming,
    aborted,
    aborted_while_streaming,
    agent_answered,
    agent_failed,
    agent_aborted,
    agent_refused,
    agent_left,
    chat_sent,
)


@contextmanager
def without_collector() -> Iterator[None]:
    """What there is already is not looked at: `gc.get_objects` does not name it. It stays frozen,
    because `gc.unfreeze` would have every later collection look through all that was imported."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def held() -> list[str]:
    """What is left of requests that began within `without_collector`."""
    return sorted(type(o).__name__ for o in gc.get_objects() if isinstance(o, HELD))


async def left_after(case: Case, rig: Rig) -> list[str]:
    """What is left of a request some time after it, at best nothing at once."""
    await case(rig)  # Once before: what is made lazily, and kept, is no leak.
    with without_collector():
        await case(rig)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while held():  # noqa: ASYNC110  # Nothing tells when an object is gone.
                    await asyncio.sleep(0.01)
        return held()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_request_is_released_without_the_garbage_collector(
    case: Case, rig: Rig, runner: asyncio.Runner
) -> None:
    assert runner.run(left_after(case, rig)) == []
    assert rig.served.container.gateway().in_flight.used == 0
