"""Clients of several Gateways over one database: it does not matter which one they connect to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import pytest_asyncio
from dependency_injector.providers import Provider

from opensoul.client import Backoff, Client, Options
from tests.app.gaps import bells_of
from tests.app.nodes import LEASE, node
from tests.app.serving import SECRET, Served
from tests.approvals.office import ARGUMENTS, Courier, calls, installed
from tests.control.client import PATIENCE, Peer, Refused, connected
from tests.fakes.behaviours import answer, hang_after
from tests.fakes.provider import FakeProvider

MAIN = "agent:main:main"
QUICK = Backoff(first=0.05, longest=0.2, give_up_after=60)
NODES = pytest.mark.parametrize(
    "roles", [("all", "all"), ("gateway", "gateway", "worker")], ids="-".join
)


@dataclass
class Two:
    """Two Gateways, maybe with a worker, and a client at each of the two."""

    nodes: list[Served]
    first: Peer
    second: Peer


@asynccontextmanager
async def two(
    home: Path,
    url: str,
    provider: FakeProvider,
    roles: tuple[str, ...] = ("all", "all"),
    lease: int = LEASE,
    parts: Mapping[str, Provider[Any]] | None = None,
    **sections: Any,
) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                node(
                    *(home, url, provider.base_url),
                    name=f"node{number}",
                    role=role,
                    lease=lease,
                    parts=parts,
                    **sections,
                )
            )
            for number, role in enumerate(roles)
        ]
        first, second = [
            await stack.enter_async_context(connected(one.client, SECRET)) for one in nodes[:2]
        ]
        yield Two(nodes, first, second)


class Balancer:
    """Passes connections on to the port `target`."""

    def __init__(self) -> None:
        self.target: int | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Balancer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers += writer, other_writer
        await asyncio.gather(_pass_on(reader, other_writer), _pass_on(other_reader, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


async def send(peer: Peer, key: str = "K", session: str = "main") -> Any:
    return await peer.call(
        "chat.send", {"sessionKey": session, "message": "hi", "idempotencyKey": key}
    )


async def numbers_until_end(peer: Peer, run_id: str) -> list[int]:
    """The numbers of the run's `agent` events, to its end."""
    numbers = []
    while True:
        payload = (await peer.event("agent", runId=run_id))["payload"]
        numbers.append(payload["seq"])
        if payload["stream"] == "lifecycle" and payload["data"]["phase"] in ("end", "error"):
            return numbers


@NODES
@pytest.mark.parametrize("subscribed", ["session", "all"])
async def test_a_run_that_begins_at_one_node_is_sent_to_subscribers_at_another(
    emptied_postgres: str,
    tmp_path: Path,
    provider: FakeProvider,
    roles: tuple[str, ...],
    subscribed: str,
) -> None:
    async with two(tmp_path, emptied_postgres, provider, roles) as nodes:
        if subscribed == "session":
            await nodes.second.call("sessions.messages.subscribe", {"key": "main"})
        else:
            await nodes.second.call("sessions.subscribe", {})
        for number in range(3):
            await send(nodes.first, f"K{number}")

        for number in range(3):
            assert await numbers_until_end(nodes.second, f"K{number}") == [1, 2, 3, 4]
        final = await nodes.first.event("chat", runId="K2", state="final")
        assert final["payload"]["message"]["content"] == [{"type": "text", "text": "Hello!"}]


