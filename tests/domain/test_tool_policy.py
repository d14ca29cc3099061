"""The rules that decide which tools an agent may call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.domain.messages import ToolCall
from opensoul.domain.scopes import ALL_SCOPES, Scope
from opensoul.domain.tools import (
    BUILT_IN_SOURCE,
    GROUP_NAMES,
    MCP_SOURCE,
    PROFILES,
    Ask,
    Effect,
    ExecRules,
    Layer,
    Names,
    Ruling,
    Security,
    ToolPolicy,
    ToolRules,
    ToolSpec,
    Verdict,
    check_pattern,
    effective,
)

BUILT_IN = (
    *("read", "write", "edit", "list", "search", "exec", "web_fetch", "sessions_list"),
    *("sessions_spawn", "session_status", "memory_search", "memory_write"),
)
TOOLS = (
    *(ToolSpec(name, "", source=BUILT_IN_SOURCE) for name in BUILT_IN),
    ToolSpec("demo__getSum", "", source=MCP_SOURCE),
    ToolSpec("demo__echo", "", source=MCP_SOURCE),
    ToolSpec("look_up", "", source="phone_book"),
)
ALL = " ".join(tool.name for tool in TOOLS)
FILES = "read write edit list search"
SESSIONS = "sessions_list sessions_spawn session_status"
MEMORY = "memory_search memory_write"
CODING = f"{FILES} exec {SESSIONS} {MEMORY}"
MINIMAL = "session_status"


def rules(
    profile: str | None = None,
    *,
    allow: str | None = None,
    also: str = "",
    deny: str | None = None,
    ask: str = "",
    subagents: ToolRules | None = None,
    security: Security | None = None,
    exec_ask: Ask | None = None,
    listed: Sequence[str] | None = None,
    **by_provider: ToolRules,
) -> ToolRules:
    """One object of rules; lists are words, providers have `_` for `/`."""
    return ToolRules(
        profile=profile,
        allow=None if allow is None else Names(tuple(allow.split())),
        also_allow=Names(tuple(also.split())),
        deny=None if deny is None else Names(tuple(deny.split())),
        ask=Names(tuple(ask.split())),
        by_provider=MappingProxyType(
            {name.replace("_", "/"): found for name, found in by_provider.items()}
        ),
        subagents=subagents,
        exec=ExecRules(security, exec_ask, None if listed is None else tuple(listed)),
    )


NONE = rules()


def ruled(
    shared: ToolRules,
    own: ToolRules = NONE,
    *,
    models: Sequence[str] = ("openai/gpt",),
    depth: int = 0,
    max_depth: int = 1,
) -> dict[str, Ruling]:
    policy = ToolPolicy(shared, own)
    found = effective(TOOLS, policy, models=models, depth=depth, max_depth=max_depth)
    return {ruling.tool: ruling for ruling in found}


def of(verdict: Verdict, found: dict[str, Ruling]) -> list[str]:
    return [tool for tool, ruling in found.items() if ruling.verdict is verdict]


def in_order(names: str) -> list[str]:
    chosen = names.split()
    return [tool.name for tool in TOOLS if tool.name in chosen]


@pytest.mark.parametrize(
    ("shared", "own", "allowed"),
    [
        pytest.param(NONE, NONE, "", id="what nobody names is denied"),
        pytest.param(rules("minimal"), NONE, MINIMAL, id="profile minimal"),
        pytest.param(rules("coding"), NONE, CODING, id="profile coding"),
        pytest.param(
            rules("messaging"), NONE, "sessions_list session_status", id="profile messaging"
        ),
        pytest.param(rules("full"), NONE, ALL, id="profile full"),
        pytest.param(rules(allow="read"), NONE, "read", id="a name"),
        pytest.param(rules(allow="READ"), NONE, "read", id="case does not count in an entry"),
        pytest.param(rules(allow="demo__getsum"), NONE, "demo__getSum", id="nor in a tool's name"),
        pytest.param(rules(allow="bash"), NONE, "exec", id="an earlier name"),
        pytest.param(rules(allow="unknown"), NONE, "", id="an unknown name is not all"),
        pytest.param(rules(allow=""), NONE, "", id="an empty allow allows nothing"),
        pytest.param(rules("full", allow=""), NONE, "", id="also below a profile"),
        pytest.param(rules(allow="*"), NONE, ALL, id="a wildcard"),
        pytest.param(rules(allow="demo__*"), NONE, "demo__getSum demo__echo", id="a prefix"),
        pytest.param(rules(allow="*_search"), NONE, "memory_search", id="a suffix"),
        pytest.param(rules(allow="s*s_s*n"), NONE, "sessions_spawn", id="wildcards inside"),
        pytest.param(rules(allow="r[a-e]ad re?d rea."), NONE, "", id="only * is a wildcard"),
        pytest.param(rules(allow="group:fs"), NONE, FILES, id="group fs"),
        pytest.param(rules(allow="group:runtime"), NONE, "exec", id="group runtime"),
        pytest.param(rules(allow="group:web"), NONE, "web_fetch", id="group web"),
        pytest.param(rules(allow="group:sessions"), NONE, SESSIONS, id="group sessions"),
        pytest.param(rules(allow="group:memory"), NONE, MEMORY, id="group memory"),
        pytest.param(rules(allow="group:all"), NONE, ALL, id="group all"),
        pytest.param(rules(allow="group:opensoul"), NONE, " ".join(BUILT_IN), id="group opensoul"),
        pytest.param(rules(allow="group:mcp"), NONE, "demo__getSum demo__echo", id="group mcp"),
        pytest.param(rules(allow="group:plugins"), NONE, "look_up", id="group plugins"),
        pytest.param(rules(allow="group:nothing"), NONE, "", id="an unknown group"),
        pytest.param(rules(allow="exec"), NONE, "exec", id="exec implies no other tool"),
        pytest.param(rules(also="read"), NONE, "read", id="alsoAllow alone is no wildcard"),
        pytest.param(
            rules("minimal", also="read"), NONE, f"read {MINIMAL}", id="alsoAllow adds to a profile"
        ),
        pytest.param(rules(allow="read", also="write"), NONE, "read write", id="and to an allow"),
        pytest.param(rules("minimal", allow="read"), NONE, "", id="a profile and an allow"),
        pytest.param(rules("full", deny="exec"), NONE, ALL.replace(" exec", ""), id="deny"),
        pytest.param(rules(allow="exec", deny="exec"), NONE, "", id="deny over allow"),
        pytest.param(rules(also="exec", deny="*"), NONE, "", id="deny over alsoAllow"),
        pytest.param(rules("coding", deny="group:runtime"), NONE, CODING.replace(" exec", ""),
                     id="a group in deny"),
        pytest.param(rules(deny="exec"), NONE, "", id="deny alone allows nothing"),
        pytest.param(rules(ask="read"), NONE, "", id="ask alone allows nothing"),
        pytest.param(NONE, rules("minimal"), MINIMAL, id="an agent's profile"),
        pytest.param(rules("minimal"), rules("full"), ALL, id="it replaces the shared one"),
        pytest.param(rules("full"), rules("minimal"), MINIMAL, id="also by a smaller one"),
        pytest.param(
            rules("minimal"), rules(also="read"), f"read {MINIMAL}", id="an agent's alsoAllow"
        ),
        pytest.param(
            rules("full", also="read"), rules("minimal"), f"read {MINIMAL}",
            id="an agent's profile keeps the shared alsoAllow",
        ),
        pytest.param(rules(allow="read"), rules(allow="read exec"), "read", id="two allows"),
        pytest.param(rules(allow="read exec"), rules(allow="exec"), "exec", id="a smaller allow"),
        pytest.param(rules(allow="read"), rules(allow=""), "", id="an agent without any"),
        pytest.param(rules(allow="read"), rules(also="exec"), "read",
                     id="an agent's alsoAllow does not pass the shared allow"),
        pytest.param(rules(also="read exec"), rules(allow="read"), "read",
                     id="an agent's allow filters the shared alsoAllow"),
        pytest.param(rules(deny="exec"), rules("full"), ALL.replace(" exec", ""),
                     id="a shared deny over an agent's profile"),
        pytest.param(rules("minimal"), rules(deny="session_status"), "", id="an agent's deny"),
        pytest.param(
            rules("coding", openai=rules(allow="read")), NONE, "read", id="a provider's allow"
        ),
        pytest.param(rules("coding", openai=rules("minimal")), NONE, MINIMAL,
                     id="a provider's profile"),
        pytest.param(
            rules("coding", openai=rules("minimal", also="read")), NONE, f"read {MINIMAL}",
            id="a provider's profile with alsoAllow",
        ),
        pytest.param(
            rules("coding", openai=rules("minimal"), openai_gpt=rules("coding")), NONE, CODING,
            id="the profile of a model replaces its provider's",
        ),
        pytest.param(
            rules(allow="read exec", openai=rules(deny="exec"), openai_gpt=rules(allow="*")), NONE,
            "read", id="a provider's deny over its model's allow",
        ),
        pytest.param(rules("minimal", openai_gpt=rules(deny="*")), NONE, "", id="one model"),
        pytest.param(rules("minimal", other=rules(deny="*")), NONE, MINIMAL,
                     id="another provider's rules"),
        pytest.param(rules(openai=rules(allow="read")), NONE, "read",
                     id="a provider's allow alone"),
        pytest.param(rules("coding"), rules(openai=rules(allow="read")), "read",
                     id="an agent's rules by provider"),
        pytest.param(
            rules("coding", openai=rules("full")), rules(openai=rules("minimal")), MINIMAL,
            id="an agent's profile by provider replaces the shared one",
        ),
        pytest.param(rules(allow="exec", security=Security.DENY), NONE, "", id="exec.security"),
        pytest.param(
            rules(allow="exec", security=Security.DENY), rules(security=Security.FULL), "exec",
            id="an agent's exec.security replaces the shared one",
        ),
        pytest.param(rules(allow="exec", security=Security.ALLOWLIST), NONE, "exec",
                     id="exec.security allowlist offers the tool"),
    ],
)  # fmt: skip
def test_allowed_tools(shared: ToolRules, own: ToolRules, allowed: str) -> None:
    found = ruled(shared, own)

    assert of(Verdict.ALLOWED, found) == in_order(allowed)
    assert of(Verdict.ASK, found) == []


@pytest.mark.parametrize(
    ("shared", "own", "asking"),
    [
        pytest.param(rules("full", ask="write demo__*"), NONE, "write demo__getSum demo__echo",
                     id="names and patterns"),
        pytest.param(rules("full", ask="group:web"), NONE, "web_fetch", id="a group"),
        pytest.param(rules("full", ask="write"), rules(ask="exec"), "write exec", id="an agent's"),
        pytest.param(rules("full", openai=rules(ask="exec")), NONE, "exec", id="a provider's"),
        pytest.param(rules("full", ask="exec", deny="exec"), NONE, "", id="deny over ask"),
        pytest.param(rules("minimal", ask="*"), NONE, MINIMAL, id="ask allows nothing"),
        pytest.param(rules("full", exec_ask=Ask.ALWAYS), NONE, "exec", id="exec always"),
        pytest.param(rules("full", exec_ask=Ask.ON_MISS), NONE, "exec", id="exec on a miss"),
        pytest.param(rules("full", exec_ask=Ask.OFF), rules(exec_ask=Ask.ALWAYS), "exec",
                     id="an agent's exec.ask"),
        pytest.param(rules("full", exec_ask=Ask.ALWAYS), rules(exec_ask=Ask.OFF), "",
                     id="replaces the shared one"),
        pytest.param(rules("full", exec_ask=Ask.ALWAYS, security=Security.DENY), NONE, "",
                     id="exec.security deny over exec.ask"),
    ],
)  # fmt: skip
def test_tools_whose_calls_wait_for_approval(
    shared: ToolRules, own: ToolRules, asking: str
) -> None:
    assert of(Verdict.ASK, ruled(shared, own)) == in_order(asking)


@pytest.mark.parametrize(
    ("shared", "own", "tool", "layer", "text"),
    [
        (NONE, NONE, "read", Layer.DEFAULT, "no profile, allow or alsoAllow names it"),
        (rules("coding"), NONE, "read", Layer.PROFILE, "tools.profile: coding"),
        (rules("coding"), NONE, "look_up", Layer.PROFILE, "tools.profile does not name it"),
        (rules("coding", also="look*"), NONE, "look_up", Layer.PROFILE, "tools.alsoAllow: look*"),
        (rules("full", deny="Group:FS"), NONE, "read", Layer.GLOBAL, "tools.deny: Group:FS"),
        (rules(allow="exec"), NONE, "read", Layer.GLOBAL, "tools.allow does not name it"),
        (rules(allow="exec"), NONE, "exec", Layer.GLOBAL, "tools.allow: exec"),
        (rules("full", ask="write"), NONE, "write", Layer.GLOBAL, "tools.ask: write"),
        (NONE, rules("full"), "read", Layer.PROFILE, "agents.list[].tools.profile: full"),
        (rules("full"), rules(deny="read"), "read", Layer.AGENT, "agents.list[].tools.deny: read"),
        (
            rules("full", openai=rules("minimal")), NONE, "read", Layer.PROVIDER_PROFILE,
            "tools.byProvider.openai.profile does not name it",
        ),
        (
            rules("full", openai_gpt=rules(deny="read")), NONE, "read", Layer.PROVIDER,
            "tools.byProvider.openai/gpt.deny: read",
        ),
        (
            rules("full"), rules(openai=rules(allow="exec")), "read", Layer.AGENT_PROVIDER,
            "agents.list[].tools.byProvider.openai.allow does not name it",
        ),
        (
            rules("full", security=Security.DENY), NONE, "exec", Layer.GLOBAL,
            "tools.exec.security: deny",
        ),
        (
            rules("full"), rules(exec_ask=Ask.ON_MISS), "exec", Layer.AGENT,
            "agents.list[].tools.exec.ask: on-miss",
        ),
    ],
)  # fmt: skip
def test_a_ruling_names_the_rule_that_decided(
    shared: ToolRules, own: ToolRules, tool: str, layer: Layer, text: str
) -> None:
    rule = ruled(shared, own)[tool].rule

    assert (rule.layer, str(rule)) == (layer, text)


def test_a_tool_that_asks_by_itself_waits() -> None:
    policy = ToolPolicy(rules(allow="read"))
    (ruling,) = effective([ToolSpec("read", "", ask=True)], policy)

    assert (ruling.verdict, ruling.rule.layer) == (Verdict.ASK, Layer.TOOL)


def test_the_strictest_model_of_an_agent_decides_and_is_named() -> None:
    shared = rules("full", local=rules(deny="exec"), careful=rules(ask="write exec"))
    found = ruled(shared, models=["openai/gpt", "careful/m", "local/m"])

    assert of(Verdict.DENIED, found) == ["exec"]
    assert of(Verdict.ASK, found) == ["write"]
    assert (found["exec"].model, found["write"].model) == ("local/m", "careful/m")
    assert found["read"].model == ""


@pytest.mark.parametrize(
    ("shared", "own", "denied"),
    [
        pytest.param(rules("full"), NONE, f"{SESSIONS} {MEMORY}", id="by default"),
        pytest.param(
            rules("full", subagents=rules(deny="exec")), NONE, "exec sessions_spawn",
            id="a deny replaces that",
        ),
        pytest.param(
            rules("full"), rules(subagents=rules(deny="")), "sessions_spawn",
            id="also an empty one",
        ),
        pytest.param(
            rules("full", subagents=rules(deny="exec")), rules(subagents=rules(deny="read")),
            "exec read sessions_spawn", id="two denies",
        ),
        pytest.param(
            rules("full", subagents=rules(allow="read")), NONE, ALL.replace("read ", ""),
            id="an allow filters",
        ),
    ],
)  # fmt: skip
def test_a_sub_agent_has_fewer_tools(shared: ToolRules, own: ToolRules, denied: str) -> None:
    found = ruled(shared, own, depth=1)

    assert of(Verdict.DENIED, found) == in_order(denied)
    assert all(found[tool].rule.layer is Layer.SUBAGENT for tool in in_order(denied))


@pytest.mark.parametrize(
    ("shared", "depth", "denied"),
    [
        pytest.param(rules("full"), 1, MEMORY, id="by default"),
        pytest.param(rules("full"), 2, f"{SESSIONS} {MEMORY}", id="the deepest ones may not"),
        pytest.param(rules("full"), 3, f"{SESSIONS} {MEMORY}", id="nor what is deeper"),
        pytest.param(
            rules("full", subagents=rules(deny="exec")), 1, "exec", id="a deny replaces that"
        ),
        pytest.param(
            rules("full", subagents=rules(deny="")), 2, "sessions_spawn", id="at no depth too many"
        ),
    ],
)
def test_a_sub_agent_may_start_others_above_the_maximum_depth(
    shared: ToolRules, depth: int, denied: str
) -> None:
    found = ruled(shared, depth=depth, max_depth=2)

    assert of(Verdict.DENIED, found) == in_order(denied)


def test_the_rule_about_the_depth_names_its_key() -> None:
    ruling = ruled(rules("full", subagents=rules(deny="")), depth=1)["sessions_spawn"]

    assert str(ruling.rule) == "agents.defaults.subagents.maxSpawnDepth: 1"


def test_rules_for_sub_agents_concern_no_other_run() -> None:
    found = ruled(rules("full", subagents=rules(allow="", deny="*")))

    assert of(Verdict.DENIED, found) == []


LISTED = (
    *("git status", "git log *", "npm run test:*", "ls", "echo 'a * b'", "cat src/*.py"),
    "make -j* all",
)


@pytest.mark.parametrize(
    ("command", "hit"),
    [
        ("git status", True),
        ("  git   status ", True),
        ("git 'status'", True),
        ('"git" status', True),
        ("git status --short", False),
        ("git", False),
        ("git log", True),
        ("git log -n 3 --oneline", True),
        ("git log --format='%H %s'", True),
        ("git logs", False),
        ("/usr/bin/git status", False),
        ("npm run test:unit", True),
        ("npm run test:", True),
        ("npm run build", False),
        ("npm run test:unit again", False),
        ("ls", True),
        ("ls /", False),
        ("echo 'a * b'", True),
        ("echo 'a x b'", False),
        ("cat src/a.py", True),
        ("cat src/a.txt", False),
        ("cat src/a.py /etc/passwd", False),
        ("make -j8 all", True),
        ("git log; rm -rf .", False),
        ("git log && id", False),
        ("git log | sh", False),
        ("git log > x", False),
        ("git log < x", False),
        ("git log &", False),
        ("git log\nid", False),
        ("git log `id`", False),
        ("git log $(id)", False),
        ('git log "$(id)"', False),
        ('git log "`id`"', False),
        ("git log $HOME", False),
        ("git log '$(id)'", True),
        ("git log \\; id", False),
        ("git log *", False),
        ("git log {a,b}", False),
        ("git log ~root", False),
        ("git log # x", False),
        ("git log 'open", False),
        ("git log !!", False),
        ("git log\u00a0x", False),
        ("PAGER=id git log", False),
        ("A=b", False),
        ("(git log)", False),
        ("", False),
        ("   ", False),
        ("''", False),
        ("git log " + "x" * 100_000, True),
    ],
)
def test_commands_and_the_allow_list(command: str, hit: bool) -> None:
    def verdict(security: Security, ask: Ask) -> Verdict:
        shared = rules(allow="exec", security=security, exec_ask=ask, listed=LISTED)
        return on_call(ToolPolicy(shared), json.dumps({"command": command}))

    assert verdict(Security.ALLOWLIST, Ask.OFF) is (Verdict.ALLOWED if hit else Verdict.DENIED)
    assert verdict(Security.ALLOWLIST, Ask.ON_MISS) is (Verdict.ALLOWED if hit else Verdict.ASK)
    assert verdict(Security.FULL, Ask.ON_MISS) is (Verdict.ALLOWED if hit else Verdict.ASK)
    assert verdict(Security.FULL, Ask.OFF) is Verdict.ALLOWED
    assert verdict(Security.FULL, Ask.ALWAYS) is Verdict.ASK
    assert verdict(Security.DENY, Ask.ALWAYS) is Verdict.DENIED


def on_call(policy: ToolPolicy, arguments: str, tool: str = "exec") -> Verdict:
    spec = ToolSpec(tool, "")
    (ruling,) = effective([spec], policy, call=ToolCall("c1", tool, arguments))
    return ruling.verdict


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param('{"command": "id", "command": "ls"}', id="two commands"),
        pytest.param('{"command": "ls", "command": "id"}', id="two commands, the other way"),
        pytest.param('{"command": "ls", "env": {"PATH": "/tmp"}}', id="an unknown argument"),
        pytest.param('{"command": ["ls"]}', id="a list"),
        pytest.param('{"workdir": "x"}', id="no command"),
        pytest.param('["ls"]', id="no object"),
        pytest.param('{"command": "ls"', id="no JSON"),
        pytest.param("[" * 100_000, id="too deep"),
    ],
)
def test_arguments_that_are_not_certain_are_a_miss(arguments: str) -> None:
    shared = rules(allow="exec", security=Security.ALLOWLIST, listed=["ls", "id"])

    assert on_call(ToolPolicy(shared), arguments) is Verdict.DENIED


def test_directory_and_time_of_a_command_are_no_part_of_it() -> None:
    shared = rules(allow="exec", security=Security.ALLOWLIST, listed=["ls"])

    assert on_call(ToolPolicy(shared), '{"command": "ls", "workdir": "x", "timeout": 5}') is (
        Verdict.ALLOWED
    )


def test_a_listed_command_waits_where_tools_ask_names_exec() -> None:
    shared = rules(allow="exec", ask="exec", exec_ask=Ask.ON_MISS, listed=["ls"])

    assert on_call(ToolPolicy(shared), '{"command": "ls"}') is Verdict.ASK


def test_the_allow_list_concerns_no_other_tool() -> None:
    shared = rules(allow="read", security=Security.ALLOWLIST, exec_ask=Ask.ALWAYS)

    assert on_call(ToolPolicy(shared), '{"path": "x"}', tool="read") is Verdict.ALLOWED


def test_an_agents_allow_list_replaces_the_shared_one() -> None:
    shared = rules(allow="exec", security=Security.ALLOWLIST, listed=["ls"])
    own = rules(listed=["id"])

    assert on_call(ToolPolicy(shared, own), '{"command": "id"}') is Verdict.ALLOWED
    assert on_call(ToolPolicy(shared, own), '{"command": "ls"}') is Verdict.DENIED


@pytest.mark.parametrize("pattern", ["", "  ", "ls; id", "echo $HOME", "echo 'open", "cat ~/x"])
def test_a_pattern_that_no_command_can_match_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"quotes|missing|program"):
        check_pattern(pattern)


entries = st.sampled_from(
    [*BUILT_IN, *GROUP_NAMES, *("*", "demo__*", "look_up", "*e*", "s*_*", "unknown", "EXEC")]
)
lists = st.lists(entries, max_size=4).map(lambda some: Names(tuple(some)))
objects = st.builds(
    ToolRules,
    profile=st.none() | st.sampled_from(list(PROFILES)),
    allow=st.none() | lists,
    also_allow=lists,
    deny=st.none() | lists,
    ask=lists,
    exec=st.builds(
        ExecRules, st.none() | st.sampled_from(Security), st.none() | st.sampled_from(Ask)
    ),
)


@st.composite
def policies(draw: st.DrawFn) -> ToolPolicy:
    def layered() -> ToolRules:
        by = draw(st.dictionaries(st.sampled_from(["openai", "openai/gpt", "local"]), objects))
        subagents = draw(st.none() | objects)
        return replace(draw(objects), by_provider=MappingProxyType(by), subagents=subagents)

    return ToolPolicy(layered(), layered())


MODELS = st.lists(st.sampled_from(["openai/gpt", "openai/other", "local/m"]), max_size=3)


def verdicts(policy: ToolPolicy, models: Sequence[str], subagent: bool) -> dict[str, Verdict]:
    found = effective(TOOLS, policy, models=models, depth=int(subagent))
    return {ruling.tool: ruling.verdict for ruling in found}


@given(policies(), MODELS, st.booleans(), entries)
def test_whatever_is_denied_once_stays_denied(
    policy: ToolPolicy, models: list[str], subagent: bool, entry: str
) -> None:
    """A deny in any object wins, and takes no other tool away."""
    names = Names((entry,))
    before = verdicts(policy, models, subagent)
    for denying in (
        replace(policy, shared=denied(policy.shared, entry)),
        replace(policy, own=denied(policy.own, entry)),
    ):
        after = verdicts(denying, models, subagent)
        for tool in TOOLS:
            named = names.match(tool) is not None
            assert after[tool.name] is (Verdict.DENIED if named else before[tool.name])


def denied(some: ToolRules, entry: str) -> ToolRules:
    return replace(some, deny=Names((*(some.deny.entries if some.deny else ()), entry)))


@given(policies(), MODELS, st.booleans(), entries)
def test_one_more_entry_of_a_list_that_allows_takes_nothing_away(
    policy: ToolPolicy, models: list[str], subagent: bool, entry: str
) -> None:
    before = verdicts(policy, models, subagent)
    shared = policy.shared
    grown = [replace(shared, also_allow=Names((*shared.also_allow.entries, entry)))]
    if shared.allow is not None:
        grown.append(replace(shared, allow=Names((*shared.allow.entries, entry))))
    for more in grown:
        after = verdicts(replace(policy, shared=more), models, subagent)
        assert all(after[tool] <= before[tool] for tool in before)


@given(policies(), MODELS, st.booleans(), entries)
def test_one_more_entry_of_ask_allows_and_denies_nothing(
    policy: ToolPolicy, models: list[str], subagent: bool, entry: str
) -> None:
    before = verdicts(policy, models, subagent)
    asking = replace(policy.own, ask=Names((*policy.own.ask.entries, entry)))
    after = verdicts(replace(policy, own=asking), models, subagent)
    for tool in TOOLS:
        asks = before[tool.name] is Verdict.ALLOWED and Names((entry,)).match(tool) is not None
        assert after[tool.name] is (Verdict.ASK if asks else before[tool.name])


@given(policies(), MODELS, st.sampled_from(["openai/gpt", "local/m"]))
def test_one_more_model_and_a_sub_agent_allow_nothing_more(
    policy: ToolPolicy, models: list[str], another: str
) -> None:
    before = verdicts(policy, [*models, "openai/gpt"], subagent=False)
    for after in (
        verdicts(policy, [*models, "openai/gpt", another], subagent=False),
        verdicts(policy, [*models, "openai/gpt"], subagent=True),
    ):
        assert all(after[tool] >= before[tool] for tool in before)


@given(policies(), MODELS, st.booleans())
def test_a_policy_that_grants_nothing_denies_all(
    policy: ToolPolicy, models: list[str], subagent: bool
) -> None:
    if not policy.grants:
        assert set(verdicts(policy, models, subagent).values()) == {Verdict.DENIED}


@given(policies(), MODELS, st.booleans(), st.text(max_size=20))
def test_a_call_is_ruled_on_no_more_loosely_than_its_tool_is_denied(
    policy: ToolPolicy, models: list[str], subagent: bool, command: str
) -> None:
    call = ToolCall("c1", "exec", json.dumps({"command": command}))
    exec_tool = [tool for tool in TOOLS if tool.name == "exec"]
    (offered,) = effective(exec_tool, policy, models=models, depth=int(subagent))
    (called,) = effective(exec_tool, policy, models=models, depth=int(subagent), call=call)

    assert offered.verdict is not Verdict.DENIED or called.verdict is Verdict.DENIED
    assert offered.verdict is not Verdict.ALLOWED or called.verdict is not Verdict.ASK


# The scopes of the principal.

READS = ToolSpec("read", "", effects=frozenset({Effect.READ}))
FETCHES = ToolSpec("web_fetch", "", effects=frozenset({Effect.NETWORK}))
WRITES = ToolSpec("write", "", effects=frozenset({Effect.READ, Effect.WRITE}))
RUNS = ToolSpec("exec", "", effects=frozenset({Effect.EXECUTE}))
UNKNOWN = ToolSpec("look_up", "")
HARMLESS = ToolSpec("session_status", "", effects=frozenset())
BY_EFFECT = (READS, FETCHES, WRITES, RUNS, UNKNOWN, HARMLESS)


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (None, "read web_fetch write exec look_up session_status"),
        (ALL_SCOPES, "read web_fetch write exec look_up session_status"),
        ({Scope.ADMIN}, "read web_fetch write exec look_up session_status"),
        ({Scope.WRITE}, "read web_fetch write exec look_up session_status"),
        ({Scope.READ}, "read session_status"),
        ({Scope.READ, Scope.APPROVALS, Scope.PAIRING}, "read session_status"),
        ({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE}, "session_status"),
        ({Scope.APPROVALS}, "session_status"),
        (set(), "session_status"),
    ],
)
def test_a_tool_needs_the_scopes_of_its_effects(scopes: set[Scope] | None, allowed: str) -> None:
    found = effective(BY_EFFECT, ToolPolicy(rules(allow="*")), scopes=scopes)

    assert [one.tool for one in found if one.verdict is Verdict.ALLOWED] == allowed.split()


def test_the_missing_scope_is_the_rule_that_decided() -> None:
    policy = ToolPolicy(rules(allow="write exec", ask="exec", deny="read"))

    found = effective([WRITES, RUNS, READS, FETCHES], policy, scopes={Scope.READ})

    assert [str(one.rule) for one in found] == [
        "missing scope: operator.write",
        "missing scope: operator.write",
        "tools.deny: read",
        "tools.allow does not name it",
    ]
    assert {one.verdict for one in found} == {Verdict.DENIED}
    assert found[0].rule.layer is Layer.SCOPES


@given(policies(), MODELS, st.booleans(), st.frozensets(st.sampled_from(Scope)))
def test_scopes_only_take_away(
    policy: ToolPolicy, models: list[str], subagent: bool, scopes: frozenset[Scope]
) -> None:
    without = effective(TOOLS, policy, models=models, depth=int(subagent))
    within = effective(TOOLS, policy, models=models, depth=int(subagent), scopes=scopes)

    for before, after in zip(without, within, strict=True):
        assert after in (before, replace(after, verdict=Verdict.DENIED))
