"""Whether rules may name a tool by the first part of its name, before its name is known."""

from __future__ import annotations

import pytest

from opensoul.domain.tools import MCP_SOURCE, Names, ToolPolicy, ToolRules


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("*", True),
        ("group:all", True),
        ("group:mcp", True),
        ("Fake__Add", True),
        ("fake__*", True),
        ("fa*d", True),
        ("fake_*", True),
        ("*__add", True),
        ("fake", False),
        ("fake_add", False),
        ("fax*", False),
        ("other__*", False),
        ("group:fs", False),
        ("group:plugins", False),
        ("bash", False),
    ],
)
def test_an_entry_may_name_a_tool_with_a_prefix(entry: str, named: bool) -> None:
    assert Names((entry,)).may_match("fake__", MCP_SOURCE) is named


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        (ToolRules(), False),
        (ToolRules(profile="full"), True),
        (ToolRules(profile="coding"), False),
        (ToolRules(allow=Names(("fake__add",))), True),
        (ToolRules(also_allow=Names(("fake__add",))), True),
        (ToolRules(deny=Names(("fake__add",)), ask=Names(("fake__add",))), False),
        (ToolRules(by_provider={"acme": ToolRules(profile="full")}), True),
    ],
)
def test_the_rules_of_all_agents_and_of_one_are_consulted(rules: ToolRules, named: bool) -> None:
    assert ToolPolicy(shared=rules).may_name("fake__", MCP_SOURCE) is named
    assert ToolPolicy(own=rules).may_name("fake__", MCP_SOURCE) is named
