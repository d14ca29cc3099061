"""What a resent conversation adds to a stored one."""

from __future__ import annotations

import pytest

from opensoul.domain.messages import Image, Message, Reasoning, Role, Text, ToolCall, text_message
from opensoul.domain.sessions import Added, answered_again, has_answer, reconciled, tidied, views_of
from opensoul.domain.tools import client_call_id
from tests.fakes.domain import assistant, user

Q0, A0, Q1, A1, Q2 = user("q0"), assistant("a0"), user("q1"), assistant("a1"), user("q2")
OURS = client_call_id("0192f0c1-2d3e-7abc-8def-0123456789ab", 1, 1)
OTHER = client_call_id("0192f0c1-2d3e-7abc-8def-0123456789ab", 2, 1)


def called(text: str, *calls: ToolCall) -> Message:
    return Message(Role.ASSISTANT, (*([Text(text)] if text else []), *calls))


def result(call_id: str | None, text: str = "42") -> Message:
    return Message(Role.TOOL, (Text(text),), tool_call_id=call_id)


def call(call_id: str, name: str = "weather", arguments: str = '{"city":"Bern"}') -> ToolCall:
    return ToolCall(call_id, name, arguments)


def added(stored: tuple[Message, ...], sent: tuple[Message, ...]) -> tuple[int, int, int]:
    """How many messages of the client are the question, and the history: start and end."""
    found = reconciled(tidied(sent), views_of(stored))
    assert found.question == tidied(sent)[len(tidied(sent)) - len(found.question) :]
    return len(found.question), found.start, found.through


STORED = (Q0, A0, Q1, A1)


@pytest.mark.parametrize(
    ("stored", "sent", "expected"),
    [
        pytest.param((), (Q0,), (1, 0, 0), id="nothing stored"),
        pytest.param(STORED, (*STORED, Q2), (1, 0, 4), id="the next question"),
        pytest.param(STORED, (*STORED, Q2, Q0), (2, 0, 4), id="two questions"),
        pytest.param(STORED, (*STORED, Q2, A0, Q2), (3, 0, 4), id="an exchange that is not stored"),
        pytest.param(STORED, (Q0, A0, Q1), (1, 0, 2), id="a regeneration"),
        pytest.param(STORED, (Q0,), (1, 0, 0), id="the first answer is regenerated"),
        pytest.param(STORED, (Q0, A0, Q2), (1, 0, 2), id="an edit"),
        pytest.param(STORED, (Q2,), (1, 0, 0), id="another conversation"),
        pytest.param(STORED, (Q0, A1, Q2), (2, 0, 1), id="an edited answer"),
        pytest.param(STORED, (Q1, A1, Q2), (1, 2, 4), id="a window"),
        pytest.param(STORED, (A1, Q2), (1, 3, 4), id="a window that begins with an answer"),
        pytest.param((*STORED, Q2, A0), (Q1, A1, Q0), (1, 2, 4), id="an edit in a window"),
        pytest.param((*STORED, Q2, A0), (Q1, A0, Q2), (3, 0, 0), id="one message is no window"),
        pytest.param(STORED, (Q0, A0, Q1, A1), (2, 0, 2), id="an answer to be continued"),
        pytest.param((Q0, Q0, A0), (Q0, A0, Q1), (1, 0, 3), id="a question was stored twice"),
        pytest.param((Q0, A0), (Q0, Q0, A0, Q1), (1, 0, 2), id="a question was sent twice"),
        pytest.param((*STORED, A0), (*STORED, Q2), (1, 0, 5), id="a note behind the answer"),
        pytest.param((Q0, A0, A1, Q1, A1), (Q0, A0, Q1, A1, Q2), (1, 0, 5), id="a note before"),
    ],
)
def test_where_two_conversations_differ(
    stored: tuple[Message, ...], sent: tuple[Message, ...], expected: tuple[int, int, int]
) -> None:
    assert added(stored, sent) == expected


def parts(*texts: str, role: Role = Role.USER) -> Message:
    return Message(role, tuple(map(Text, texts)))


PICTURE, OTHER_PICTURE = Image("aaaa", "image/png"), Image("bbbb", "image/png")


