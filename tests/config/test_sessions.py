"""Reset rules, the store, lanes and logging, as configuration makes them."""

from __future__ import annotations

import pytest

from opensoul.adapters.config import ConfigInvalid, Overrides
from opensoul.domain.sessions import BindSettings
from opensoul.domain.sessions.policy import ResetMode, ResetRule, SessionSettings
from opensoul.domain.settings import LaneSettings, LoggingSettings

from .place import Place

DAILY, IDLE = ResetMode.DAILY, ResetMode.IDLE


def sessions(place: Place, text: str) -> SessionSettings:
    return place.load(f"{{ session: {text} }}").settings.sessions


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{}", ResetRule(DAILY, 4, None)),
        ("{ reset: {} }", ResetRule(DAILY, 4, None)),
        ("{ reset: { atHour: 0 } }", ResetRule(DAILY, 0, None)),
        ("{ reset: { mode: 'daily', idleMinutes: 30 } }", ResetRule(DAILY, 4, 1800)),
        ("{ reset: { mode: 'idle' } }", ResetRule(IDLE, 4, 3600)),
        ("{ reset: { mode: 'idle', idleMinutes: 5 } }", ResetRule(IDLE, 4, 300)),
        ("{ idleMinutes: 10 }", ResetRule(IDLE, 4, 600)),
        ("{ reset: { mode: 'daily' }, idleMinutes: 10 }", ResetRule(DAILY, 4, 600)),
        ("{ reset: { idleMinutes: 5 }, idleMinutes: 10 }", ResetRule(DAILY, 4, 300)),
    ],
)
def test_the_general_rule(place: Place, text: str, rule: ResetRule) -> None:
    assert sessions(place, text).reset == rule


def test_kinds_and_channels_build_on_the_general_rule(place: Place) -> None:
    found = sessions(
        place,
        """{ reset: { atHour: 6, idleMinutes: 10 },
             resetByType: { dm: { mode: "idle" }, thread: { atHour: 0 } },
             resetByChannel: { OpenAI: { mode: "idle", idleMinutes: 1 } } }""",
    )
    assert found.reset_by_type == {
        "dm": ResetRule(IDLE, 6, 600),
        "thread": ResetRule(DAILY, 0, 600),
    }
    assert found.reset_by_channel == {"openai": ResetRule(IDLE, 6, 60)}


def test_sessions_of_stateless_requests_are_kept_a_week_unless_configured_otherwise(
    place: Place,
) -> None:
    assert sessions(place, "{}").one_off_retention == 7 * 86_400
    assert sessions(place, "{ oneOffRetentionDays: 0.5 }").one_off_retention == 43_200
    assert sessions(place, "{ oneOffRetentionDays: 0 }").one_off_retention is None


def test_what_binds_a_session_is_configured(place: Place) -> None:
    assert sessions(place, "{}").bind == BindSettings(
        ("x-openwebui-chat-id", "x-librechat-conversation-id"), True, ("temporary:", "local:")
    )
    text = "{ bind: { headers: ['X-A', 'x-a', 'X-B'], user: 'off', temporary: [] } }"
    assert sessions(place, text).bind == BindSettings(("x-a", "x-b"), False, ())
    assert sessions(place, "{ sideTaskPatterns: [] }").side_task_patterns == ()


@pytest.mark.parametrize(
    "text",
    [
        "{ bind: { headers: ['Authorization'] } }",
        "{ bind: { headers: ['x-api-key'] } }",
        "{ bind: { headers: ['two words'] } }",
        "{ bind: { headers: [''] } }",
        f"{{ bind: {{ headers: ['{'x' * 65}'] }} }}",
        "{ bind: { headers: 'X-A' } }",
        "{ bind: { user: 'on' } }",
        "{ bind: { temporary: [''] } }",
        "{ bind: { header: ['X-A'] } }",
        "{ sideTaskPatterns: [''] }",
    ],
)
def test_what_cannot_bind_a_session_is_refused(place: Place, text: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"session\.(bind|sideTaskPatterns)"):
        sessions(place, text)


def test_side_tasks_have_models_of_their_own_in_order(place: Place) -> None:
    models = "models: { providers: { a: { api: 'scripted', models: [{ id: 'm' }, { id: 'n' }] } } }"
    text = f"{{ {models}, agents: {{ defaults: {{ model: 'a/m', sideTaskModel: %s }} }} }}"
    for choice, refs in (
        ("'a/n'", ["a/n"]),
        ("{ primary: 'a/n', fallbacks: ['a/m', 'a/n'] }", ["a/n", "a/m"]),
        ("{}", []),
    ):
        agent = place.load(text % choice).settings.agents.default
        assert [target.ref for target in agent.side_task_models] == refs
        assert [target.ref for target in agent.models] == ["a/m"]
    with pytest.raises(ConfigInvalid, match=r"agents\.defaults\.sideTaskModel"):
        place.load(text % "'nowhere/m'")


def test_the_store_is_a_file_in_the_state_directory_or_memory(place: Place) -> None:
    store = place.load("{}").settings.store
    assert (store.memory, store.path) == (False, str(place.state / "opensoul.sqlite3"))
    assert place.load("{ session: { store: ':memory:' } }").settings.store.memory


def test_another_place_for_the_store_is_noted(place: Place) -> None:
    found = place.load("{ session: { store: '~/x/{agentId}.json' } }").settings
    assert found.store.path == str(place.state / "opensoul.sqlite3")
    assert any(note.startswith("session.store has no effect") for note in found.notes)


def test_lanes(place: Place) -> None:
    text = "{ agents: { defaults: { maxConcurrent: 4, maxWaiting: 0, maxQueued: 5 } } }"
    assert place.load(text).settings.lanes == LaneSettings(4, 0, 5)


def test_logging(place: Place) -> None:
    assert place.load("{}").settings.logging == LoggingSettings()
    found = place.load(
        """{ logging: { level: "warn", consoleLevel: "error", consoleStyle: "json",
                        file: "~/gateway.log", content: true } }"""
    ).settings.logging
    assert found == LoggingSettings(
        "warn", "error", "json", str(place.home / "gateway.log"), content=True
    )


@pytest.mark.parametrize(
    ("text", "level", "console"),
    [
        ("{}", "debug", None),
        ("{ level: 'trace' }", "trace", None),
        ("{ consoleLevel: 'error' }", "debug", "debug"),
        ("{ consoleLevel: 'trace' }", "debug", "trace"),
    ],
)
def test_verbose_lowers_the_levels(
    place: Place, text: str, level: str, console: str | None
) -> None:
    place.overrides = Overrides(verbose=True)
    found = place.load(f"{{ logging: {text} }}").settings.logging
    assert (found.level, found.console_level) == (level, console)
