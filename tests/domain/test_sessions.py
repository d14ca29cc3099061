"""Session keys, which session a request belongs to, and when a session starts over."""

from __future__ import annotations

import hashlib
import string
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opensoul.domain.agents import AgentDirectory
from opensoul.domain.errors import SessionKeyInvalid, UnknownAgent
from opensoul.domain.messages import Message, Role, text_message
from opensoul.domain.sessions.binding import (
    Binding,
    BindSettings,
    BoundBy,
    Conversation,
    bind,
    unstored,
)
from opensoul.domain.sessions.keys import MAX_KEY_BYTES, SessionKey, parse_key
from opensoul.domain.sessions.policy import (
    ResetMode,
    ResetRule,
    SessionSettings,
    is_stale,
    rule_for,
)
from tests.fakes.domain import agent, assistant, user

DIRECTORY = AgentDirectory([agent("main"), agent("beta")], "main")


# The grammar


@pytest.mark.parametrize(
    ("text", "expected", "named"),
    [
        ("talk", SessionKey("main", "talk"), False),
        ("  talk  ", SessionKey("main", "talk"), False),
        ("Talk:To:Me", SessionKey("main", "Talk:To:Me"), False),
        ("agent:beta:talk", SessionKey("beta", "talk"), True),
        ("AGENT:Beta:Talk", SessionKey("beta", "Talk"), True),
        ("agent:a_b-9:x:y", SessionKey("a_b-9", "x:y"), True),
        ("agent:beta:agent:main:x", SessionKey("beta", "agent:main:x"), True),
        ("agents:beta", SessionKey("main", "agents:beta"), False),
        ("subagents", SessionKey("main", "subagents"), False),
        ("grüße", SessionKey("main", "grüße"), False),
    ],
)
def test_a_key_is_read_in_its_canonical_form(text: str, expected: SessionKey, named: bool) -> None:
    assert parse_key(text, default_agent="main") == (expected, named)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("a\nb", "control characters"),
        ("a\x00", "control characters"),
        ("\ttalk", "control characters"),
        ("talk\r\n", "control characters"),
        ("a\x7fb", "control characters"),
        ("a\x85b", "control characters"),
        ("a\ud800b", "lone surrogates"),
        ("agent:beta", "does not have the form"),
        ("agent:", "does not have the form"),
        ("agent::x", "does not have the form"),
        ("agent:beta:", "does not have the form"),
        ("agent:beta:  ", "does not have the form"),
        ("agent:-beta:x", "does not have the form"),
        ("agent:be ta:x", "does not have the form"),
        (f"agent:{'b' * 65}:x", "does not have the form"),
        ("subagent:x", "reserved prefix"),
        ("cron:daily", "reserved prefix"),
        ("acp:1", "reserved prefix"),
        ("CRON:daily", "reserved prefix"),
        ("agent:beta:SubAgent:x", "reserved prefix"),
        ("agent:main: subagent:x", "reserved prefix"),
        ("agent:main:sub agent :x", "reserved prefix"),
        ("agent:main:\u2003cron:x", "reserved prefix"),
        ("agent:main:\u200bacp:x", "format characters"),
        ("agent:main:\u3164acp:x", "reserved prefix"),
        ("agent:main:sub\u00adagent:x", "format characters"),
        ("agent:main:c\u034fron:x", "reserved prefix"),
        ("agent:main:\uff53ubagent\uff1ax", "reserved prefix"),
        ("agent:main:\u017fubagent:x", "reserved prefix"),
        ("agent:main:\U0001d41c\u24e1on:x", "reserved prefix"),
        ("x" * 502, "longer than 512 bytes"),
        ("ü" * 251, "longer than 512 bytes"),
        (f"agent:main:{'x' * 502}", "longer than 512 bytes"),
    ],
)
def test_a_broken_key_is_refused_naming_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(SessionKeyInvalid, match=problem) as refused:
        parse_key(text, default_agent="main")

    assert refused.value.param == "session_key"


@pytest.mark.parametrize("text", ["x" * 501, f"agent:main:{'x' * 501}", "ü" * 250])
def test_a_key_may_be_as_long_as_its_canonical_form_allows(text: str) -> None:
    key, _ = parse_key(text, default_agent="main")

    assert len(str(key).encode()) <= MAX_KEY_BYTES


@given(
    text=st.text(max_size=600)
    | st.from_regex(r"(?i:agent):[a-zA-Z0-9_-]{1,70}:.{0,20}", fullmatch=True)
    | st.from_regex(r"(agent:|cron:|acp:|:|x| ){1,5}", fullmatch=True),
    default_agent=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True),
)
@example("x" * 512, "main")
@example("agent:main: cron:x", "main")
def test_what_a_key_is_told_as_reads_as_the_same_key(text: str, default_agent: str) -> None:
    try:
        key, _ = parse_key(text, default_agent=default_agent)
    except SessionKeyInvalid:
        return
    assert parse_key(str(key), default_agent="other") == (key, True)
    assert len(str(key).encode()) <= MAX_KEY_BYTES
    assert key.rest.strip()


