"""Where a history is cut for a summary, and what becomes of the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opensoul.domain.messages import Image, Message, Role, Text, ToolCall
from opensoul.domain.ports import Turn
from opensoul.domain.runs import Finished
from opensoul.domain.sessions import (
    Summary,
    cut_point,
    estimate_all,
    introduced,
    repaired,
    summary_requests,
)
from tests.domain.test_compaction import MAIN, TALK, World
from tests.examples import examples
from tests.fakes.domain import assistant, target, user
from tests.fakes.strict import fault


def calls(*ids: str, text: str = "") -> Message:
    parts = [ToolCall(call_id, "look", '{"at": "it"}') for call_id in ids]
    return Message(Role.ASSISTANT, (*([Text(text)] if text else []), *parts))


def result(call_id: str, text: str = "seen") -> Message:
    return Message(Role.TOOL, (Text(text),), name="look", tool_call_id=call_id)


STEPS = (user("q1"), assistant("a1"), user("q2"), calls("1", "2"), result("1"), result("2"))


@pytest.mark.parametrize(
    ("messages", "kept", "cut"),
    [
        ((), 0, 0),
        ((user("q"), assistant("a")), 2, 0),
        ((user("q1"), assistant("a1"), user("q2"), assistant("a2")), 3, 2),
        ((user("q1"), assistant("a1"), user("q2"), assistant("a2")), 2, 2),
        ((user("q1"), assistant("a1"), user("q2"), assistant("a2")), 1, 3),
        ((user("q1"), assistant("a1"), user("q2"), assistant("a2")), 0, 4),
        # A call stays with its results.
        ((*STEPS, assistant("a2")), 1, 6),
        ((*STEPS, assistant("a2")), 2, 6),
        ((*STEPS, assistant("a2")), 3, 6),
        ((*STEPS, assistant("a2")), 4, 3),
        ((*STEPS, assistant("a2")), 5, 2),
        # Results that may come with the next question.
        ((user("q1"), assistant("a1"), user("q2"), calls("1")), 0, 3),
        ((user("q1"), assistant("a1"), user("q2"), calls("1", "2"), result("1")), 1, 3),
        # Results that never come.
        ((user("q1"), calls("1"), user("q2"), assistant("a2")), 2, 2),
        # A result that is separated from its call.
        ((user("q1"), calls("1"), user("q2"), result("1"), assistant("a2")), 3, 4),
    ],
)
def test_the_newest_messages_stay_whole(messages: Sequence[Message], kept: int, cut: int) -> None:
    """`kept`: how many of the newest messages the budget is for."""
    keep = estimate_all(messages[len(messages) - kept :])

    assert cut_point(messages, keep) == cut


words = st.text("ab \n", min_size=1, max_size=60).map(lambda text: f"w{text}")
results = st.one_of(words, st.just("r" * 400))


@st.composite
def turns(draw: st.DrawFn) -> tuple[Message, ...]:
    """A turn as runs store them: a question, steps, an answer."""
    messages = [user(draw(words))]
    for step in range(draw(st.integers(0, 3))):
        ids = [f"{step}-{n}" for n in range(draw(st.integers(1, 3)))]
        messages.append(calls(*ids, text=draw(st.sampled_from(["", "I look."]))))
        messages += [result(call_id, draw(results)) for call_id in ids]
    return (*messages, assistant(draw(words)))


conversations = st.lists(turns(), min_size=1, max_size=8)


@given(conversations, st.integers(0, 400))
def test_a_compacted_history_is_accepted_by_strict_providers(
    said: list[tuple[Message, ...]], keep: int
) -> None:
    messages = [message for turn in said for message in turn]
    cut = cut_point(messages, keep)

    rest = introduced(Summary("They talked.", cut), (*messages[cut:], user("And now?")))
    assert fault(rest) is None
    assert repaired(rest) == rest  # Nothing has to be removed.
    if cut not in (0, len(messages)):
        assert messages[cut].role in (Role.USER, Role.ASSISTANT)
        assert estimate_all(messages[cut:]) <= keep
    if cut == 0:
        assert estimate_all(messages) <= keep or len(messages) == 1


@settings(max_examples=examples(20), deadline=None)
@given(conversations, st.integers(600, 2_000), st.integers(1, 4))
def test_every_request_of_a_long_conversation_is_accepted(
    said: list[tuple[Message, ...]], window: int, more: int
) -> None:
    """By the strict model, which refuses as too long what its window does not hold."""

    async def talk() -> None:
        small = target("acme/one", context_window=window, max_tokens=100)
        world = World(main=replace(MAIN, models=(small,)))
        world.model.window = window * 3 // 5
        await world.kept.open()
        for n, messages in enumerate(said * 3):
            await world.kept.append(Turn(TALK, "first", f"t{n}", world.clock(), messages))
        for n in range(more):
            end = await world.say(f"r{n}")
            assert isinstance(end, Finished), end
        await world.kept.close()

    asyncio.run(talk())


@given(conversations, st.integers(100, 400), words)
def test_the_parts_of_a_summary_hold_everything_once(
    said: list[tuple[Message, ...]], tokens: int, previous: str
) -> None:
    messages = [user(f"{n}: {turn[0].text}") for n, turn in enumerate(said)]

    parts = list(summary_requests(previous, messages, part_tokens=tokens))

    joined = "\n\n".join(parts)
    positions = [joined.index(f"[User] {n}: ") for n in range(len(said))]
    assert positions == sorted(positions)
    assert joined.count("[User] ") == len(said)


def test_a_summary_is_asked_of_readable_messages() -> None:
    shown = Message(Role.USER, (Text("Look:"), Image("AAAA", "image/png")))
    messages = (shown, calls("1", text="I look."), result("1", "r" * 5_000))

    (part,) = summary_requests("", messages, part_tokens=10_000)

    lines = part.split("\n")
    assert lines[:2] == ["[User] Look:", "[User shows an image]"]
    assert lines[3:5] == ["[Assistant] I look.", '[Assistant calls look] {"at": "it"}']
    assert "[Result of look] rrr" in part
    assert "[... 3000 characters are left out here ...]" in part


def test_a_summary_stands_before_an_answer_as_a_message_of_its_own() -> None:
    summary = Summary("They talked.", 3)

    first, second = introduced(summary, (assistant("a"),))

    assert (first.role, second) == (Role.USER, assistant("a"))
    (merged,) = introduced(summary, (user("q"),))
    assert merged.text == f"{first.text}\nq"
    assert introduced(summary, ()) == (first,)
