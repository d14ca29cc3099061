"""Rules for tools, as configuration makes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from opensoul.domain.tools import (
    GROUPS,
    PROFILES,
    Ask,
    ExecRules,
    Names,
    Security,
    ToolPolicy,
    ToolRules,
    ToolSpec,
    Verdict,
    effective,
)

from .place import Place, agent, refs

WHOLE = """{
  profile: "coding", allow: ["Read", "group:fs"], alsoAllow: ["demo__*"], deny: ["exec"],
  ask: ["write"],
  byProvider: { "OpenAI/GPT": { profile: "minimal", allow: [], deny: ["edit"], ask: ["list"] } },
  exec: { security: "allowlist", ask: "on-miss", allowlist: ["git log *"] },
  subagents: { tools: { allow: ["read"], deny: [] } },
}"""
EXPECTED = ToolRules(
    profile="coding",
    allow=Names(("Read", "group:fs")),
    also_allow=Names(("demo__*",)),
    deny=Names(("exec",)),
    ask=Names(("write",)),
    by_provider={
        "openai/gpt": ToolRules(
            profile="minimal", allow=Names(), deny=Names(("edit",)), ask=Names(("list",))
        )
    },
    subagents=ToolRules(allow=Names(("read",)), deny=Names()),
    exec=ExecRules(Security.ALLOWLIST, Ask.ON_MISS, ("git log *",)),
)


def test_without_any_key_an_agent_has_no_tools(place: Place) -> None:
    policy = agent(place.load("{}")).tools

    assert policy == ToolPolicy()
    assert not policy.grants


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        (f"{{ tools: {WHOLE} }}", ToolPolicy(shared=EXPECTED)),
        (
            f'{{ agents: {{ list: [{{ id: "main", tools: {WHOLE} }}] }} }}',
            ToolPolicy(own=EXPECTED),
        ),
        (
            f"{{ agents: {{ entries: {{ main: {{ tools: {WHOLE} }} }} }} }}",
            ToolPolicy(own=EXPECTED),
        ),
        (
            """{ tools: { profile: "minimal" },
                 agents: { list: [{ id: "main", tools: { allow: [] } }, { id: "other" }] } }""",
            ToolPolicy(ToolRules(profile="minimal"), ToolRules(allow=Names())),
        ),
    ],
    ids=["shared", "an agent's", "an agent's in entries", "both"],
)
def test_every_key_becomes_a_rule(place: Place, text: str, policy: ToolPolicy) -> None:
    assert agent(place.load(text)).tools == policy


def test_the_rules_of_a_provider_apply_to_its_models(place: Place) -> None:
    loaded = place.load(
        """{ agents: { defaults: { model: { primary: "corp/Large", fallbacks: [] } } },
             models: { providers: { corp: { baseUrl: "http://127.0.0.1:9",
                                            models: [{ id: "Large" }] } } },
             tools: { profile: "full", byProvider: { CORP: { deny: ["exec"] },
                                                     "corp/large": { deny: ["read"] } } } }"""
    )
    tools = [ToolSpec(name, "") for name in ("exec", "read", "write")]
    found = effective(tools, agent(loaded).tools, models=refs(loaded))

    assert [one.verdict for one in found] == [Verdict.DENIED, Verdict.DENIED, Verdict.ALLOWED]


@pytest.mark.parametrize(
    ("tools", "path", "message"),
    [
        ("{ profile: 'code' }", "tools.profile", "coding"),
        ("{ allow: 'read' }", "tools.allow", "list"),
        ("{ allow: [''] }", "tools.allow.0", "empty"),
        ("{ alow: ['read'] }", "tools.alow", "did you mean `allow`?"),
        ("{ deny: ['read', 'group:runtme'] }", "tools.deny.1", "did you mean `group:runtime`?"),
        ("{ byProvider: { x: { ask: ['group:wbe'] } } }", "tools.byProvider.x.ask.0", "group:web"),
        ("{ exec: { security: 'none' } }", "tools.exec.security", "allowlist"),
        ("{ exec: { ask: 'never' } }", "tools.exec.ask", "on-miss"),
        ("{ exec: { allowlist: ['ls', 'ls; id'] } }", "tools.exec.allowlist.1", "';'"),
        ("{ exec: { allowlist: [' '] } }", "tools.exec.allowlist.0", "must name a program"),
        ("{ subagents: { tools: { deny: ['group:session'] } } }",
         "tools.subagents.tools.deny.0", "group:sessions"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(place: Place, tools: str, path: str, message: str) -> None:
    for text, prefix in (
        (f"{{ tools: {tools} }}", ""),
        (f"{{ agents: {{ list: [{{ id: 'main', tools: {tools} }}] }} }}", "agents.list.0."),
    ):
        issue = place.issue(text)
        assert issue.path == f"{prefix}{path}"
        assert message in issue.message


def test_an_agent_has_its_own_length_of_results(place: Place) -> None:
    loaded = place.load(
        """{ tools: { maxResultChars: 5000 },
             agents: { list: [{ id: "a" }, { id: "b", tools: { maxResultChars: 100 } }] } }"""
    )
    assert [one.max_result_chars for one in loaded.settings.agents] == [5_000, 100]
    assert agent(place.load("{}")).max_result_chars == 40_000


def policy_page() -> str:
    """The section about the policy in docs/tools.md."""
    page = (Path(__file__).parents[2] / "docs" / "tools.md").read_text("utf-8")
    return page.split("## Policy\n")[1].split("\n## ")[0]


def examples() -> list[str]:
    """Each example of a configuration there."""
    blocks = re.findall(r"```json5\n(.*?)```", policy_page(), re.DOTALL)
    parts = [part for block in blocks for part in re.split(r"^(?=\w)", block, flags=re.MULTILINE)]
    return [part for part in parts if part.strip()]


@pytest.mark.parametrize("example", examples())
def test_an_example_of_the_page_allows_tools(place: Place, example: str) -> None:
    loaded = place.load(f"{{ {example} }}")

    assert any(one.tools.grants for one in loaded.settings.agents)
    assert not any("tools" in note for note in loaded.settings.notes)


@pytest.mark.parametrize(
    ("names", "several"),
    [(GROUPS, "group:"), (PROFILES, "")],
    ids=["groups", "profiles"],
)
def test_the_page_describes_groups_and_profiles_as_they_are(
    names: Mapping[str, tuple[str, ...]], several: str
) -> None:
    rows = dict(re.findall(rf"^\| `({several}\w+)` \| (.*) \|$", policy_page(), re.MULTILINE))
    described = {name: re.findall(r"`([\w:]+)`", text) for name, text in rows.items()}

    assert {"group:fs", "group:sessions"} <= described.keys() or set(names) <= described.keys()
    for name in names.keys() & described.keys() - {"group:all"}:
        assert set(described[name]) <= set(names[name])


def test_a_group_of_a_later_release_is_noted(place: Place) -> None:
    loaded = place.load("{ tools: { allow: ['group:hologram', 'read'] } }")

    assert [note for note in loaded.settings.notes if "hologram" in note] == [
        "tools.allow names the group `group:hologram`, which has no tools here."
    ]