# Which agent, which session


def bound(
    *,
    model: str = "",
    agent_id: str | None = None,
    session_key: str | None = None,
    user: str | None = None,
    **more: Any,
) -> Binding:
    return bind(
        DIRECTORY,
        model=model,
        agent_id=agent_id,
        session_key=session_key,
        user=user,
        source="openai",
        new_id="id-1",
        **more,
    )


def test_a_request_without_key_or_user_gets_a_session_of_its_own() -> None:
    binding = bound()

    assert str(binding.key) == "agent:main:openai:id-1"
    assert binding.agent.id == "main"
    assert binding.one_off


@pytest.mark.parametrize(
    ("model", "agent_id", "expected"),
    [
        ("opensoul", None, "main"),
        ("opensoul:beta", None, "beta"),
        ("", "beta", "beta"),
        ("opensoul:main", "beta", "beta"),
        ("opensoul:beta", "main", "main"),
        ("opensoul:beta", "", "beta"),
        ("", "", "main"),
    ],
)
def test_the_header_wins_over_the_model_and_both_over_the_default(
    model: str, agent_id: str | None, expected: str
) -> None:
    binding = bound(model=model, agent_id=agent_id)

    assert binding.agent.id == expected
    assert binding.key.agent_id == expected


def test_a_bare_key_belongs_to_the_agent_that_was_asked_for() -> None:
    assert str(bound(session_key="talk").key) == "agent:main:talk"
    assert str(bound(model="beta", session_key="talk").key) == "agent:beta:talk"
    assert str(bound(agent_id="beta", session_key="talk").key) == "agent:beta:talk"


def test_a_key_that_names_an_agent_chooses_it_when_nobody_else_does() -> None:
    binding = bound(model="opensoul", session_key="agent:beta:talk")

    assert binding.agent.id == "beta"
    assert str(binding.key) == "agent:beta:talk"
    assert not binding.one_off


def test_a_key_that_agrees_with_model_and_header_is_fine() -> None:
    assert bound(model="beta", session_key="agent:Beta:talk").agent.id == "beta"
    assert bound(agent_id="BETA", session_key="agent:beta:talk").agent.id == "beta"


@pytest.mark.parametrize(
    ("model", "agent_id", "source"),
    [
        ("opensoul:main", None, "model"),
        ("", "main", "agent_id"),
        ("opensoul:beta", "main", "agent_id"),
    ],
)
def test_a_key_that_contradicts_the_agent_is_refused_naming_both(
    model: str, agent_id: str | None, source: str
) -> None:
    with pytest.raises(
        SessionKeyInvalid, match=f"names the agent 'beta', but {source} asks for 'main'"
    ):
        bound(model=model, agent_id=agent_id, session_key="agent:beta:talk")


@pytest.mark.parametrize(
    ("model", "agent_id", "session_key", "param"),
    [
        ("gpt-4", None, None, "model"),
        ("", "nobody", None, "agent_id"),
        ("", None, "agent:nobody:talk", "session_key"),
    ],
)
def test_an_unknown_agent_is_refused_wherever_it_is_named(
    model: str, agent_id: str | None, session_key: str | None, param: str
) -> None:
    with pytest.raises(UnknownAgent) as refused:
        bound(model=model, agent_id=agent_id, session_key=session_key)

    assert refused.value.param == param


def test_an_empty_session_key_is_refused_rather_than_replaced() -> None:
    with pytest.raises(SessionKeyInvalid, match="is empty"):
        bound(session_key="", user="anna")


def test_a_key_wins_over_the_user() -> None:
    assert str(bound(session_key="talk", user="anna").key) == "agent:main:talk"


@pytest.mark.parametrize("name", ["Anna", "anna@example.org", "a b:c", "x" * 256])
def test_a_plain_user_makes_a_readable_lasting_key(name: str) -> None:
    binding = bound(user=name)

    assert str(binding.key) == f"agent:main:openai-user:{name}"
    assert not binding.one_off


@pytest.mark.parametrize("name", ["Änne", "a\nb", "a\x7f", "x" * 257, "\ud800"])
def test_any_other_user_is_hashed_and_stays_the_same(name: str) -> None:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()

    assert str(bound(user=name).key) == f"agent:main:openai-user:sha256-{digest}"
    assert bound(user=name) == bound(user=name)


@pytest.mark.parametrize("name", ["", "   "])
def test_an_empty_user_is_no_user(name: str) -> None:
    assert bound(user=name).one_off


