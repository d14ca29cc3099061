"""What can be set for a Session, what is refused, and what it does to a Run."""

from __future__ import annotations

import pytest

from opensoul.domain.errors import InvalidRequest, SendBlocked
from opensoul.domain.models.directory import ModelDirectory
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.policy import SendPolicy, SendRule, check_send
from opensoul.domain.sessions.settings import Setting, applied_to, checked, thinking_level
from tests.fakes.domain import agent, target

KEY = SessionKey("main", "main")
CHILD = SessionKey("main", "subagent:one")
ONE, TWO = target("acme/one"), target("acme/two", reasoning=True)
MODELS = ModelDirectory([ONE, TWO], aliases={"second": "acme/two"})


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("thinkingLevel", "Max", "high"),
        ("thinkingLevel", "off", "off"),
        ("verboseLevel", "FULL", "full"),
        ("model", "second", "acme/two"),
        ("label", "  Trip  ", "Trip"),
        ("pinned", True, True),
        ("label", None, None),
    ],
)
def test_a_setting_is_kept_in_one_spelling(name: str, given: Setting, kept: Setting) -> None:
    assert checked(KEY, {name: given}, MODELS) == {name: kept}


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("thinkingLevel", "banana", "invalid thinkingLevel"),
        ("sendPolicy", "maybe", 'use "allow"|"deny"'),
        ("label", "x" * 65, "longer than 64"),
        ("label", "   ", "blank"),
        ("pinned", "yes", "true or false"),
        ("label", 7, "must be a text"),
        ("model", "acme/three", "model not allowed: acme/three"),
        ("spawnedBy", "agent:main:main", "only supported for subagent"),
        ("colour", "red", "no setting of a session"),
    ],
)
def test_what_is_no_setting_is_refused_by_name(name: str, given: Setting, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem) as refused:
        checked(KEY, {name: given}, MODELS)

    assert refused.value.param == name


def test_a_child_remembers_who_began_it() -> None:
    assert checked(CHILD, {"spawnedBy": "agent:main:main"}, MODELS)


def test_only_selectable_models_can_be_chosen() -> None:
    models = ModelDirectory([ONE, TWO], selectable=["acme/one"])

    assert models.choose("acme/one") is ONE
    with pytest.raises(InvalidRequest, match="not allowed"):
        models.choose("acme/two")


def test_models_are_listed_by_provider_and_name() -> None:
    listed = [t.ref for t in ModelDirectory([target("b/x"), target("a/z"), target("a/y")])]

    assert listed == ["a/y", "a/z", "b/x"]


def test_a_chosen_model_is_asked_first_and_the_others_stand_behind_it() -> None:
    chosen = applied_to(agent("main", ONE, TWO), {"model": "acme/two"}, MODELS)

    assert [t.ref for t in chosen.models] == ["acme/two", "acme/one"]


def test_a_chosen_model_that_is_gone_is_passed_over() -> None:
    before = agent("main", ONE)

    assert applied_to(before, {"model": "acme/gone"}, MODELS) is before


def test_thinking_is_asked_of_models_that_reason_and_of_no_others() -> None:
    first, second = applied_to(agent("main", ONE, TWO), {"thinkingLevel": "low"}, MODELS).models

    assert dict(first.params) == {}
    assert dict(second.params) == {"reasoning_effort": "low"}


def test_thinking_can_be_switched_off_against_a_configured_level() -> None:
    eager = target("acme/two", reasoning=True, params=(("reasoning_effort", "high"), ("top_p", 1)))

    (calm,) = applied_to(agent("main", eager), {"thinkingLevel": "off"}, MODELS).models

    assert dict(calm.params) == {"top_p": 1}


def test_levels_have_nicknames() -> None:
    assert thinking_level(" ULTRA ") == "high"


DENY_GROUPS = SendPolicy([SendRule(allow=False, channel="discord", chat_type="group")])


@pytest.mark.parametrize(
    ("rest", "policy", "own", "allowed"),
    [
        ("discord:group:dev", DENY_GROUPS, None, False),
        ("discord:group:dev", DENY_GROUPS, "allow", True),
        ("discord:dm:me", DENY_GROUPS, None, True),
        ("discord:dm:me", DENY_GROUPS, "deny", False),
        ("cron:job-1", SendPolicy([SendRule(allow=False, key_prefix="cron:")]), None, False),
        ("x", SendPolicy([SendRule(allow=False, key_prefix="agent:main:")]), None, False),
        ("x", SendPolicy([SendRule(allow=False, raw_key_prefix="Agent:main:")]), None, False),
        ("x", SendPolicy([SendRule(allow=False, raw_key_prefix="x")]), None, True),
        ("x", SendPolicy(default_allow=False), None, False),
        ("x", SendPolicy([SendRule(allow=True)], default_allow=False), None, True),
        ("x", SendPolicy([SendRule(allow=True), SendRule(allow=False)]), None, False),
        (
            "a:group:b:thread:c",
            SendPolicy([SendRule(allow=False, chat_type="thread")]),
            None,
            False,
        ),
        ("a:dm:b", SendPolicy([SendRule(allow=False, chat_type="direct")]), None, False),
    ],
)
def test_a_denying_rule_wins_and_the_sessions_own_word_wins_over_all(
    rest: str, policy: SendPolicy, own: object, allowed: bool
) -> None:
    key = SessionKey("main", rest)

    if allowed:
        check_send(key, policy, own)
    else:
        with pytest.raises(SendBlocked, match="send blocked by session policy"):
            check_send(key, policy, own)