async def test_runs_of_a_session_come_in_order_each_event_once(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    runs = [f"K{number}" for number in range(8)]
    async with two(tmp_path, emptied_postgres, provider, ("gateway", "gateway", "worker")) as nodes:
        for params in ({"key": "main"}, {"key": "main"}):
            await nodes.second.call("sessions.messages.subscribe", params)
        await nodes.second.call("sessions.subscribe", {})
        for run in runs:
            await send(nodes.first, run)
        events: list[dict[str, Any]] = []
        ends = 0
        while ends < len(runs):
            frame = await nodes.second.until(
                lambda: nodes.second.events.popleft() if nodes.second.events else None
            )
            if frame["event"] in ("agent", "chat"):
                events.append(frame)
                ends += frame["event"] == "chat" and frame["payload"]["state"] == "final"

        agent = [frame["payload"] for frame in events if frame["event"] == "agent"]
        assert [(one["runId"], one["seq"]) for one in agent] == [
            (run, number) for run in runs for number in (1, 2, 3, 4)
        ]
        finals = [
            frame["payload"]["runId"]
            for frame in events
            if frame["event"] == "chat" and frame["payload"]["state"] == "final"
        ]
        assert finals == runs


CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "patched": ("sessions.patch", {"key": "talk", "label": "a label"}),
    "reset": ("sessions.reset", {"key": "talk"}),
    "compacted": ("sessions.compact", {"key": "talk", "maxLines": 1}),
    "deleted": ("sessions.delete", {"key": "talk"}),
    "injected": ("chat.inject", {"sessionKey": "talk", "message": "By the way."}),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_of_a_session_at_one_node_is_sent_at_another_which_reads_it_anew(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider, change: str
) -> None:
    async with two(tmp_path, emptied_postgres, provider) as nodes:
        first, second = nodes.first, nodes.second
        await second.call("sessions.messages.subscribe", {"key": "talk"})
        await send(first, session="talk")
        await second.event("chat", state="final")
        seen_before = await second.call("chat.history", {"sessionKey": "talk"})

        await first.call(*CHANGES[change])

        event = await second.event("sessions.changed", change=change)
        assert event["payload"]["sessionKey"] == "agent:main:talk"
        if change == "injected":
            await second.event("session.message", sessionKey="agent:main:talk")
            sent = (await second.event("chat", stopReason="injected"))["payload"]
            assert sent["message"]["content"] == [{"type": "text", "text": "By the way."}]
        listed = (await second.call("sessions.list", {}))["sessions"]
        assert listed == (await first.call("sessions.list", {}))["sessions"]
        history = await second.call("chat.history", {"sessionKey": "talk"})
        assert (
            history["messages"]
            == (await first.call("chat.history", {"sessionKey": "talk"}))["messages"]
        )
        assert [row.get("label") for row in listed] == {
            "patched": ["a label"],
            "deleted": [],
        }.get(change, [None])
        kept = {"patched": 2, "reset": 0, "compacted": 0, "deleted": 0, "injected": 3}[change]
        assert (len(seen_before["messages"]), len(history["messages"])) == (2, kept)


@NODES
async def test_a_client_of_another_node_aborts_a_run(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider, roles: tuple[str, ...]
) -> None:
    provider.will(hang_after("Hel"))
    async with two(tmp_path, emptied_postgres, provider, roles) as nodes:
        first, second = nodes.first, nodes.second
        await second.call("sessions.subscribe", {})
        await send(first)
        await second.event("chat", state="delta")
        assert (await second.call("agent.wait", {"runId": "K", "timeoutMs": 0}))["status"] == (
            "timeout"
        )
        pending = await second.call("chat.history", {"sessionKey": "main"})
        assert [one["runId"] for one in pending["pendingInputs"]["items"]] == ["K"]
        waiting = second.send("agent.wait", {"runId": "K"})

        aborted = await second.call("chat.abort", {"sessionKey": "main"})

        assert aborted == {"ok": True, "aborted": True, "runIds": ["K"]}
        for peer in (first, second):
            assert (await peer.event("chat", runId="K", state="aborted"))["payload"]["message"][
                "content"
            ] == [{"type": "text", "text": "Hel"}]
        assert (await second.answer(waiting))["stopReason"] == "aborted"


async def test_a_client_goes_on_at_another_node_behind_the_last_event_that_it_has(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    async with two(tmp_path, emptied_postgres, provider) as nodes:
        await send(nodes.first)
        last = (await nodes.first.event("agent", stream="assistant"))["payload"]["seq"]
        await nodes.first.stop()

        await nodes.second.call("runs.follow", {"runId": "K", "afterSeq": last})
        gate.set()

        rest = await numbers_until_end(nodes.second, "K")
        assert [last, *rest] == [2, 3, 4]


async def test_a_repeated_message_at_another_node_is_the_same_run(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    async with two(tmp_path, emptied_postgres, provider) as nodes:
        await send(nodes.first)
        await nodes.first.event("chat", state="delta")
        assert await send(nodes.second) == {"runId": "K", "status": "in_flight"}
        await nodes.second.call("sessions.abort", {"runId": "K"})
        assert (await nodes.second.event("chat", runId="K"))["payload"]["state"] == "aborted"


def row_of(frames: list[dict[str, Any]], device: str) -> dict[str, Any] | None:
    """The entry of an instance in a presence list."""
    return next((row for row in frames if row.get("instanceId") == device), None)


async def presence_of(peer: Peer, instance: str, **having: Any) -> dict[str, Any]:
    """The entry of an instance once an event shows it with these values."""
    while True:
        row = row_of((await peer.event("presence"))["payload"]["presence"], instance)
        if row is not None and having.items() <= row.items():
            return row


def instance(name: str) -> dict[str, Any]:
    return {"id": "test", "version": "1", "platform": "x", "mode": "ui", "instanceId": name}


async def test_clients_of_one_node_are_listed_at_another_once(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    async with two(tmp_path, emptied_postgres, provider) as nodes:
        http = [node.client for node in nodes.nodes]
        async with connected(http[0], SECRET, client=instance("phone"), scopes=["operator.read"]):
            assert (await presence_of(nodes.second, "phone", reason="connect"))["mode"] == "ui"
            async with connected(http[1], SECRET, client=instance("phone")) as other:
                both = await presence_of(nodes.first, "phone", reason="connect")
                while "operator.admin" not in both["scopes"]:
                    both = await presence_of(nodes.first, "phone", reason="connect")
                for peer in (nodes.first, nodes.second, other):
                    listed = await peer.call("system-presence")
                    rows = [row for row in listed if row.get("instanceId") == "phone"]
                    assert [row["reason"] for row in rows] == ["connect"]
                    assert "operator.admin" in rows[0]["scopes"]
            row = await presence_of(nodes.first, "phone", scopes=["operator.read"])
            assert row["reason"] == "connect"
        await presence_of(nodes.second, "phone", reason="disconnect")


async def test_clients_of_a_node_that_is_gone_are_not_listed(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    async with two(tmp_path, emptied_postgres, provider) as nodes:
        first, second = nodes.nodes
        async with connected(first.client, SECRET, client=instance("phone")):
            await presence_of(nodes.second, "phone")
            with psycopg.connect(emptied_postgres) as connection:
                connection.execute(
                    "UPDATE presence SET seen_at = seen_at - 60 WHERE node = %s",
                    (first.container.bus().node_id,),
                )
            await second.container.control().look_at_other_nodes()
            assert row_of(await nodes.second.call("system-presence"), "phone") is None
            await first.container.control().look_at_other_nodes()
            await presence_of(nodes.second, "phone")


@pytest.mark.parametrize("method", ["health", "status"])
async def test_nodes_are_shown_with_their_configurations(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider, method: str
) -> None:
    async with two(tmp_path, emptied_postgres, provider, lease=1) as nodes:
        rows = (await nodes.second.call(method))["nodes"]
        assert [(row["name"], row["isSelf"]) for row in rows] == [("node0", False), ("node1", True)]
        assert [row["sameConfiguration"] for row in rows] == [True, True]

        path = nodes.nodes[0].config_path
        changed = {**json.loads(path.read_text()), "session": {"idleMinutes": 5}}
        nodes.nodes[0].configure(changed)
        while rows[0]["sameConfiguration"]:  # The node shows itself a few times a second.
            rows = (await nodes.second.call(method))["nodes"]
        assert [row["sameConfiguration"] for row in rows] == [False, True]


async def test_a_client_of_another_node_decides_what_a_run_waits_for(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    courier = Courier()
    parts = {"find_plugins": installed(courier=courier)}
    tools = {"allow": ["send"]}
    async with two(tmp_path, emptied_postgres, provider, parts=parts, tools=tools) as nodes:
        await nodes.second.call("sessions.subscribe", {})
        provider.will(calls(), answer("It is sent."))
        await send(nodes.first)
        requested = (await nodes.second.event("exec.approval.requested"))["payload"]

        await nodes.second.call(
            "exec.approval.resolve", {"id": requested["id"], "decision": "allow-once"}
        )

        resolved = (await nodes.first.event("exec.approval.resolved"))["payload"]
        assert (resolved["id"], resolved["decision"]) == (requested["id"], "allow-once")
        for peer in (nodes.first, nodes.second):
            final = (await peer.event("chat", runId="K", state="final"))["payload"]
            assert "It is sent." in final["message"]["content"][0]["text"]
        assert courier.sent == [ARGUMENTS]


async def test_runs_whose_announcement_was_lost_are_found_and_sent_once(
    emptied_postgres: str,
    tmp_path: Path,
    provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two(tmp_path, emptied_postgres, provider) as nodes:
        await nodes.second.call("sessions.messages.subscribe", {"key": "main"})
        control = nodes.nodes[1].container.control()
        await control.look_at_other_nodes()
        with monkeypatch.context() as lost:
            lost.setattr(nodes.nodes[0].container.bus(), "publish", lambda *_, **__: None)
            await send(nodes.first)
            await nodes.first.event("chat", runId="K", state="final")

        for _ in range(3):
            await control.look_at_other_nodes()

        await send(nodes.first, "L")
        assert await numbers_until_end(nodes.second, "K") == [1, 2, 3, 4]
        assert await numbers_until_end(nodes.second, "L") == [1, 2, 3, 4]


async def test_a_node_listens_to_the_runs_of_others_while_it_has_clients(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    def listens(served: Served) -> bool:
        return bells_of(served).hears("t_runs_begun")

    async with two(tmp_path, emptied_postgres, provider) as nodes:
        served = nodes.nodes[1]
        await nodes.second.stop()
        async with asyncio.timeout(PATIENCE):
            while len(served.container.control().hub):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        assert [listens(one) for one in nodes.nodes] == [True, False]

        await send(nodes.first)
        await nodes.first.event("chat", runId="K", state="final")
        async with (
            connected(served.client, SECRET) as other,
            connected(served.client, SECRET) as another,
        ):
            assert listens(served)
            for client in (other, another):
                await client.call("sessions.messages.subscribe", {"key": "main"})
            await send(nodes.first, "L")
            for client in (other, another):
                assert await numbers_until_end(client, "L") == [1, 2, 3, 4]
            # The run of the time without clients is nothing that these have missed.
            await served.container.control().look_at_other_nodes()
            await other.call("agents.list")
            assert not [e for e in other.events if e["payload"].get("runId") == "K"]


async def test_only_the_clients_of_a_node_that_stops_are_informed(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    async with two(tmp_path, emptied_postgres, provider) as nodes:
        nodes.nodes[0].container.control().begin_shutdown()
        await nodes.first.event("shutdown")
        await nodes.first.call("sessions.patch", {"key": "talk", "label": "later"})
        events: list[str] = []
        while not events or events[-1] != "sessions.changed":
            frame = await nodes.second.until(
                lambda: nodes.second.events.popleft() if nodes.second.events else None
            )
            events.append(frame["event"])
        assert "shutdown" not in events


async def test_the_client_library_follows_a_run_over_the_change_to_another_node(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    async with (
        two(tmp_path, emptied_postgres, provider, ("gateway", "gateway", "worker")) as nodes,
        Balancer() as balancer,
    ):
        balancer.target = urlsplit(nodes.nodes[0].url).port
        options = Options(
            url=f"ws://127.0.0.1:{balancer.port}", token=SECRET, mode="ui", backoff=QUICK
        )
        async with Client(options) as client:
            run = await client.run_agent("hi")
            events = run.events()
            seen = [await anext(events), await anext(events)]
            balancer.target = urlsplit(nodes.nodes[1].url).port
            balancer.cut()
            gate.set()
            seen += [event async for event in events]
            result = await run.result(PATIENCE)
        assert [event.seq for event in seen] == [1, 2, 3, 4]
        assert (result.status, result.text) == ("ok", "Hello!")


async def test_heartbeats_are_those_of_all_nodes(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    async with two(tmp_path, emptied_postgres, provider) as nodes:
        first, second = nodes.first, nodes.second
        assert await second.call("last-heartbeat") is None
        for peer, text in ((first, "one"), (second, "two")):
            await peer.call("wake", {"mode": "next-heartbeat", "text": text})

        woken = await second.call("wake", {"text": "look"})

        for peer in (first, second):
            event = (await peer.event("heartbeat"))["payload"]
            assert (event["runId"], event["status"]) == (woken["runId"], "sent")
            assert await peer.call("last-heartbeat") == event
        history = await first.call("chat.history", {"sessionKey": "main"})
        asked = history["messages"][0]["content"][0]["text"]
        assert asked == "System: one\nSystem: two\nSystem: look"

        await first.call("set-heartbeats", {"enabled": False})
        with pytest.raises(Refused, match="switched off"):
            await second.call("wake", {"text": "look"})
        await second.call("set-heartbeats", {"enabled": True})
        await first.call("wake", {"text": "look again"})


async def test_a_client_of_one_agent_gets_nothing_more_of_a_session_that_another_node_deleted(
    emptied_postgres: str,
    tmp_path: Path,
    provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two(tmp_path, emptied_postgres, provider) as nodes:
        created = await nodes.first.call("keys.create", {"name": "app", "agents": ["main"]})
        async with connected(
            nodes.nodes[1].client, created["key"], scopes=["operator.read", "operator.write"]
        ) as app:
            await send(app, "K", session="talk")
            own = (await app.event("chat", runId="K", state="final"))["payload"]["sessionKey"]
            with monkeypatch.context() as lost:
                lost.setattr(nodes.nodes[0].container.bus(), "publish", lambda *_, **__: None)
                await nodes.first.call("sessions.delete", {"key": own})
            await nodes.nodes[1].container.control().look_at_other_nodes()
            app.events.clear()

            await nodes.second.call("sessions.messages.subscribe", {"key": own})
            await send(nodes.first, "L", session=own)
            await nodes.second.event("chat", runId="L", state="final")

            await app.call("agents.list")
            assert not app.events


@NODES
async def test_messages_of_clients_of_two_nodes_to_one_session_are_answered_in_their_order(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider, roles: tuple[str, ...]
) -> None:
    gate = asyncio.Event()
    provider.will(answer("one", ".", gate=gate), answer("two"))
    async with two(tmp_path, emptied_postgres, provider, roles) as nodes:
        await send(nodes.first, "K")
        await nodes.first.event("chat", state="delta")
        await send(nodes.second, "L")
        gate.set()
        for peer in (nodes.first, nodes.second):
            for run, text in (("K", "one."), ("L", "two")):
                final = (await peer.event("chat", state="final"))["payload"]
                assert final["runId"] == run
                assert final["message"]["content"][0]["text"] == text
