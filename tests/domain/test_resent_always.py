"""Whatever a client does to its conversation, the model gets what the client sent, and the store
keeps everything that was said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.errors import RunFailed
from opensoul.domain.messages import Message, Role, Text, ToolCall, text_message
from opensoul.domain.runs.events import Failed
from opensoul.domain.sessions import BoundBy, Summary
from opensoul.domain.sessions.keys import SessionKey
from tests.domain.rig import Rig
from tests.examples import examples
from tests.fakes.domain import FakeIds, FakeRunner, answered, assistant, run, user

KEY = SessionKey("main", "talk")
Said = list[tuple[Role, str]]

_ENOUGH = 10_000

TEXTS = st.sampled_from(["a", "b", "new", "new", "new"])
"""`new` is another text each time."""
PLACES = st.integers(0, 6)
ACTIONS = st.one_of(
    st.tuples(st.just("append"), TEXTS),
    st.tuples(st.just("append"), TEXTS),
    st.tuples(st.just("edit"), PLACES, TEXTS),
    st.tuples(st.just("edit answer"), PLACES, TEXTS),
    st.tuples(st.just("regenerate"), PLACES),
    st.tuples(st.just("cut"), PLACES),
    st.tuples(st.just("delete"), PLACES),
    st.tuples(st.just("fail"), TEXTS),
    st.tuples(st.just("restart")),
    st.tuples(st.just("summarise"), PLACES),
)


@dataclass
class Client:
    """What a client believes: the messages that it has."""

    messages: list[Message] = field(default_factory=list)
    count: int = 0

    def text(self, text: str) -> str:
        self.count += 1
        return f"{text} {self.count}" if text == "new" else text

    def sent(self, action: tuple[Any, ...]) -> bool:
        """Change the messages; whether they are sent then."""
        match action:
            case ("append" | "fail", text):
                self.messages.append(user(self.text(text)))
            case ("edit", place, text):
                questions = [i for i, one in enumerate(self.messages) if one.role is Role.USER]
                del self.messages[_one_of(questions, place, 0) :]
                self.messages.append(user(self.text(text)))
            case ("edit answer", place, text):
                answers = [i for i, one in enumerate(self.messages) if one.role is Role.ASSISTANT]
                if not answers:
                    return False
                self.messages[_one_of(answers, place, 0)] = assistant(self.text(text))
                self.messages.append(user(self.text("new")))
            case ("regenerate", place):
                questions = [i for i, one in enumerate(self.messages) if one.role is Role.USER]
                if not questions:
                    return False
                del self.messages[_one_of(questions, place, 0) + 1 :]
            case ("cut", place):
                del self.messages[: min(place, max(0, len(self.messages) - 2))]
                self.messages.append(user(self.text("new")))
            case ("delete", place):
                questions = [i for i, one in enumerate(self.messages) if one.role is Role.USER]
                start = _one_of(questions, place, 0)
                del self.messages[start : start + 2]
                self.messages.append(user(self.text("new")))
            case _:
                return False
        return True


def _one_of(places: Sequence[int], number: int, default: int) -> int:
    return places[number % len(places)] if places else default


def view(messages: Sequence[Message]) -> Said:
    """What a client knows of messages: the steps of an answer are one text, and a question that was
    sent again is one."""
    said: Said = []
    before = None
    for message in messages:
        if message.role is Role.USER:
            if said[-1:] != [(Role.USER, message.text)]:
                said.append((Role.USER, message.text))
        elif message.role is Role.ASSISTANT:
            if said and before is Role.TOOL:
                message = assistant(f"{said.pop()[1]}\n\n{message.text}")
            said.append((Role.ASSISTANT, message.text))
        before = message.role
    return said


def asked(messages: Sequence[Message]) -> Said:
    """The same from the first question on."""
    said = view(messages)
    first = next((i for i, one in enumerate(said) if one[0] is Role.USER), len(said))
    return said[first:]


def ends_with(whole: Said, end: Said) -> bool:
    return not end or whole[-len(end) :] == end


STORES: dict[str, Callable[[str], Any]] = {
    "memory": lambda _: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(Path(folder) / "sessions.db"),
}


@pytest.mark.parametrize("kind", STORES)
@settings(max_examples=examples(60), deadline=None)
@given(actions=st.lists(ACTIONS, max_size=12), budget=st.sampled_from([40, _ENOUGH]))
def test_the_model_gets_what_the_client_sent(
    kind: str, actions: list[tuple[Any, ...]], budget: int
) -> None:
    async def check(folder: str) -> None:
        store: Any = STORES[kind](folder)
        await store.open()
        client, new_id = Client(), FakeIds()
        rig = _rig(store, budget, new_id)
        kept: dict[str, Said] = {}
        for number, action in enumerate(actions):
            if action[0] == "restart":
                if kind == "sqlite":
                    await store.close()
                    store = STORES[kind](folder)
                    await store.open()
                rig = _rig(store, budget, new_id)
            if action[0] == "summarise":
                await _summarise(store, action[1])
            if client.sent(action):
                await _turn(rig, client, number, fails=action[0] == "fail")
                _check_model(rig, client, budget, await _stored(store))
            before, kept = kept, await _transcripts(store)
            for session_id, messages in before.items():
                assert kept[session_id][: len(messages)] == messages
            if client.messages and client.messages[-1].role is Role.ASSISTANT:
                assert ends_with(view(await _stored(store)), view(client.messages))
        await store.close()

    with TemporaryDirectory() as folder:
        asyncio.run(check(folder))


def _rig(store: Any, budget: int, new_id: FakeIds) -> Rig:
    return Rig(runner=FakeRunner(budget=budget), store=store, catalog=store, new_id=new_id)


async def _turn(rig: Rig, client: Client, number: int, *, fails: bool) -> None:
    spec = run(f"run-{number}", messages=tuple(client.messages), bound_by=BoundBy.CONVERSATION)
    call = ToolCall(f"call-{number}", "read", "{}")
    result = Message(Role.TOOL, (Text("result"),), tool_call_id=call.id)
    steps = (Message(Role.ASSISTANT, (Text(f"look {number}"), call)), result)
    answer = (*(steps if number % 3 == 0 else ()), assistant(f"answer {number}"))
    rig.runner.script(spec.id, RunFailed("no") if fails else replace(answered(), messages=answer))
    end = await rig.end_of(spec)
    assert isinstance(end, Failed) is fails
    if not fails:
        client.messages.append(assistant("\n\n".join(text for _, text in view(answer))))


def _check_model(rig: Rig, client: Client, budget: int, stored: Sequence[Message]) -> None:
    spec, transcript = rig.runner.seen[-1]
    assert spec.messages
    sent = client.messages
    if sent[-1].role is Role.ASSISTANT:
        sent = sent[:-1]
    got = asked([*transcript.messages, *spec.messages])
    if transcript.summary is not None:
        replaced = view(stored[: transcript.summary.through])
        assert view(sent)[: len(replaced)] == replaced or not transcript.complete
        assert ends_with(asked(sent), got)
    elif budget == _ENOUGH:
        assert got == asked(sent)
    else:
        assert ends_with(asked(sent), got)


async def _summarise(store: Any, through: int) -> None:
    info = await store.find(KEY)
    if info is not None:
        messages = await _stored(store)
        places = [i for i, one in enumerate(messages) if i and one.role is Role.USER]
        if places:
            summary = Summary("so far", _one_of(places, through, 0))
            await store.put_summary(KEY, info.session_id, summary)


async def _stored(store: Any) -> list[Message]:
    return [one.message for one in await store.messages(KEY, limit=1_000)]


async def _transcripts(store: Any) -> dict[str, Said]:
    found = {}
    for one in await store.transcripts(KEY, 1_000):
        kept = await store.messages(KEY, limit=1_000, session_id=one.session_id)
        found[one.session_id] = [(m.message.role, m.message.text) for m in kept]
    return found


def test_the_view_of_a_client() -> None:
    said = [user("a"), user("a"), assistant("b"), text_message(Role.TOOL, "x"), assistant("c")]
    assert view(said) == [(Role.USER, "a"), (Role.ASSISTANT, "b\n\nc")]
