"""`tools.*`, and the same keys of an agent: which tools a model may call."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from ....domain.tools import check_pattern
from .fields import Count, Section, Text, setting


def _pattern(value: str) -> str:
    try:
        check_pattern(value)
    except ValueError as error:
        raise ValueError(f"is not a pattern for plain commands: {error}") from None
    return value


CommandPattern = Annotated[str, AfterValidator(_pattern)]


class ToolLists(Section):
    allow: list[Text] | None = None
    """Only these tools are allowed; an empty list allows none. Entries are names, patterns with
    `*`, and groups such as `group:fs`."""
    deny: list[Text] | None = None
    """These tools are denied, whatever allows them. Entries as in `allow`."""


class ProviderTools(ToolLists):
    profile: Literal["minimal", "coding", "messaging", "full"] | None = None
    """A list of tools that are allowed; others need `alsoAllow`."""
    also_allow: list[Text] = setting(list)
    """Tools besides those of `profile` and `allow`. Entries as in `allow`."""
    ask: list[Text] = setting(list, addition=True)
    """Each call of these tools waits for an approval. Entries as in `allow`."""


class ExecTool(Section):
    security: Literal["deny", "allowlist", "full"] | None = None
    """Which commands `exec` may run: none, those of `allowlist`, or all. Left out: `full`."""
    ask: Literal["off", "on-miss", "always"] | None = None
    """Which commands wait for an approval: none, those that `allowlist` does not name, or all. Left
    out: `off`."""
    allowlist: list[CommandPattern] | None = setting(None, addition=True, machine="program")
    """Patterns of commands without shell syntax, such as `git log *`: `*` stands for any characters
    of a word, as the last word for any further words."""


class Subagents(Section):
    tools: ToolLists = setting(ToolLists)
    """Fewer tools for runs of sub-agents. Without `deny`, they are denied `group:sessions` and
    `group:memory`."""


class SessionTools(Section):
    visibility: Literal["self", "tree", "agent", "all"] | None = None
    """Which sessions tools reach: only that of the run, also those of its sub-agents (`tree`), also
    the other ones of its agent, or also those of other agents. Left out: `tree`. Never those of
    another principal."""


class AgentToAgent(Section):
    enabled: bool = False
    """With `sessions.visibility: "all"`, tools reach the sessions of other agents."""
    allow: list[Text] | None = None
    """Patterns of agent ids with `*`; both agents have to match. Left out: all agents."""


class ToolsSection(ProviderTools):
    by_provider: dict[str, ProviderTools] = setting(dict)
    """Rules that apply in addition for the models of a provider, or for a `provider/model`."""
    max_result_chars: Count | None = setting(None, addition=True)
    """Characters of a tool's result that the model gets; a longer one is shortened in the middle.
    Left out: 40000."""
    exec: ExecTool = setting(ExecTool)
    """The commands of the tool `exec`."""
    sessions: SessionTools = setting(SessionTools)
    """The tools for sessions."""
    agent_to_agent: AgentToAgent | None = None
    """Sessions of other agents. An agent's own object replaces the shared one."""
    subagents: Subagents = setting(Subagents)
    """Sub-agents."""
