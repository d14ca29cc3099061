"""Keys without an effect: notes about them, and errors for misspelt ones."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from opensoul.adapters.config.read.keys import nearest
from opensoul.adapters.config.schema import INERT, StarPath

from .place import Place


@pytest.mark.parametrize(
    ("text", "path", "meant"),
    [
        ("{ gatewy: {} }", "gatewy", "gateway"),
        ("{ Gateway: {} }", "Gateway", "gateway"),
        ("{ agents: { default: {} } }", "agents.default", "defaults"),
        ("{ agents: { entrys: {} } }", "agents.entrys", "entries"),
        ("{ agents: { defaults: { max_concurrent: 1 } } }", "agents.defaults.max_concurrent",
         "maxConcurrent"),
        ("{ gateway: { prot: 1 } }", "gateway.prot", "port"),
        ("{ gateway: { trustedProxy: [] } }", "gateway.trustedProxy", "trustedProxies"),
        ("{ gateway: { http: { endpoints: { chatCompletion: {} } } } }",
         "gateway.http.endpoints.chatCompletion", "chatCompletions"),
        ("{ models: { providers: { p: { baseURL: 'http://h' } } } }",
         "models.providers.p.baseURL", "baseUrl"),
        ("{ models: { providers: { openai: { apikey: 'k' } } } }",
         "models.providers.openai.apikey", "apiKey"),
        ("{ session: { reset: { athour: 1 } } }", "session.reset.athour", "atHour"),
        ("{ secrets: { provider: {} } }", "secrets.provider", "providers"),
    ],
)  # fmt: skip
def test_a_key_that_is_close_to_one_with_an_effect_is_an_error(
    place: Place, text: str, path: str, meant: str
) -> None:
    by_path = {issue.path: issue.message for issue in place.issues(text)}
    assert f"did you mean `{meant}`?" in by_path[path]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{ gateway: { auth: { requireBadge: true } } }", "gateway.auth.requireBadge"),
        ("{ gateway: { tls: { requireClient: true } } }", "gateway.tls.requireClient"),
        ("{ gateway: { runs: { other: 1 } } }", "gateway.runs.other"),
        ("{ gateway: { shutdown: { zzz: 1 } } }", "gateway.shutdown.zzz"),
        ("{ session: { sendPolicy: { rules: [{ action: 'deny', match: { who: 'x' } }] } } }",
         "session.sendPolicy.rules.0.match.who"),
    ],
)  # fmt: skip
def test_every_unknown_key_of_our_own_sections_is_an_error(
    place: Place, text: str, path: str
) -> None:
    issue = place.issue(text)
    assert issue.path == path
    assert issue.message.startswith("there is no such key. Allowed here: ")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("{ someday: [] }", "someday is not known here and has no effect."),
        ("{ agents: { list: [{ id: 'main', zzz: 1 }] } }",
         "agents.list[].zzz is not known here and has no effect."),
        ("{ models: { providers: { openai: { models: "
         "  [{ id: 'gpt-5.2', compat: { zzz: 1 } }] } } } }",
         "models.providers.*.models[].compat.zzz is not known here and has no effect."),
        ("{ gateway: { 'a b': 1 } }", 'gateway["a b"] is not known here and has no effect.'),
    ],
)  # fmt: skip
def test_an_unknown_key_is_noted(place: Place, text: str, note: str) -> None:
    place.env["OPENAI_API_KEY"] = "k"
    assert place.load(text).settings.notes == (note,)


def test_a_key_without_effect_is_noted_and_its_value_is_not_checked(place: Place) -> None:
    place.env["OPENAI_API_KEY"] = "k"
    for path, row in INERT.items():
        notes = place.load(json.dumps(_nested(path, {"any": ["${UNSET}", None]}))).settings.notes
        name = ".".join(path).replace(".list.*", ".list[]").replace("*.models.*", "*.models[]")
        here = f": {row.note}" if row.note else " yet"
        assert notes == (() if row.silent else (f"{name} has no effect here{here}.",))


def _nested(path: StarPath, value: object) -> object:
    """A configuration with the value at that path."""
    elements = {"agents.list": {"id": "main"}, "models.providers.*.models": {"id": "gpt-5.2"}}
    for i in reversed(range(len(path))):
        above = ".".join(path[:i])
        if path[i] != "*":
            value = {path[i]: value}
        elif above in elements and isinstance(value, dict):
            value = [elements[above] | value]
        else:
            value = {_MEMBERS[above]: value}
    return value


_MEMBERS = {
    "agents.entries": "main",
    "agents.defaults.models": "openai/gpt-5.2",
    "models.providers": "openai",
}


def test_a_very_long_key_is_noted(place: Place) -> None:
    assert any("is not known here" in note for note in
               place.load(f"{{ gateway: {{ {'x' * 100_000}: 1 }} }}").settings.notes)  # fmt: skip


@pytest.mark.parametrize(
    ("word", "near"),
    [("port", "port"), ("prot", "port"), ("pot", "port"), ("sport", "port"), ("host", None),
     ("nodes", None), ("max-waiting", "maxWaiting"), ("maxWating", "maxWaiting")],
)  # fmt: skip
def test_what_counts_as_close(word: str, near: str | None) -> None:
    assert nearest(word, ["port", "mode", "maxWaiting"]) == near


@pytest.mark.parametrize("option", [True, False])
def test_the_mode_trusted_proxy_is_explained(place: Place, option: bool) -> None:
    if option:
        place.overrides = replace(place.overrides, auth_mode="trusted-proxy")
        issue = place.issue("{}")
    else:
        issue = place.issue(
            "{ gateway: { auth: { mode: 'trusted-proxy', trustedProxy: { userHeader: 'x' } } } }"
        )
    assert "the mode `trusted-proxy` is not available" in issue.message
    assert "gateway.trustedProxies" in issue.message


def test_a_session_may_never_start_over(place: Place) -> None:
    sessions = place.load(
        "{ session: { reset: { mode: 'none', idleMinutes: 5 },"
        "             resetByType: { direct: { mode: 'idle' } } } }"
    ).settings.sessions
    assert sessions.reset.mode == "none"
    assert sessions.reset.idle is None
    assert sessions.reset_by_type["dm"].mode == "idle"
