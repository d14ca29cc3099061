"""Runs whose clients resend the conversation, in an executor with a real store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.guard import Calls
from bench.hotpath import gateway
from opensoul.adapters.persistence.common import NoCatalog
from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.domain.access import Credential
from opensoul.domain.access.addresses import ClientAddress
from opensoul.domain.messages import Message, Role, Text, ToolCall
from opensoul.domain.ports import RunContext
from opensoul.domain.runs.events import Finished, RunnerEvent, Waiting
from opensoul.domain.runs.journal import Step, result_of
from opensoul.domain.runs.records import RunStatus
from opensoul.domain.runs.spec import RunRequest
from opensoul.domain.sessions import BoundBy, Transcript
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.settings import StoreSettings
from opensoul.domain.tools import ToolResult
from tests.domain.rig import Rig
from tests.fakes.domain import FakeRunner, answered, assistant, run, user

KEY = SessionKey("main", "talk")
CALL = ToolCall("a", "read", "{}")
STEP = Step(Message(Role.ASSISTANT, (Text("I look."), CALL)), (result_of(CALL, ToolResult("x")),))
TALK = (user("q0"), assistant("a0"), user("q1"), assistant("a1"))


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await store.open()
    return store


async def current(store: MemoryStore) -> list[str]:
    return [one.message.text for one in await store.messages(KEY, limit=100)]


def texts(transcript: Transcript) -> list[str]:
    return [message.text for message in transcript.messages]


class Pausing(FakeRunner):
    """Commits a step and waits; answers when the Run goes on."""

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        self.contexts.append(context)
        if context.spec.id == "pauses" and context.stored is None:
            await context.commit(context.journal.with_step(STEP))
            yield (Waiting("Approve?", "a1", 2_000.0),)
        else:
            yield (answered(),)


@pytest.mark.parametrize("is_branch", [True, False])
async def test_a_run_that_goes_on_later_has_the_same_history(
    store: MemoryStore, is_branch: bool
) -> None:
    rig = Rig(runner=Pausing(), store=store, catalog=store)  # type: ignore[arg-type]
    await rig.end_of(run("first", messages=TALK[:3]))
    await rig.end_of(run("second", messages=(*TALK[:2], TALK[2], assistant("hi"), user("q2"))))
    sent = (*TALK[:2], user("edited")) if is_branch else (user("q2"), assistant("hi"), user("q3"))
    expected = ["q0", "a0"] if is_branch else ["q2", "hi"]

    await rig.queue.enqueue(run("pauses", messages=sent))
    while rig.log.record("pauses").status is not RunStatus.WAITING:
        await rig.log.growth("pauses")
    await rig.end_of(run("meanwhile"))
    assert await rig.queue.resolve("pauses", "a1", "allow")
    assert isinstance(await rig.log.end_of("pauses"), Finished)

    one, again = (context for context in rig.runner.contexts if context.spec.id == "pauses")
    assert texts(one.transcript) == texts(again.transcript) == expected
    assert one.spec.messages == again.spec.messages == sent[-1:]
    assert one.archive is again.archive is None
    turn = await store.turn("pauses")
    assert turn is not None
    kept = await store.messages(KEY, limit=100, session_id=turn.session_id)
    whole = ["q0", "a0", "q1", "hi", "q2", "hi", "hello", "hi"]
    before = ["q0", "a0"] if is_branch else whole
    assert [one.message.text for one in kept] == [*before, sent[-1].text, "hi"]
    assert await current(store) == [one.message.text for one in kept]


async def test_a_conversation_by_its_header_is_whole_without_an_answer(store: MemoryStore) -> None:
    rig = Rig(store=store, catalog=store)  # type: ignore[arg-type]
    for number in range(2):
        await rig.end_of(run(f"key-{number}", messages=(user("q0"),)))
    assert await current(store) == ["q0", "hi", "q0", "hi"]

    for number in range(2):
        sent = run(f"header-{number}", messages=(user("q0"),), bound_by=BoundBy.CONVERSATION)
        await rig.end_of(sent)
    assert await current(store) == ["q0", "hi"]
    assert len(await store.transcripts(KEY, 9)) == 3


async def test_a_store_that_cannot_be_read_gets_what_follows_the_last_answer(
    store: MemoryStore,
) -> None:
    rig = Rig(runner=FakeRunner(answered(), budget=12), store=store, catalog=NoCatalog())  # type: ignore[arg-type]
    for number in range(3):
        await rig.end_of(run(f"run-{number}", messages=(user(f"q{number}"),)))
    await rig.end_of(run("whole", messages=(*TALK, user("next"))))

    assert (await current(store))[-2:] == ["next", "hi"]
    assert len(await store.transcripts(KEY, 9)) == 1


async def calls_of(served: Any, key: str | None, *messages: Message) -> int:
    who = await served.authenticate(Credential(ClientAddress("127.0.0.1"), b"guard-only"))
    with Calls() as calls:
        submitted = await served.submit(who, RunRequest(messages, session_key=key))
        async with served.follow(who, submitted) as events:
            async for _ in events:
                pass
    return calls.count


@pytest.mark.parametrize("is_durable", [True, False])
async def test_a_long_conversation_costs_little_more_than_a_plain_turn(
    tmp_path: Path, is_durable: bool
) -> None:
    """A plain turn of as many messages has no session: nothing is compared."""

    def conversation(end: str) -> list[Message]:
        said = [(user(f"q{i}"), assistant(f"a{i}")) for i in range(1_000)]
        return [*(message for pair in said for message in pair), user(end)]

    path = StoreSettings(path=str(tmp_path / "s.db")) if is_durable else StoreSettings(memory=True)
    async with gateway(path) as served:
        await calls_of(served, None, *conversation("warm"))
        plain = await calls_of(served, None, *conversation("plain"))
        await calls_of(served, "talk", *conversation("first"))
        answer = assistant("tok " * 50)
        said = [*conversation("first"), answer, user("second")]
        await calls_of(served, "talk", *said)
        goes_on = await calls_of(served, "talk", *said, answer, user("third"))
        branches = await calls_of(served, "talk", *conversation("edited"))
        again = await calls_of(served, "talk", *conversation("edited"), answer, user("fourth"))

    assert max(goes_on, branches, again) < 1.3 * plain
