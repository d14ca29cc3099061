"""What strict providers refuse is repaired before a conversation is sent."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.domain.messages import Image, Message, Reasoning, Role, Text, ToolCall
from opensoul.domain.sessions.repair import repaired
from tests.fakes.domain import assistant, system, user

EMPTY = assistant("")
THOUGHTS = Message(Role.ASSISTANT, (Reasoning("hm"), Text("")))
NO_PARTS = Message(Role.ASSISTANT, ())
PICTURE = Message(Role.USER, (Image("AA==", "image/png"),))


def call(*ids: str, text: str = "") -> Message:
    said = (Text(text),) if text else ()
    return Message(Role.ASSISTANT, (*said, *(ToolCall(one, "add", "{}") for one in ids)))


def result(call_id: str | None, text: str = "42") -> Message:
    return Message(Role.TOOL, (Text(text),), tool_call_id=call_id)


def both(one: str, other: str, role: Role = Role.USER) -> Message:
    return Message(role, (Text(one), Text(other)))


@pytest.mark.parametrize(
    "conversation",
    [
        (),
        (user("a"),),
        (user("a"), assistant("b"), user("c")),
        (assistant("a greeting"), user("a")),
        (user("a"), user("b"), assistant("c"), assistant("d")),
        (user("a"), Message(Role.ASSISTANT, (Reasoning("hm"), Text("b"))), user("c")),
        (user("a"), call("1", "2", text="so"), result("1"), result("2", ""), assistant("b")),
        (user("a"), call("0"), result("0"), call("0"), result("0"), user("b")),
        (user("a"), call("", ""), result(""), result(""), user("b")),
        (PICTURE, assistant("a cat")),
        (user("a"), assistant("b"), user("")),
        (user("a"), assistant("b"), result(None), result("1")),
        (user("a"), assistant("b"), result("1"), user("c")),
        (system(" "), user(""), user("a")),
    ],
)
def test_a_faultless_conversation_stays_as_it_is(conversation: tuple[Message, ...]) -> None:
    kept = repaired(conversation)

    assert [id(message) for message in kept] == [id(message) for message in conversation]


@pytest.mark.parametrize("empty", [EMPTY, THOUGHTS, NO_PARTS, assistant(" \n\t")])
def test_an_answer_without_text_is_left_out(empty: Message) -> None:
    before = (user("a"), assistant("b"), user("c"))

    assert repaired((*before, empty, user("d"))) == (*before[:2], both("c", "d"))
    assert repaired((user("a"), empty)) == (user("a"),)


@pytest.mark.parametrize(
    ("conversation", "sent"),
    [
        pytest.param(
            (user("a"), EMPTY, user("b"), EMPTY, user("c")),
            (Message(Role.USER, (Text("a"), Text("b"), Text("c"))),),
            id="several empty answers in a row",
        ),
        pytest.param(
            (user("a"), EMPTY, Message(Role.USER, (Text("b"),), name="bob")),
            (user("a"), Message(Role.USER, (Text("b"),), name="bob")),
            id="two people are not made one",
        ),
        pytest.param(
            (user("a"), EMPTY, assistant("b"), user("c")),
            (user("a"), assistant("b"), user("c")),
            id="an empty answer beside one with text",
        ),
        pytest.param(
            (user(""), assistant("what?"), user("b")), (user("b"),), id="an empty first question"
        ),
        pytest.param(
            (user("a"), assistant("b"), user(""), assistant("c"), user("d")),
            (user("a"), both("b", "c", Role.ASSISTANT), user("d")),
            id="an empty question in between",
        ),
        pytest.param(
            (user("a"), EMPTY, user("")),
            (Message(Role.USER, (Text("a"), Text(""))),),
            id="what is asked now stays, even if it is empty",
        ),
        pytest.param(
            (system(" "), user("a"), assistant("b")),
            (user("a"), assistant("b")),
            id="an empty system message",
        ),
        pytest.param((EMPTY,), (), id="nothing but an empty answer"),
        pytest.param(
            (user("a"), call("1", text="so"), user("b")),
            (user("a"), assistant("so"), user("b")),
            id="a call without a result keeps its text",
        ),
        pytest.param(
            (user("a"), call("1"), user("b")),
            (both("a", "b"),),
            id="a call without a result and without text",
        ),
        pytest.param(
            (user("a"), call("1", "2"), result("2"), assistant("b")),
            (user("a"), call("2"), result("2"), assistant("b")),
            id="one of two calls has no result",
        ),
        pytest.param(
            (user("a"), assistant("b"), result("1"), user("c"), assistant("d")),
            (user("a"), assistant("b"), user("c"), assistant("d")),
            id="a result without its call",
        ),
        pytest.param(
            (user("a"), result(None), user("b"), EMPTY),
            (both("a", "b"),),
            id="a result without an id",
        ),
        pytest.param(
            (user("a"), call("1"), result("1", "x"), result("1", "y"), assistant("b")),
            (user("a"), call("1"), result("1", "x"), assistant("b")),
            id="a second result of one call",
        ),
        pytest.param(
            (user("a"), call("1", "2"), result("2"), user("wait"), result("1"), user("b")),
            (user("a"), call("1", "2"), result("1"), result("2"), user("wait"), user("b")),
            id="a result that is separated from its call",
        ),
        pytest.param(
            (user("a"), call("0"), call("0"), result("0"), user("b")),
            (user("a"), call("0"), result("0"), user("b")),
            id="a result belongs to the nearest call of its id",
        ),
    ],
)
def test_what_strict_providers_refuse_is_repaired(
    conversation: tuple[Message, ...], sent: tuple[Message, ...]
) -> None:
    assert repaired(conversation) == sent


MESSAGES = st.lists(
    st.one_of(
        st.builds(user, st.sampled_from(["", "a", "b"])),
        st.builds(assistant, st.sampled_from(["", "a", " "])),
        st.builds(call, st.sampled_from("12"), text=st.sampled_from(["", "so"])),
        st.builds(result, st.sampled_from("12")),
    ),
    max_size=12,
)


@given(messages=MESSAGES)
def test_a_repaired_conversation_passes_a_strict_provider(messages: list[Message]) -> None:
    answers = [i for i, message in enumerate(messages) if message.role is Role.ASSISTANT]
    asked = messages[answers[-1] + 1 if answers else 0 :]

    sent = repaired(messages)

    assert repaired(sent) == sent
    open_calls: list[str] = []
    for message in sent:
        if any(message is one for one in asked) and not open_calls:
            continue
        if message.role is Role.TOOL:
            assert message.tool_call_id == open_calls.pop(0)
            continue
        assert open_calls == []
        open_calls = [part.id for part in message.parts if isinstance(part, ToolCall)]
        assert open_calls or message.text.strip()
    assert open_calls == []
    assert texts(sent) == texts(messages)


def texts(messages: Iterable[Message]) -> list[str]:
    """What users said."""
    parts = (part for one in messages if one.role is Role.USER for part in one.parts)
    return [part.text for part in parts if isinstance(part, Text) and part.text]
