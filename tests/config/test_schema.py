"""What the schema refuses, how errors are reported, and what is accepted with a note."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opensoul.adapters.config import ConfigInvalid, Inputs, load
from opensoul.adapters.config.schema import INERT, Root
from opensoul.adapters.config.schema.walk import entries
from tests.examples import examples

from .place import Place


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("{ gateway: { port: 'x' } }", "gateway.port", "must be a whole number, not a string"),
        ("{ gateway: { port: true } }", "gateway.port", "must be a whole number, not true"),
        (
            "{ gateway: { port: 1.5 } }",
            "gateway.port",
            "must be a whole number, not one with a point",
        ),
        ("{ gateway: { port: 0 } }", "gateway.port", "must be at least 1"),
        ("{ gateway: { port: 70000 } }", "gateway.port", "must be at most 65535"),
        ("{ gateway: [] }", "gateway", "must be an object, not a list"),
        ("{ gateway: false }", "gateway", "must be an object, not false"),
        ("{ gateway: null }", "gateway", "must not be null; leave the key out for its default"),
        (
            "{ gateway: { auth: { token: null } } }",
            "gateway.auth.token",
            "must not be null; leave the key out for its default",
        ),
        (
            "{ gateway: { tls: { enabled: 'yes' } } }",
            "gateway.tls.enabled",
            "must be true or false, not a string",
        ),
        ("{ agents: { list: {} } }", "agents.list", "must be a list, not an object"),
        ("{ agents: { list: [null] } }", "agents.list.0", "must be an object, not null"),
        ("{ agents: { list: [{}] } }", "agents.list.0.id", "is missing; set it"),
        (
            "{ session: { oneOffRetentionDays: '7' } }",
            "session.oneOffRetentionDays",
            "must be a number, not a string",
        ),
        ("{ session: { oneOffRetentionDays: NaN } }", None, "must be a finite number"),
        (
            "{ models: { providers: { openai: { idleTimeoutSeconds: 0 } } } }",
            "models.providers.openai.idleTimeoutSeconds",
            "must be greater than 0",
        ),
        (
            "{ models: { providers: { openai: { maxAnswerBytes: 0 } } } }",
            "models.providers.openai.maxAnswerBytes",
            "must be at least 1",
        ),
        ("{ logging: { file: '' } }", "logging.file", "must not be empty"),
        ("{ agents: { defaults: { workspace: ' ' } } }", None, "must be a path"),
        ("{ models: { providers: { '': {} } } }", None, "the key must not be empty"),
        ('{ ui: { x: "\\ud83d" } }', None, None),
        ("{ agents: { list: [{ id: 'a', model: '' }] } }", None, "must not be empty"),
        ("{ gateway: { token: 'x' } }", "gateway.token", None),
    ],
)
def test_schema_errors_are_in_plain_words(
    place: Place, text: str, path: str | None, message: str | None
) -> None:
    issue = place.issue(text)
    assert path in (None, issue.path)
    assert message in (None, issue.message)


def test_half_a_character_is_no_text(place: Place) -> None:
    assert place.issue('{ ui: { x: "\\uD83D\\u0041" } }').path == ""


def test_an_unknown_key_is_reported_with_the_nearest_and_all_others(place: Place) -> None:
    issue = place.issue("{ gateway: {\n  auth: { Tokn: 'sesame' } } }")
    assert issue.line == 2
    assert issue.message == (
        "there is no such key; did you mean `token`? Allowed here: "
        "authenticators, keys, mode, password, rateLimit, token"
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{ gateway: { token: 'x' } }", "gateway.auth.token"),
        ("{ agent: {} }", "agents.defaults"),
        ("{ identity: {} }", "agents.list[].identity"),
        ("{ routing: {} }", "bindings"),
    ],
)
def test_keys_of_older_versions_are_reported_with_their_new_place(
    place: Place, text: str, hint: str
) -> None:
    assert hint in place.issue(text).message


def test_a_wrong_choice_is_reported_with_the_right_ones(place: Place) -> None:
    issue = place.issue("{ gateway: { bind: 'lann' } }")
    expected = "must be 'auto', 'lan', 'loopback', 'custom' or 'tailnet'; did you mean `lan`?"
    assert issue.message == expected


def test_values_from_variables_and_long_ones_are_not_repeated(place: Place) -> None:
    place.env["SESAME"] = "open-sesame"
    messages = place.messages(
        "{ gateway: { bind: '${SESAME}', auth: { mode: '" + "open-sesame" * 9 + "' } } }"
    )
    assert set(messages) == {"gateway.bind", "gateway.auth.mode"}
    assert "sesame" not in "".join(messages.values())


def test_no_secret_is_in_any_error(place: Place) -> None:
    place.env["SESAME"] = "sesame\n"
    issues = place.issues(
        """{ gateway: { auth: { token: "sesame ", password: "${SESAME}" }, token: "sesame" },
             models: { providers: {
               a: { baseUrl: "http://user:sesame@host", apiKey: "sesame\\t",
                    headers: { "X-Key": "sesame\\n" } },
               openai: { apiKey: 5 } } },
             hooks: { token: ["sesame"] }, env: { X: ["sesame"] } }"""
    )
    assert len(issues) == 8
    assert "sesame" not in "\n".join(map(str, issues))


def test_everything_wrong_is_reported_at_once_in_the_order_of_the_file(place: Place) -> None:
    issues = place.issues(
        """{
          gateway: { port: "x", trustedProxies: ["*", 5] },
          agents: { list: [
            { name: "no id" },
            { id: "ok", timeoutSeconds: "1", model: "opeani/gpt" },
            { id: "OK" },
            5,
            { id: "b c" },
          ] },
          gateway: { bind: 1 },
          session: { reset: { atHour: 24 } },
          sesion: true,
        }"""
    )
    assert [(issue.line, issue.path) for issue in issues] == [
        (4, "agents.list.0.id"),
        (5, "agents.list.1.timeoutSeconds"),
        (5, "agents.list.1.model"),
        (6, "agents.list.2.id"),
        (7, "agents.list.3"),
        (8, "agents.list.4.id"),
        (10, "gateway"),
        (10, "gateway.bind"),
        (11, "session.reset.atHour"),
        (12, "sesion"),
    ]
    assert place.tokens_made == []


def test_errors_are_rendered_one_to_a_line(place: Place) -> None:
    place.write("{\n agnts: 1,\n modles: 2 }")
    with pytest.raises(ConfigInvalid) as caught:
        place.load()
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"- {place.file}:2 agnts: there is no such key")
    assert second.startswith(f"- {place.file}:3 modles: there is no such key")


def test_odd_keys_are_quoted_and_made_printable_in_paths(place: Place) -> None:
    issue = place.issue('{ agents: { defaults: { models: { "a.b/c\\u0007": 5 } } } }')
    assert str(issue).startswith(
        f'- {place.file}:1 agents.defaults.models["a.b/c\\x07"]: must be an object'
    )


def test_keys_without_effect_are_noted_once_each(place: Place) -> None:
    place.env["OPENAI_API_KEY"] = "k"
    notes = place.load(
        """{ gateway: { mode: "remote" },
             agents: { list: [{ id: "a", groupChat: {} }, { id: "b", groupChat: {} }] } }"""
    ).settings.notes
    assert notes == (
        "agents.list[].groupChat has no effect here yet.",
        "gateway.mode `remote` has no effect: this machine serves.",
    )


def test_every_key_says_what_it_means_and_effects_are_marked_in_the_schema() -> None:
    for entry in entries(Root):
        assert entry.field.description, entry.path
    assert all(row.meaning for row in INERT.values())


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(
        [
            "${X}",
            "${x:-y}",
            "$X",
            "%XYZ%",
            "${",
            "<x>",
            "openai/x",
            ":memory:",
            "main",
            "a\0b",
            "~",
            "\ud800",
        ]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
PLACES = [*(entry.path for entry in entries(Root)), *INERT]
KEYS = sorted({name for path in PLACES for name in path if name != "*"})


def _json5(value: object) -> str:
    """`value` as JSON5: JSON, and NaN and the infinities."""
    return json.dumps(value).replace("\\ud800", "?")


def _plausible() -> st.SearchStrategy[object]:
    keys = st.sampled_from(KEYS) | st.just("$include") | st.text(max_size=3)
    return st.recursive(
        VALUES,
        lambda inner: st.dictionaries(keys, inner, max_size=5) | st.lists(inner, max_size=3),
        max_leaves=20,
    )


@given(value=_plausible())
@settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_json_value_gets_past_the_loader_but_as_settings_or_issues(
    tmp_path: Path, value: object
) -> None:
    _load_quietly(tmp_path, _json5(value))


@st.composite
def _mutilated(draw: st.DrawFn) -> dict[str, object]:
    """An object with real keys at their real places, and values that mostly do not belong."""
    root: dict[str, object] = {}
    for path in draw(st.lists(st.sampled_from(PLACES), max_size=6)):
        holder: object = root
        for i, key in enumerate(path):
            last = i == len(path) - 1
            after = "" if last else path[i + 1]
            holder = _step(holder, key, draw(VALUES) if last else {} if after != "*" else None)
    return root


def _step(holder: object, key: str, value: object) -> object:
    name = "openai" if key == "*" else key
    if isinstance(holder, list):
        holder.append(value if value is not None else {})
        return holder[-1]
    if isinstance(holder, dict):
        made = holder.setdefault(name, [] if value is None else value)
        return made
    return None


@given(value=_mutilated())
@settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_real_keys_with_unfitting_values_never_crash(
    tmp_path: Path, value: dict[str, object]
) -> None:
    _load_quietly(tmp_path, _json5(value))


@given(text=st.text(alphabet="{}[]:,'\"\\/* \n#aé1.5-+eINfty", max_size=40))
@settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_text_crashes_the_loader(tmp_path: Path, text: str) -> None:
    _load_quietly(tmp_path, text)


def _load_quietly(home: Path, text: str) -> None:
    file = home / "fuzz.json5"
    file.write_bytes(text.encode("utf-8", "replace"))
    env = {"OPENSOUL_CONFIG_PATH": str(file)}
    inputs = Inputs(env=env, home=home, generated_token=lambda _: "t", tailnet_address=lambda: None)
    try:
        loaded = load(inputs)
    except ConfigInvalid as invalid:
        text, count = str(invalid), len(invalid.issues)
    else:
        text, count = "", 0
        assert len(loaded.settings.agents) >= 1
    assert len(text.splitlines()) == count