@pytest.mark.parametrize(
    ("stored", "sent", "same"),
    [
        (user(" a\n"), user("a"), True),
        (user("a\r\nb"), user("a\nb"), True),
        (user("a b"), user("ab"), False),
        (user("a"), user("A"), False),
        (parts("a", "b"), user("a\nb"), True),
        (parts("a", "b"), user("a b"), True),
        (user("ab"), parts("a", "b"), True),
        (parts("a"), user("a"), True),
        (Message(Role.USER, (Text("a"),), name="Ada"), user("a"), True),
        (Message(Role.USER, (Text("a"), PICTURE)), Message(Role.USER, (Text("a"), PICTURE)), True),
        (
            Message(Role.USER, (Text("a"), PICTURE)),
            Message(Role.USER, (Text("a"), OTHER_PICTURE)),
            False,
        ),
        (Message(Role.USER, (Text("a"), PICTURE)), user("a"), False),
        (assistant("a\n\n\nb"), assistant("a\n\nb"), True),
        (Message(Role.ASSISTANT, (Reasoning("hm"), Text("a"))), assistant("a"), True),
        (assistant("a"), Message(Role.ASSISTANT, (Reasoning("hm"), Text("a"))), True),
        (assistant("a"), user("a"), False),
        (assistant("a"), called("a", call("x")), False),
        (called("", call("x")), called("", call("x", arguments='{ "city": "Bern" }')), True),
        (called("", call("x")), called("", call("x", arguments='{"city": "Basel"}')), False),
        (called("", call("x")), called("", call("y")), False),
        (called("", call(OURS)), called("", call(OURS, arguments="")), True),
        (called("", call(OURS)), called("", call("function_call_1")), True),
        (called("", call(OURS)), called("", call("function_call_1", "other")), False),
        (called("", call(OURS)), called("", call(OTHER)), False),
    ],
)
def test_what_counts_as_the_same_message(stored: Message, sent: Message, same: bool) -> None:
    """As the first message, and behind others."""
    assert (added((stored, A0), (sent, A0, Q1))[2] == 2) is same
    assert (added((Q0, A0, stored, A1), (Q0, A0, sent, A1, Q1))[2] == 4) is same


STEPS = (
    Q0,
    called("I look.", call("own-1", "read")),
    result("own-1"),
    called("And there.", call("own-2", "read"), call(OURS)),
    result("own-2"),
    result(OURS, "sunny"),
    called("", call("own-3", "write")),
    result("own-3"),
    assistant("Done."),
)
BEFORE = (Q0, called("I look.\n\nAnd there.", call(OURS)))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ((*BEFORE, result(OURS, "sunny"), assistant("Done."), Q1), (1, 0, 9)),
        ((*BEFORE, result(OURS, "sunny")), (1, 0, 5)),
        ((*BEFORE, result(OURS, "rainy"), assistant("Done."), Q1), (3, 0, 5)),
        ((*BEFORE, result("function_call_1", "sunny"), assistant("Done."), Q1), (1, 0, 9)),
        ((Q0, called("I look.", call(OURS)), result(OURS, "sunny")), (2, 0, 1)),
        ((Q0, assistant("Done."), Q1), (2, 0, 1)),
        ((result(OURS, "sunny"), assistant("Done."), Q1), (1, 5, 9)),
        ((*STEPS, Q1), (1, 0, 9)),
    ],
)
def test_a_client_may_know_its_own_calls_only(
    sent: tuple[Message, ...], expected: tuple[int, int, int]
) -> None:
    assert added(STEPS, sent) == expected


ASKED = (Q0, called("", call("own-1", "read"), call(OURS), call(OTHER)), result("own-1"))


