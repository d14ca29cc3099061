"""The schema of the configuration, as pydantic models: every key, its type, default and meaning.

The keys of the family that have no effect here are a table, `inert`.
"""

from __future__ import annotations

from typing import Any

from .agents import AgentsSection
from .fields import Section, section
from .gateway import GatewaySection
from .inert import INERT, Inert, StarPath
from .mcp import McpSection
from .providers import ModelsSection
from .secrets import EnvSection, SecretsSection
from .session import LoggingSection, SessionSection


class Root(Section):
    """A whole configuration."""

    gateway: GatewaySection = section(GatewaySection, "Listening, authentication and endpoints.")
    agents: AgentsSection = section(AgentsSection, "The agents.")
    models: ModelsSection = section(ModelsSection, "The providers of models.")
    session: SessionSection = section(SessionSection, "Resets, storage and the send policy.")
    mcp: McpSection = section(McpSection, "Servers of tools, over the Model Context Protocol.")
    logging: LoggingSection = section(LoggingSection, "The log.")
    env: EnvSection = section(EnvSection, "Variables for `${NAME}`.", secret=True)
    secrets: SecretsSection = section(SecretsSection, "The providers of secret references.")


def json_schema() -> dict[str, Any]:
    """The JSON schema, for editors, with the marks of `fields`; keys without effect are included,
    with `x-effect: "none"`."""
    schema = Root.model_json_schema(by_alias=True)
    for path, row in INERT.items():
        holder = _at(schema, path[:-1])
        if holder is not None:
            marks = {"description": row.meaning, "x-effect": "silent" if row.silent else "none"}
            holder.setdefault("properties", {})[path[-1]] = marks
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OpenSoul",
        **schema,
    }


def _at(schema: dict[str, Any], path: StarPath) -> dict[str, Any] | None:
    node: dict[str, Any] | None = schema
    for key in path:
        if node is None:
            return None
        if key == "*":
            node = node.get("items") or node.get("additionalProperties")
        else:
            node = node.get("properties", {}).get(key)
        node = _followed(node, schema["$defs"])
    return node


def _followed(node: dict[str, Any] | None, known: dict[str, Any]) -> dict[str, Any] | None:
    while node is not None and "$ref" in node:
        node = known[node["$ref"].rpartition("/")[2]]
    return node


__all__ = ["INERT", "Inert", "Root", "StarPath", "json_schema"]
