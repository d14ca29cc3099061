"""Keys that mean nothing here: which are noted, and which were meant to be another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opensoul.adapters.config.read.keys import nearest

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
        ("{ acp: { enabled: true } }", "acp has no effect here yet."),
        ("{ channels: null }", "channels has no effect here yet."),
        ("{ tools: 5 }", "tools has no effect here yet."),
        ("{ commands: { native: 'whatever' } }", "commands has no effect here yet."),
        ("{ someday: [] }", "someday is not known here and has no effect."),
        ("{ agents: { defaults: { subagents: { x: 1 } } } }",
         "agents.defaults.subagents has no effect here yet."),
        ("{ agents: { list: [{ id: 'main', zzz: 1 }] } }",
         "agents.list[].zzz is not known here and has no effect."),
        ("{ models: { providers: { openai: { models: "
         "  [{ id: 'gpt-5.2', compat: { zzz: 1 } }] } } } }",
         "models.providers.*.models[].compat.zzz is not known here and has no effect."),
        ("{ gateway: { 'a b': 1 } }", 'gateway["a b"] is not known here and has no effect.'),
        ("{ gateway: { auth: { rateLimit: { exemptLoopback: true } } } }",
         "gateway.auth.rateLimit.exemptLoopback has no effect here: they are always counted."),
        ("{ env: { shellEnv: { enabled: true } } }", "env.shellEnv has no effect here yet."),
    ],
)  # fmt: skip
def test_every_other_key_is_noted(place: Place, text: str, note: str) -> None:
    place.env["OPENAI_API_KEY"] = "k"
    assert place.load(text).settings.notes == (note,)


def test_a_key_about_the_file_itself_is_not_worth_a_note(place: Place) -> None:
    place.env["OPENAI_API_KEY"] = "k"
    assert place.load("{ $schema: 'x', meta: { anything: 1 } }").settings.notes == ()


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