@pytest.mark.parametrize(
    ("behind", "sent", "expected"),
    [
        pytest.param((), (result(OURS), result(OTHER)), None, id="they were open"),
        pytest.param((), (result(OURS),), None, id="one of them"),
        pytest.param((result(OURS),), (result(OTHER),), None, id="the other one"),
        pytest.param((result(OURS), A0), (result(OURS),), (1, 3), id="again"),
        pytest.param((result(OURS), A0), (result(OURS, "43"),), (1, 3), id="another result"),
        pytest.param((result(OURS), A0), (result(OTHER),), (1, 4), id="a late one"),
        pytest.param((result(OURS), A0), (result(OTHER), result(OURS)), (2, 3), id="both"),
        pytest.param((result(OURS), result(OTHER), A0), (result(OTHER),), (1, 4), id="the second"),
        pytest.param((result(OURS),), (result(OURS),), (1, 3), id="again without an answer"),
        pytest.param((result(OURS), A0), (result(OURS), Q1), (1, 5), id="before a question"),
        pytest.param((result(OURS), A0), (result(OTHER), Q1), None, id="late, before a question"),
        pytest.param((result(OURS), A0, Q1, A1), (result(OURS),), None, id="behind a question"),
        pytest.param((A0,), (result("x"),), None, id="of another history"),
    ],
)
def test_results_that_are_sent_again(
    behind: tuple[Message, ...], sent: tuple[Message, ...], expected: tuple[int, int] | None
) -> None:
    found = answered_again(sent, views_of((*ASKED, *behind)))

    assert (None if found is None else (len(found.question), found.through)) == expected
    if found is not None:
        assert found == Added(sent[len(sent) - len(found.question) :], 0, found.through)


def test_calls_of_another_server_are_known_to_the_client() -> None:
    stored = (Q0, called("", call("x")), result("x"), A0)

    assert added(stored, (*stored, Q1)) == (1, 0, 4)
    assert added(stored, (Q0, A0, Q1)) == (1, 0, 4)
    assert added(stored, (*stored[:2], result("x", "43"), A0, Q1)) == (3, 0, 2)


FAILED_STEPS = (
    called("I look.", call("own-1", "read")),
    result("own-1"),
    assistant("[The run failed before it had an answer: no]"),
)


@pytest.mark.parametrize(
    ("behind", "sent", "expected"),
    [
        pytest.param((), (Q0, Q1), (1, 0, 4), id="the next question"),
        pytest.param((), (Q0, Q0, Q1), (1, 0, 4), id="after a second try"),
        pytest.param((), (Q0,), (1, 0, 0), id="the same question again"),
        pytest.param((), (Q0, Q0), (1, 0, 0), id="the same question twice"),
        pytest.param((), (Q1,), (1, 0, 0), id="in place of the question"),
        pytest.param((Q1, A1), (Q0, Q1, A1, Q2), (1, 0, 6), id="later"),
        pytest.param((Q1, A1), (Q0, Q1), (1, 0, 4), id="a regeneration later"),
        pytest.param((Q1, A1), (Q0, Q2), (1, 0, 4), id="an edit later"),
    ],
)
def test_what_was_done_without_an_answer_stays_in_the_history(
    behind: tuple[Message, ...], sent: tuple[Message, ...], expected: tuple[int, int, int]
) -> None:
    assert added((Q0, *FAILED_STEPS, *behind), sent) == expected


def test_empty_answers_are_no_messages() -> None:
    empty = [
        assistant(" "),
        Message(Role.ASSISTANT, (Reasoning("hm"),)),
        Message(Role.ASSISTANT, ()),
    ]

    assert tidied((Q0, *empty, Q0, A0, Q1, Q1, A1)) == (Q0, A0, Q1, A1)


def test_the_longest_window_counts() -> None:
    """A conversation of equal messages has as many places for a window as messages."""
    stored = views_of([user("a"), assistant("b")] * 20)
    sent = (*[assistant("b"), user("a")] * 20, assistant("c"), user("d"))

    assert reconciled(sent, stored) == Added(sent[39:], 1, 40)


@pytest.mark.parametrize(
    ("messages", "whole"),
    [((Q0,), False), ((Q0, Q1), False), ((Q0, A0), False), ((Q0, A0, Q1), True)],
)
def test_an_answer_before_the_question_makes_a_conversation_whole(
    messages: tuple[Message, ...], whole: bool
) -> None:
    assert has_answer(messages) is whole


def test_damaged_arguments_are_compared_as_they_are() -> None:
    stored = (Q0, called("", call("x", arguments="{")), A0)

    assert added(stored, (*stored, Q1)) == (1, 0, 3)
    assert added(stored, (Q0, called("", call("x", arguments="{}")), A0, Q1)) == (3, 0, 1)


def test_text_of_any_kind() -> None:
    odd = text_message(Role.USER, "\ud800 \x00 🙂")
    assert added((odd, A0), (odd, A0, Q1)) == (1, 0, 2)
