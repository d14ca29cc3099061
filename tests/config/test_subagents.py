"""Sub-agents and the sessions that tools reach, as configuration makes them."""

from __future__ import annotations

import pytest

from opensoul.domain.agents import SessionAccess, SubagentRules, Visibility

from .place import Place, agent

ALL = Visibility.ALL


def test_without_any_key_an_agent_starts_only_sub_agents_of_its_own(place: Place) -> None:
    loaded = place.load("{}")

    assert agent(loaded).subagents == SubagentRules(1, 5, None, ())
    assert agent(loaded).session_access == SessionAccess(Visibility.TREE, ())
    assert loaded.settings.lanes.max_subagents == 8
    assert loaded.settings.sessions.max_hops == 5


def test_each_key_of_an_agent_replaces_that_of_the_defaults(place: Place) -> None:
    loaded = place.load(
        """{ agents: {
             defaults: { subagents: {
               maxSpawnDepth: 2, maxChildrenPerAgent: 3, maxConcurrent: 4, allowAgents: ["*"],
               model: "openai/gpt-5-mini", thinking: "low", runTimeoutSeconds: 30 } },
             list: [{ id: "a" },
               { id: "b", subagents: { allowAgents: ["A"], runTimeoutSeconds: 0,
                                       model: { primary: "openai/gpt-5.2" } } }] },
             session: { agentToAgent: { maxPingPongTurns: 1 } } }"""
    )

    assert agent(loaded, "a").subagents == SubagentRules(
        2, 3, 30.0, ("*",), "openai/gpt-5-mini", "low"
    )
    assert agent(loaded, "b").subagents == SubagentRules(
        2, 3, None, ("a",), "openai/gpt-5.2", "low"
    )
    assert loaded.settings.lanes.max_subagents == 4
    assert loaded.settings.sessions.max_hops == 1
    assert loaded.settings.models.choose("openai/gpt-5-mini").ref == "openai/gpt-5-mini"


@pytest.mark.parametrize(
    ("shared", "own", "access"),
    [
        ("sessions: { visibility: 'all' }", "", SessionAccess(ALL, ())),
        ("sessions: { visibility: 'all' }", "sessions: { visibility: 'self' }",
         SessionAccess(Visibility.SELF, ())),
        ("sessions: { visibility: 'all' }, agentToAgent: { enabled: true }", "",
         SessionAccess(ALL, ("*",))),
        ("agentToAgent: { enabled: true, allow: ['Main', 'h*'] }", "",
         SessionAccess(Visibility.TREE, ("main", "h*"))),
        ("agentToAgent: { enabled: true }", "agentToAgent: { enabled: false }",
         SessionAccess(Visibility.TREE, ())),
        ("agentToAgent: { enabled: true }", "agentToAgent: { enabled: true, allow: [] }",
         SessionAccess(Visibility.TREE, ())),
        ("agentToAgent: { enabled: false, allow: ['*'] }", "",
         SessionAccess(Visibility.TREE, ())),
    ],
)  # fmt: skip
def test_the_sessions_that_tools_reach(
    place: Place, shared: str, own: str, access: SessionAccess
) -> None:
    loaded = place.load(
        f"{{ tools: {{ {shared} }}, agents: {{ list: [{{ id: 'main', tools: {{ {own} }} }}] }} }}"
    )

    assert agent(loaded).session_access == access


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{ agents: { defaults: { subagents: { maxSpawnDepth: 0 } } } }",
         "agents.defaults.subagents.maxSpawnDepth"),
        ("{ agents: { defaults: { subagents: { maxSpawnDepth: 6 } } } }",
         "agents.defaults.subagents.maxSpawnDepth"),
        ("{ agents: { defaults: { subagents: { model: 'nowhere/m' } } } }",
         "agents.defaults.subagents.model"),
        ("{ agents: { list: [{ id: 'a', subagents: { model: 'nowhere/m' } }] } }",
         "agents.list.0.subagents.model"),
        ("{ tools: { sessions: { visibility: 'world' } } }", "tools.sessions.visibility"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_an_error(place: Place, text: str, path: str) -> None:
    assert place.issue(text).path == path


def test_both_agents_have_to_match_a_pattern() -> None:
    access = SessionAccess(ALL, ("main", "help*"))

    assert access.connects("main", "helper")
    assert not access.connects("main", "other")
    assert not access.connects("other", "main")
    assert not SessionAccess(ALL).connects("main", "helper")
