"""Which texts of a configuration are placeholders, and what becomes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.domain.text.placeholders import Kind, literal, names_variable, replaced

VARIABLES = {"NAME": "value", "name": "low", "PLACEHOLDER": "${NAME} $NAME"}


def put_in(text: str, kind: Kind) -> tuple[str, list[str]]:
    """The text with its variables, and what in it is foreign."""
    foreign: list[str] = []
    return replaced(text, kind, lambda name, usual: VARIABLES.get(name, usual), foreign.append), (
        foreign
    )


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${NAME}", "value"),
        ("a ${NAME} b ${name}", "a value b low"),
        ("${NONE:-other}", "other"),
        ("${none:-https://h:1/a?b=c}", "https://h:1/a?b=c"),
        ("${NONE:-}", ""),
        ("${NAME:-other}", "value"),
        ("$${NAME}", "${NAME}"),
        ("$${env:NAME}", "${env:NAME}"),
        ("$$NAME", "$NAME"),
        ("$%NAME%", "%NAME%"),
        ("${PLACEHOLDER}", "${NAME} $NAME"),
        ("price: 5$ or $5", "price: 5$ or $5"),
        ("http://h/%C3%BCber/%E2%82%AC?a=100%", "http://h/%C3%BCber/%E2%82%AC?a=100%"),
        ("~/models/a-$1.gguf", "~/models/a-$1.gguf"),
        ("pa$$word", "pa$$word"),
        ("agents/{agentId}/x", "agents/{agentId}/x"),
    ],
)
def test_a_setting_has_its_variables_put_in(text: str, result: str) -> None:
    assert put_in(text, Kind.SETTING) == (result, [])


@pytest.mark.parametrize(
    "placeholder",
    [
        "${env:NAME}",
        "${env.NAME}",
        "${NAME:?needed}",
        "${NAME-x}",
        "${ NAME }",
        "${}",
        "${1}",
        "$NAME",
        "$name",
        "$env:NAME",
        "%NAME%",
        "{{NAME}}",
        "{{ env.NAME }}",
        "$(pass show key)",
    ],
)
def test_a_foreign_placeholder_is_found_wherever_it_was_meant_as_one(placeholder: str) -> None:
    for text in (placeholder, f"Bearer {placeholder}", f"http://{placeholder}/v1"):
        assert put_in(text, Kind.SETTING) == (text, [placeholder])
    assert put_in(placeholder, Kind.SECRET) == (placeholder, [placeholder])
    assert put_in(f"You say {placeholder}.", Kind.TEXT) == (f"You say {placeholder}.", [])


@pytest.mark.parametrize(
    "text",
    [
        *("<YOUR_API_KEY>", "<your key>", "env:NAME", "op://a/b/c", "__OPENCLAW_REDACTED__"),
        *("{env:NAME}", "{file:~/key}", "%(NAME)s", "secretref-env:NAME", "secretref-managed"),
        "file:/run/secrets/key",
    ],
)
def test_some_texts_are_a_placeholder_only_as_a_whole(text: str) -> None:
    for kind in (Kind.SECRET, Kind.SETTING):
        assert put_in(text, kind) == (text, [text])
        assert put_in(f"x{text}", kind) == (f"x{text}", [])


@pytest.mark.parametrize("text", ["${{ secrets.KEY }}", "${{KEY}}", "$ENV{KEY}"])
def test_the_dollar_of_a_foreign_placeholder_does_not_escape_it(text: str) -> None:
    assert put_in(text, Kind.SECRET) == (text, [text])


@pytest.mark.parametrize("text", ["a$NAMEb", "x %NAME% y", "$2b$10$abcdef", "100%", "p{{x}}", "$a"])
def test_a_secret_may_hold_any_characters(text: str) -> None:
    assert put_in(text, Kind.SECRET) == (text, [])


@pytest.mark.parametrize("text", ["${NONE:-${NAME}}", "x${", "${NAME"])
def test_a_brace_that_is_not_closed_is_foreign(text: str) -> None:
    assert put_in(text, Kind.SECRET)[1] == ["${"]


def test_a_text_for_people_has_capital_names_put_in_and_nothing_else() -> None:
    text = "${NAME} ${NONE:-there} ${name} ${name:-x} $NAME costs $5, 100% $(date) $${NAME} {{x}}"
    assert put_in(text, Kind.TEXT) == (
        "value there ${name} ${name:-x} $NAME costs $5, 100% $(date) ${NAME} {{x}}",
        [],
    )


@pytest.mark.parametrize("text", ["${NAME}", "a${name}", "${X:-y}", "$${A}${B}", "${A:-${B}}"])
def test_a_text_that_names_a_variable_is_known(text: str) -> None:
    assert names_variable(text)


@pytest.mark.parametrize("text", ["$${NAME}", "$${X:-y}", "$NAME", "${}", "${env:X}", "$$${X}"])
def test_a_text_that_names_none_is_known(text: str) -> None:
    assert not names_variable(text)


@given(
    st.text(alphabet="$%{}:-NAMEname _", max_size=20), st.sampled_from([Kind.TEXT, Kind.SETTING])
)
def test_a_text_that_is_written_as_literal_names_no_variable(text: str, kind: Kind) -> None:
    asked: list[str] = []

    def value_of(name: str, usual: str | None) -> str | None:
        asked.append(name)
        return usual

    written = literal(text, kind)
    result = replaced(written, kind, value_of, lambda _: None)
    assert asked == []
    if kind is Kind.TEXT:
        assert result == text
