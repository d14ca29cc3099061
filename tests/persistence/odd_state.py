"""A state directory in SQLite with something of everything, odd texts and large messages
included."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opensoul.adapters.persistence.queue import Lanes, LocalQueue
from opensoul.adapters.persistence.sqlite.keys import KEYS_FILE, SqliteKeys
from opensoul.adapters.persistence.sqlite.runs import SqliteRunEvents
from opensoul.adapters.persistence.sqlite.sessions import (
    SqliteApprovals,
    SqliteResponses,
    SqliteStore,
)
from opensoul.adapters.system.files import DeviceFile
from opensoul.domain.access.devices import DeviceInfo, DeviceState, PairedDevice
from opensoul.domain.api_keys import ApiKey, KeyUsage
from opensoul.domain.messages import Image, Message, Role, Text, ToolCall
from opensoul.domain.models.calls import TextDelta, Usage
from opensoul.domain.ports import OpenTurn
from opensoul.domain.responses import Conversation, StoredResponse
from opensoul.domain.runs.events import Started, Waiting
from opensoul.domain.runs.journal import Step
from opensoul.domain.sessions import Span, Summary
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.settings import LaneSettings
from opensoul.domain.tools import Approval, Decision
from tests.fakes.domain import run

from .building import answer, make_turn, question
from .run_logs import END
from .workers import Hands

ODD = SessionKey("main", "odd \0 \ud800 Ärger")
BRANCHED = SessionKey("main", "branched")
COMPACTED = SessionKey("beta", "compacted")
ONE_OFF = SessionKey("main", "openai:once")
KEYS = (ODD, BRANCHED, COMPACTED, ONE_OFF)
PICTURE = Image(base64.b64encode(bytes(range(256)) * 300).decode(), "image/png")
CALL = ToolCall("call", "send", '{"to":"\ud800"}')
MEGABYTE = "x" * 1_000_000
TALK = "conv_\u00e4"


@dataclass
class State:
    """The stores of a directory, opened."""

    store: SqliteStore
    approvals: SqliteApprovals
    responses: SqliteResponses
    events: SqliteRunEvents
    keys: SqliteKeys
    devices: DeviceFile


@asynccontextmanager
async def opened_state(directory: Path) -> AsyncIterator[State]:
    store = SqliteStore(directory / "opensoul.sqlite3")
    events = SqliteRunEvents(directory / "runs.sqlite3", clock=time.time)
    keys = SqliteKeys(directory / KEYS_FILE)
    await store.open()
    await events.start()
    try:
        devices = DeviceFile(directory / "devices.json")
        yield State(store, SqliteApprovals(store), SqliteResponses(store), events, keys, devices)
    finally:
        await events.close()
        await keys.close()
        await store.close()


async def fill(directory: Path, *, more_sessions: int = 0) -> None:
    """`more_sessions`: plain ones, beside one of each kind."""
    async with opened_state(directory) as state:
        await _fill_sessions(state.store)
        await _fill_books(state)
        await _fill_runs(state.events)
        for number in range(more_sessions):
            key = SessionKey("main", f"plain-{number}")
            await state.store.append(make_turn(f"plain-{number}", key=key))


async def _fill_sessions(store: SqliteStore) -> None:
    usage = Usage(2**63 - 1, 4, 1, 2, True)
    odd = (
        question("NUL \0, half a pair \ud83d, a whole one \U0001f600"),
        Message(Role.ASSISTANT, (Text("I look."), CALL)),
        Message(Role.TOOL, (Text(MEGABYTE),), tool_call_id="call", is_error=True),
        answer("\udc00 done"),
    )
    await store.append(make_turn("odd \0 run \ud800", *odd, key=ODD, usage=usage, model="m/\ud801"))
    seen = Message(Role.USER, (Text("Look:"), PICTURE))
    await store.append(make_turn("picture", seen, answer("A picture."), key=ODD, usage=Usage(1, 2)))
    await store.patch(
        ODD, {"label": "Läbel \0 \ud800", "thinkingLevel": "high"}, at=2_000.0, new_id="n1"
    )
    await store.reset(ODD, at=2_500.0, new_id="second \ud800")
    await store.append(make_turn("after reset", key=ODD, session_id="second \ud800", at=3_000.0))
    for number in range(6):
        await store.append(make_turn(f"b{number}", key=BRANCHED, at=1_000.0 + number))
    branch = Span("first", 0, 4)
    await store.append(
        replace(make_turn("b-branch", key=BRANCHED, session_id="branch"), history=branch)
    )
    await store.patch(BRANCHED, {"spawnedBy": str(ODD)}, at=4_000.0, new_id="n2")
    for number in range(8):
        await store.append(make_turn(f"c{number}", key=COMPACTED, at=5_000.0 + number))
    summary = Summary("What was said: \ud800", 4, 100, "demo/parrot", 6_000.0)
    assert await store.put_summary(COMPACTED, "first", summary)
    await store.compact(COMPACTED, 6, at=6_100.0, new_id="compacted")
    await store.append(make_turn("once", key=ONE_OFF, one_off=True, at=time.time()))
    turn = OpenTurn(BRANCHED, "branch", "open", 7_000.0, (question("Wait \ud800"),), attempt=2)
    step = Step(Message(Role.ASSISTANT, (CALL,)), undecided=frozenset({"call"}))
    await store.append_step(turn, 1, step)
    await store.append_step(turn, 2, Step(answer("More.")))


async def _fill_books(state: State) -> None:
    now = time.time()
    pending = Approval("ap \ud800", "open", "operator", CALL, now, now + 9_000.0)
    await state.approvals.add(pending)
    await state.approvals.add(replace(pending, id="decided"))
    await state.approvals.decide("decided", Decision.ALLOW_ALWAYS, by="ann \0", at=now + 1)
    response = StoredResponse(
        id="resp_1",
        run_id="b0",
        principal_id="ann",
        agent_id="main",
        session_key=BRANCHED,
        created_at=10.0,
        body={"model": "opensoul", "temperature": 0.5, "text": "\ud800"},
        input=({"id": "msg_1", "content": "half a pair: \ud83d"},),
        turn_of="b0",
    )
    await state.responses.put(response)
    await state.responses.begin(
        Conversation(TALK, "ann", 5.0, {"topic": "\ud800"}), items("z", "a")
    )
    await state.responses.add(TALK, items("m"))
    await state.responses.put(
        replace(response, id="resp_2", conversation=TALK, settled=False, hidden=True)
    )
    await state.keys.save(ApiKey("key_1", "w\u00e9b", "d" * 64, 1.5))
    await state.keys.add_usage(
        [
            KeyUsage("key_1", day, 1, 2, 3, 4, 5, 0.1 + 0.2, 6)
            for day in ("2026-01-01", "2026-01-02")
        ]
    )
    device = PairedDevice("d1", "key", DeviceInfo("Phone \0"), {}, 1.0, 2.0)
    await state.devices.save(DeviceState({"d1": device}))


def items(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "type": "message", "content": f"{name} \ud800"} for name in names]


async def _fill_runs(events: SqliteRunEvents) -> None:
    queue = LocalQueue(rows=events, lanes=Lanes(LaneSettings), clock=time.time)
    hands = Hands()
    queue.serve("me", hands)
    for number in range(30):
        await queue.enqueue(run(f"ended-{number} \ud800", session_key=ODD), fingerprint="f \0")
        claim = hands.claims[-1]
        for piece in range(300 if number == 7 else 2):
            await events.append(claim, (TextDelta(f"{piece} \ud800"),))
        await queue.finish(claim, END)
    await queue.enqueue(run("open", session_key=BRANCHED), once=True)
    await events.append(hands.claims[-1], (TextDelta("I wait."),))
    await queue.wait(hands.claims[-1], Waiting("Approve?", "ap \ud800", 9e9), signals_read=0)
    for name in ("first", "second", "third"):
        await queue.enqueue(run(name, session_key=ODD), once=True)
    await events.append(hands.claims[-1], (Started(0.0, 0.0), TextDelta("I began.")))
