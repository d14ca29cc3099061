"""`opensoul agents tools`: each tool there is, with the rule that decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command import Home

RULES = """{
  agents: { list: [{ id: "main" }, { id: "clerk", tools: { alsoAllow: ["look_up_*"] } },
                   { id: "careful", tools: { allow: ["*"], ask: ["group:plugins"] } }] },
  tools: { byProvider: { local: { deny: ["*"] } } },
}"""


@pytest.fixture
def installed(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home in whose Python the example of a source of tools is installed."""
    package = home.path / "phone_book-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: phone-book\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[opensoul.tools]\nphone_book = examples.phone_book_tools:PhoneBook\n"
    )
    monkeypatch.syspath_prepend(str(home.path))
    home.configure(RULES)
    return home


@pytest.mark.parametrize(
    ("agent", "verdict", "rule"),
    [
        ("main", "denied", "no profile, allow or alsoAllow names it"),
        ("clerk", "allowed", "agents.list[].tools.alsoAllow: look_up_*"),
        ("CAREFUL", "ask", "agents.list[].tools.ask: group:plugins"),
    ],
)
def test_each_tool_is_listed_with_the_rule_that_decided(
    installed: Home, agent: str, verdict: str, rule: str
) -> None:
    shown = installed.opensoul("agents", "tools", agent)
    assert (shown.code, shown.err) == (0, "")
    heading, *lines = shown.out.splitlines()
    (line,) = [line for line in lines if line.startswith("look_up_extension")]

    assert heading.split() == ["TOOL", "SOURCE", "VERDICT", "RULE"]
    assert line.split(maxsplit=3) == ["look_up_extension", "phone_book", verdict, rule]


def test_programs_get_the_layer_and_the_key(installed: Home) -> None:
    shown = installed.opensoul("agents", "tools", "clerk", "--json").json

    assert shown["agent"] == "clerk"
    assert [tool for tool in shown["tools"] if tool["source"] == "phone_book"] == [
        {
            "name": "look_up_extension",
            "source": "phone_book",
            "verdict": "allowed",
            "layer": "profile",
            "key": "agents.list[].tools.alsoAllow",
            "entry": "look_up_*",
            "rule": "agents.list[].tools.alsoAllow: look_up_*",
            "model": None,
        }
    ]


def test_a_rule_for_one_of_several_models_is_shown_with_it(installed: Home) -> None:
    installed.configure(
        """{ agents: { defaults: { model: { primary: "openai/a", fallbacks: ["groq/b"] } } },
             tools: { profile: "full", byProvider: { groq: { deny: ["look_up_extension"] } } } }"""
    )
    shown = installed.opensoul("agents", "tools", "main")

    assert "tools.byProvider.groq.deny: look_up_extension (for groq/b)" in shown.out


def test_entries_that_name_no_tool_are_listed(installed: Home) -> None:
    installed.configure(
        """{ agents: { list: [{ id: "main", tools: { alsoAllow: ["look_*", "look_in"] } }] },
             tools: { profile: "minimal", deny: ["exce", "group:ui"],
                      byProvider: { openai: { ask: ["riet"] } } } }"""
    )
    shown = installed.opensoul("agents", "tools", "main")
    rows = installed.opensoul("agents", "tools", "main", "--json").json

    assert shown.out.splitlines()[-3:] == [
        "tools.deny: exce names no tool that there is.",
        "tools.byProvider.openai.ask: riet names no tool that there is.",
        "agents.list[].tools.alsoAllow: look_in names no tool that there is.",
    ]
    assert {"key": "tools.deny", "entry": "exce"} in rows["unmatched"]


def test_nothing_is_made_by_looking(installed: Home) -> None:
    before = files(installed.path)
    installed.opensoul("agents", "tools", "main")

    assert files(installed.path) == before


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)


def test_an_unknown_agent_is_named_with_those_there_are(installed: Home) -> None:
    shown = installed.opensoul("agents", "tools", "nobody", "--json")

    assert shown.code == 1
    assert shown.json_error["code"] == "unknown_agent"
    assert "careful, clerk, main" in shown.json_error["message"]


@pytest.mark.parametrize(
    ("scopes", "rule"),
    [
        ("operator.read", "missing scope: operator.write"),
        ("read, approvals", "missing scope: operator.write"),
        ("", "missing scope: operator.write"),
        ("operator.write", "agents.list[].tools.allow: *"),
        ("admin", "agents.list[].tools.allow: *"),
    ],
)
def test_the_tools_for_a_client_with_fewer_scopes(installed: Home, scopes: str, rule: str) -> None:
    shown = installed.opensoul("agents", "tools", "careful", "--scopes", scopes, "--json").json

    assert {tool["name"]: tool["rule"] for tool in shown["tools"]}["exec"] == rule


def test_an_unknown_scope_is_refused(installed: Home) -> None:
    shown = installed.opensoul("agents", "tools", "clerk", "--scopes", "operator.reed")

    assert shown.code == 1
    assert "there is no scope 'operator.reed'" in shown.err
