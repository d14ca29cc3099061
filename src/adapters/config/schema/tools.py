"""`tools.*`, and the same keys of an agent: which tools a model may call."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ....domain.tools import SUBAGENTS_DENY, check_pattern
from .fields import Section, Text, section, setting


def _pattern(value: str) -> str:
    try:
        check_pattern(value)
    except ValueError as error:
        raise ValueError(f"is not a pattern for plain commands: {error}") from None
    return value


CommandPattern = Annotated[str, AfterValidator(_pattern)]
_ENTRIES = "Entries are names, patterns with `*`, and groups such as `group:fs`."


class ToolLists(Section):
    allow: list[Text] | None = setting(
        None, f"Only these tools are allowed; an empty list allows none. {_ENTRIES}"
    )
    deny: list[Text] | None = setting(
        None, f"These tools are denied, whatever allows them. {_ENTRIES}"
    )


class ProviderTools(ToolLists):
    profile: Literal["minimal", "coding", "messaging", "full"] | None = setting(
        None, "A list of tools that are allowed; others need `alsoAllow`."
    )
    also_allow: list[Text] = setting([], f"Tools besides `profile` and `allow`. {_ENTRIES}")
    ask: list[Text] = setting(
        [], f"Each call of these tools waits for an approval. {_ENTRIES}", addition=True
    )


class ExecTool(Section):
    security: Literal["deny", "allowlist", "full"] | None = setting(
        None,
        "Which commands `exec` may run: none, those of `allowlist`, or all. Left out: `full`.",
    )
    ask: Literal["off", "on-miss", "always"] | None = setting(
        None,
        "Which commands wait for an approval: none, those that `allowlist` does not name, or all. "
        "Left out: `off`.",
    )
    allowlist: list[CommandPattern] | None = setting(
        None,
        "Patterns of commands without shell syntax, such as `git log *`: `*` stands for any "
        "characters of a word, as the last word for any further words.",
        addition=True,
        machine="program",
    )


class Subagents(Section):
    tools: ToolLists = section(
        ToolLists,
        "Fewer tools for runs of sub-agents. Without `deny`, they are denied "
        f"{' and '.join(f'`{entry}`' for entry in SUBAGENTS_DENY)}.",
    )


class ToolsSection(ProviderTools):
    by_provider: dict[str, ProviderTools] = Field(
        default_factory=dict,
        description="Rules that apply in addition for the models of a provider, or for a "
        "`provider/model`.",
    )
    exec: ExecTool = section(ExecTool, "The commands of the tool `exec`.")
    subagents: Subagents = section(Subagents, "Sub-agents.")