@given(st.text(max_size=300).filter(str.strip))
def test_every_key_made_from_a_user_keeps_to_the_grammar(name: str) -> None:
    key = bound(model="beta", user=name).key

    assert parse_key(str(key), default_agent="main") == (key, True)


ANYTHING = st.text(st.characters(codec=None, categories=None), min_size=1, max_size=300)
NAMES = st.sampled_from(["a", "a:b", "b", "x%3Ab", ":", "-of:a:b", "sha256-b"]) | ANYTHING
HEADERS = st.sampled_from(["x-a", "x-b"])


@st.composite
def named(draw: st.DrawFn) -> tuple[tuple[object, ...], SessionKey]:
    """What a request names, and the key that is made of it."""
    namespace = draw(st.just("") | NAMES)
    if draw(st.booleans()):
        conversation = Conversation(draw(HEADERS), draw(NAMES).strip() or "a")
        return (namespace, conversation), bound(conversation=conversation, namespace=namespace).key
    name = draw(NAMES).strip() or "a"
    return (namespace, name), bound(user=name, namespace=namespace).key


@given(named(), named())
def test_different_names_make_different_keys(
    one: tuple[tuple[object, ...], SessionKey], other: tuple[tuple[object, ...], SessionKey]
) -> None:
    assert (one[0] == other[0]) == (one[1] == other[1])
    assert parse_key(str(one[1]), default_agent="beta") == (one[1], True)


@given(NAMES, NAMES, NAMES)
def test_a_principal_enters_its_own_namespace_alone(mine: str, theirs: str, name: str) -> None:
    for made in ({"user": name or "a"}, {"conversation": Conversation("x-a", name or "a")}):
        key = bound(namespace=mine, **made).key
        if key.rest.startswith("openai:"):  # The name was blank.
            continue
        assert bound(session_key=str(key), namespace=mine).key == key
        assert bound(session_key=str(key)).key == key
        if mine != theirs:
            with pytest.raises(SessionKeyInvalid, match="namespace of another principal"):
                bound(session_key=str(key), namespace=theirs)


@pytest.mark.parametrize("key", ["best-of:album", "trip", "openai-user:ann", "of:x"])
def test_other_keys_are_in_no_namespace(key: str) -> None:
    assert str(bound(session_key=key, namespace="grace").key) == f"agent:main:{key}"


def test_a_user_finds_no_session_where_that_is_switched_off() -> None:
    assert bound(user="ann").by is BoundBy.USER
    assert bound(user="ann", settings=BindSettings(user=False)).by is BoundBy.REQUEST


# What a resent conversation adds


CALL = Message(Role.ASSISTANT, ())
RESULT = text_message(Role.TOOL, "42")


@pytest.mark.parametrize(
    ("messages", "kept"),
    [
        ((user("1"),), 1),
        ((user("1"), user("2")), 2),
        ((user("1"), assistant("a"), user("2")), 1),
        ((user("1"), assistant("a"), user("2"), user("3")), 2),
        ((user("1"), assistant("a"), user("2"), assistant("b"), user("3")), 1),
        ((user("1"), CALL, RESULT), 1),
        ((user("1"), CALL, RESULT, RESULT), 2),
        ((assistant("a"), user("1")), 1),
        ((user("1"), assistant("a"), user("2"), assistant("{")), 2),
        ((user("1"), assistant("{")), 2),
    ],
)
def test_only_what_follows_the_last_answer_is_new(messages: tuple[Message, ...], kept: int) -> None:
    assert unstored(messages) == messages[len(messages) - kept :]


def test_without_a_question_only_what_follows_the_last_answer_is_new() -> None:
    assert unstored(()) == ()
    assert unstored((assistant("a"),)) == ()


# Starting over


@pytest.fixture
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC, which has no summer time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def stale(rule: ResetRule, updated: str, now: str) -> bool:
    key, settings = SessionKey("main", "talk"), SessionSettings(reset=rule)
    return is_stale(key, settings, updated_at=at(updated), now=at(now))


@pytest.mark.usefixtures("_utc")
@pytest.mark.parametrize(
    ("updated", "now", "expected"),
    [
        ("2026-03-10T03:59:59", "2026-03-10T04:00:00", True),
        ("2026-03-10T04:00:00", "2026-03-10T04:00:01", False),
        ("2026-03-10T04:00:00", "2026-03-11T03:59:59", False),
        ("2026-03-10T12:00:00", "2026-03-11T03:59:59", False),
        ("2026-03-10T12:00:00", "2026-03-11T04:00:00", True),
        ("2026-03-09T03:00:00", "2026-03-10T03:00:00", True),
        ("2026-03-09T05:00:00", "2026-03-10T03:00:00", False),
        ("2025-12-31T23:00:00", "2026-01-01T05:00:00", True),
    ],
)
def test_a_daily_session_starts_over_at_four_in_the_morning(
    updated: str, now: str, expected: bool
) -> None:
    assert stale(ResetRule(), updated, now) is expected


