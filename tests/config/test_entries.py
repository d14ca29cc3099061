"""Agents by their ids, in `agents.entries`."""

from __future__ import annotations

import pytest

from opensoul.adapters.config import redacted

from .editable import editor
from .place import Place, agent, refs


def entries(text: str) -> str:
    return f"{{ agents: {{ entries: {text} }} }}"


def ids(place: Place, text: str) -> list[str]:
    return [one.id for one in place.load(text).settings.agents]


def test_agents_may_stand_by_their_ids(place: Place) -> None:
    place.env["OPENAI_API_KEY"] = "k"
    loaded = place.load(
        """{ agents: { ownership: "explicit", defaults: { timeoutSeconds: 60 }, entries: {
             main: {}, Ops: { name: "Operations", model: "openai/gpt-5-mini", timeoutSeconds: 5,
                              instructions: "Be brief.", workspace: "~/ops" } } },
             meta: { migrations: { modelPolicyAllowlist: true } } }"""
    )
    assert [one.id for one in loaded.settings.agents] == ["main", "ops"]
    ops = agent(loaded, "ops")
    assert (ops.name, ops.instructions, ops.timeout) == ("Operations", "Be brief.", 5.0)
    assert ops.workspace == str(place.home / "ops")
    assert refs(loaded, "ops") == ["openai/gpt-5-mini"]
    assert agent(loaded).timeout == 60.0
    assert loaded.settings.agents.default.id == "main"
    assert loaded.settings.notes == (
        "agents.ownership has no effect here: `agents.defaults.systemAgent` or the first does.",
    )
    assert redacted(loaded)["agents"]["entries"]["Ops"]["name"] == "Operations"


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("{ agents: { entries: { a: {}, b: { default: true } } } }", "b"),
        ("{ agents: { defaults: { systemAgent: { agentId: 'B' } }, entries: { a: {}, b: {} } } }",
         "b"),
        ("{ agents: { defaults: { systemAgent: { agentId: 'a' } },"
         "            entries: { a: {}, b: { default: true } } } }", "b"),
        ("{ agents: { defaults: { systemAgent: { agentId: 'b' } },"
         "            list: [{ id: 'a' }, { id: 'b' }] } }", "b"),
        ("{ agents: { defaults: { systemAgent: { agentId: 'main' } } } }", "main"),
        ("{ agents: { defaults: { systemAgent: {} }, entries: { a: {}, b: {} } } }", "a"),
    ],
)  # fmt: skip
def test_the_default_is_the_marked_one_the_systems_or_the_first(
    place: Place, text: str, default: str
) -> None:
    assert place.load(text).settings.agents.default.id == default


def test_a_list_beside_entries_does_not_count_and_is_noted(place: Place) -> None:
    text = "{ agents: { entries: { a: {} }, list: [{ id: 'b' }] } }"
    assert ids(place, text) == ["a"]
    assert "agents.list has no effect beside agents.entries." in place.load().settings.notes
    assert ids(place, "{ agents: { entries: {}, list: [{ id: 'b' }] } }") == ["b"]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (
            "{\n a: { model: 'opena/x' } }",
            "agents.entries.a.model",
            "did you mean `openai`",
        ),
        ("{\n 'a b': {} }", 'agents.entries["a b"]', "must begin with a letter or digit"),
        ("{ A: {},\n a: {} }", "agents.entries.a", "agents.entries.A has the same id"),
        ("{\n a: { id: 'b' } }", "agents.entries.a.id", "must be the key, `a`"),
        ("{\n a: 5 }", "agents.entries.a", "must be an object"),
        ("{\n a: { instructons: 'x' } }", "agents.entries.a.instructons", "mean `instructions`"),
        ("{\n a: { timeoutSeconds: 'x' } }", "agents.entries.a.timeoutSeconds", "a number"),
        ("{\n a: { workspace: '$HOME' } }", "agents.entries.a.workspace", "placeholder"),
        ("{\n a: { identity: { avatar: '/x' } } }", "agents.entries.a.identity.avatar", "a path"),
    ],
)
def test_what_is_wrong_with_an_entry_is_reported_with_its_place(
    place: Place, text: str, path: str, message: str
) -> None:
    issue = place.issue(entries(text))
    assert (issue.line, issue.path) == (2, path)
    assert message in issue.message


def test_a_systems_agent_that_is_not_there_is_an_error(place: Place) -> None:
    issue = place.issue(
        "{ agents: { defaults: { systemAgent: { agentId: 'mian' } }, entries: { main: {} } } }"
    )
    assert issue.path == "agents.defaults.systemAgent.agentId"
    assert issue.message == "there is no agent `mian`; did you mean `main`? Agents: main"


def test_entries_may_stand_in_an_included_file(place: Place) -> None:
    place.write("{ a: {}, b: { name: 'B' } }", "agents.json5")
    loaded = place.load("{ agents: { entries: { $include: 'agents.json5', c: {} } } }")
    assert [one.id for one in loaded.settings.agents] == ["a", "b", "c"]


def test_a_patch_changes_one_entry_and_leaves_the_others_alone(place: Place) -> None:
    place.write(
        "{\n  agents: { entries: {\n    a: {}, // first\n    b: { name: 'B' },\n  } },\n}\n"
    )
    file = editor(place)
    file.patch('{ agents: { entries: { b: { name: "Bea" } } } }', file.snapshot().hash)
    assert place.file.read_text() == (
        '{\n  agents: { entries: {\n    a: {}, // first\n    b: { name: "Bea" },\n  } },\n}\n'
    )
