"""How much of the past a model call gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.domain.messages import Image, Message, Reasoning, Role, Text, ToolCall, text_message
from opensoul.domain.sessions.history import (
    Transcript,
    estimate,
    estimate_all,
    fitting,
    newest_that_fit,
)
from tests.fakes.domain import assistant, user

TALK = (user("one"), assistant("two"), user("three"), assistant("four"))


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        (user(""), 4),
        (user("abc"), 5),
        (user("abcd"), 6),
        (user("中"), 5),
        (user("\ud800"), 5),
        (Message(Role.ASSISTANT, (Reasoning("x" * 900), Text("abc"))), 5),
        (Message(Role.ASSISTANT, (ToolCall("1", "add", '{"a":1}'),)), 8),
        (Message(Role.TOOL, (Text("abc"),), tool_call_id="abc"), 6),
        (Message(Role.USER, (Text("abc"),), name="bob"), 6),
        (Message(Role.USER, (Text("abc"), Image("A" * 9_000, "image/png"))), 1_005),
    ],
)
def test_a_message_is_estimated_by_its_bytes(message: Message, tokens: int) -> None:
    assert estimate(message) == tokens


def test_estimates_add_up() -> None:
    assert estimate_all(TALK) == sum(estimate(message) for message in TALK)
    assert estimate_all(()) == 0


def test_everything_that_fits_is_kept() -> None:
    assert newest_that_fit(TALK, estimate_all(TALK)) == TALK


def test_what_is_kept_starts_with_a_users_message() -> None:
    budget = estimate_all(TALK)

    assert newest_that_fit(TALK, budget - 1) == TALK[2:]
    assert newest_that_fit(TALK, estimate_all(TALK[2:])) == TALK[2:]
    assert newest_that_fit(TALK, estimate_all(TALK[2:]) - 1) == ()


def test_a_tools_result_never_loses_the_call_before_it() -> None:
    call = Message(Role.ASSISTANT, (ToolCall("1", "add", "{}"),))
    result = text_message(Role.TOOL, "42")
    talk = (user("sum"), call, result, assistant("42"))

    assert newest_that_fit(talk, estimate_all(talk) - 1) == ()


@pytest.mark.parametrize("budget", [0, -5, 3])
def test_no_budget_no_history(budget: int) -> None:
    assert newest_that_fit(TALK, budget) == ()


MESSAGES = st.lists(
    st.builds(text_message, st.sampled_from([Role.USER, Role.ASSISTANT, Role.TOOL]), st.text())
)


@given(messages=MESSAGES, budget=st.integers(0, 60))
def test_what_is_kept_is_the_longest_end_that_fits_and_starts_with_a_user(
    messages: list[Message], budget: int
) -> None:
    ends = [tuple(messages[i:]) for i, m in enumerate(messages) if m.role is Role.USER]
    fitting = [end for end in ends if estimate_all(end) <= budget]

    assert newest_that_fit(messages, budget) == (fitting[0] if fitting else ())


def test_a_message_is_measured_once_and_stays_equal_to_one_that_was_not() -> None:
    measured, other = user("abc"), user("abc")

    assert estimate(measured) == estimate(measured)
    assert measured == other
    assert hash(measured) == hash(other)
    assert repr(measured) == repr(other)
    assert estimate(replace(measured, parts=(Text("abcdef"),))) == 6


@given(messages=MESSAGES, budget=st.integers(0, 60), known=st.booleans(), older=st.integers(0, 1))
def test_what_fits_of_a_transcript_is_what_fits_of_its_messages(
    messages: list[Message], budget: int, known: bool, older: int
) -> None:
    tokens = estimate_all(messages) if known else None
    told = Transcript(tuple(messages), complete=not older, tokens=tokens)

    fits = fitting(told, budget, len(messages) + older)

    kept = newest_that_fit(messages, budget)
    assert fits == Transcript(kept, complete=len(kept) == len(messages) + older)
    assert fits.tokens == estimate_all(kept)


def test_a_transcript_that_fits_whole_is_not_measured_again() -> None:
    told = Transcript(TALK, tokens=estimate_all(TALK))

    assert fitting(told, estimate_all(TALK), len(TALK)) is told