@pytest.mark.usefixtures("_utc")
def test_the_daily_hour_can_be_midnight() -> None:
    rule = ResetRule(at_hour=0)

    assert stale(rule, "2026-03-09T23:59:59", "2026-03-10T00:00:00")
    assert not stale(rule, "2026-03-10T00:00:00", "2026-03-10T23:59:59")


@pytest.mark.usefixtures("_utc")
def test_an_idle_session_starts_over_after_its_silence_only() -> None:
    rule = ResetRule(ResetMode.IDLE, idle=3_600.0)

    assert not stale(rule, "2026-03-10T03:30:00", "2026-03-10T04:30:00")
    assert stale(rule, "2026-03-10T03:30:00", "2026-03-10T04:30:01")
    assert not stale(ResetRule(ResetMode.IDLE), "2020-01-01T00:00:00", "2026-01-01T00:00:00")


@pytest.mark.usefixtures("_utc")
def test_daily_and_idle_together_count_whichever_comes_first() -> None:
    rule = ResetRule(idle=3_600.0)

    assert stale(rule, "2026-03-10T12:00:00", "2026-03-10T13:00:01")
    assert stale(rule, "2026-03-10T03:59:00", "2026-03-10T04:01:00")
    assert not stale(rule, "2026-03-10T12:00:00", "2026-03-10T13:00:00")


THREAD, GROUP, DIRECT, CHANNEL, GENERAL = (ResetRule(at_hour=hour) for hour in range(5))
BY_KIND = SessionSettings(
    reset=GENERAL,
    reset_by_type={"thread": THREAD, "group": GROUP, "dm": DIRECT},
    reset_by_channel={"discord": CHANNEL},
)


@pytest.mark.parametrize(
    ("rest", "rule"),
    [
        ("discord:group:1", CHANNEL),
        ("Discord:dm:1", CHANNEL),
        ("discord", DIRECT),
        ("telegram:group:1", GROUP),
        ("slack:channel:1", GROUP),
        ("slack:channel:1:thread:2", THREAD),
        ("telegram:group:1:topic:2", THREAD),
        ("telegram:dm:1", DIRECT),
        ("openai-user:thread", DIRECT),
        ("group", DIRECT),
        ("main", DIRECT),
    ],
)
def test_the_rule_for_the_channel_wins_then_that_for_the_kind(rest: str, rule: ResetRule) -> None:
    assert rule_for(SessionKey("main", rest), BY_KIND) is rule


def test_without_a_rule_for_its_kind_a_session_has_the_general_one() -> None:
    assert rule_for(SessionKey("main", "x:group:1"), SessionSettings(reset=GENERAL)) is GENERAL


def test_printable_characters_are_all_that_a_readable_user_has() -> None:
    for char in string.printable:
        readable = bound(user=f"x{char}x").key.rest == f"openai-user:x{char}x"
        assert readable == char.isprintable()


def test_a_user_that_is_named_like_a_digest_is_not_the_user_of_that_digest() -> None:
    victim = bound(user="J\u00fcrgen").key
    name = victim.rest.removeprefix("openai-user:")
    assert name.startswith("sha256-")
    for spelling in (name, f" {name} ", "sha256-", name[:-1]):
        digest = hashlib.sha256(spelling.encode()).hexdigest()
        assert bound(user=spelling).key.rest == f"openai-user:sha256-{digest}"


@pytest.mark.parametrize("key", ["sub-agent:x", "acpé:x", "x subagent:y", "subagents:x"])
def test_other_prefixes_are_free(key: str) -> None:
    assert bound(session_key=key).key.rest == key


@pytest.mark.parametrize(
    ("rest", "depth"),
    [
        ("main", 0),
        ("subagents", 0),
        ("x:subagent:a", 0),
        ("subagent:a", 1),
        ("subagent:a:b", 1),
        ("subagent:a:subagent:b", 2),
        ("subagent:a:subagent:b:subagent:", 3),
    ],
)
def test_a_key_says_how_deep_a_sub_agent_is_nested(rest: str, depth: int) -> None:
    assert SessionKey("main", rest).depth == depth


def test_the_key_of_a_sub_agent_is_made_of_that_of_its_parent() -> None:
    child = SessionKey("main", "talk").subagent("main", "a")
    grandchild = child.subagent("beta", "b")

    assert (child.rest, grandchild) == (
        "subagent:a",
        SessionKey("beta", "subagent:a:subagent:b"),
    )
