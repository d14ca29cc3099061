"""The schema of the configuration, as pydantic models: every key, its type, default and meaning.

The keys of the family that have no effect here are a table, `inert`.
"""

from __future__ import annotations

from typing import Any

from .agents import AgentsSection
from .fields import Section, section
from .gateway import GatewaySection
from .inert import INERT, Inert, StarPath
from .providers import ModelsSection
from .secrets import EnvSection, SecretsSection
from .session import LoggingSection, SessionSection


class Root(Section):
    """A whole configuration."""

    gateway: GatewaySection = section(GatewaySection, "Where the Gateway listens, whom it lets in.")
    agents: AgentsSection = section(AgentsSection, "Who answers.")
    models: ModelsSection = section(ModelsSection, "Where models are served.")
    session: SessionSection = section(SessionSection, "How long conversations last.")
    logging: LoggingSection = section(LoggingSection, "What is logged.")
    env: EnvSection = section(EnvSection, "Variables for `${NAME}`.", secret=True)
    secrets: SecretsSection = section(SecretsSection, "Where references to secrets lead.")


def json_schema() -> dict[str, Any]:
    """The schema as JSON schema, for editors, with the marks of `fields`.

    A key without effect is a property of the object it belongs to, with `x-effect: "none"`.
    """
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
    """The schema of the object at a path."""
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
