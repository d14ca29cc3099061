"""The schema of the configuration, as pydantic models: every key, its type, default and meaning.

The keys of the family that have no effect here are a table, `inert`.
"""

from __future__ import annotations

from typing import Any

from .agents import AgentsSection
from .fields import Section, setting
from .gateway import GatewaySection
from .inert import INERT, Inert, StarPath
from .mcp import McpSection
from .providers import ModelsSection
from .secrets import EnvSection, SecretsSection
from .session import CommandsSection, LoggingSection, SessionSection
from .store import NodeSection, StoreSection
from .tools import ToolsSection
from .walk import Place, Shape


class Root(Section):
    """A whole configuration."""

    gateway: GatewaySection = setting(GatewaySection)
    """Listening, authentication and endpoints."""
    agents: AgentsSection = setting(AgentsSection)
    """The agents."""
    models: ModelsSection = setting(ModelsSection)
    """The providers of models."""
    tools: ToolsSection = setting(ToolsSection)
    """Which tools agents may use; by default none. `docs/tools.md` has examples. Clients cannot
    change these keys over the network."""
    session: SessionSection = setting(SessionSection)
    """Resets, storage and the send policy."""
    store: StoreSection = setting(StoreSection, addition=True)
    """The database of a Gateway that is more than one process, see `docs/scaling.md`."""
    node: NodeSection = setting(NodeSection, addition=True)
    """This process among those that share the database."""
    commands: CommandsSection = setting(CommandsSection)
    """Commands in messages."""
    mcp: McpSection = setting(McpSection)
    """Servers of tools, over the Model Context Protocol."""
    logging: LoggingSection = setting(LoggingSection)
    """The log."""
    env: EnvSection = setting(EnvSection, secret=True)
    """Variables for `${NAME}`."""
    secrets: SecretsSection = setting(SecretsSection)
    """The providers of secret references."""


ROOT = Place((), (), Shape("object", model=Root))
"""The place of the whole configuration."""


def json_schema() -> dict[str, Any]:
    """The JSON schema, for editors, with the marks of `fields`; keys without effect are included,
    with `x-effect: "none"`."""
    schema = Root.model_json_schema(by_alias=True)
    for path, row in INERT.items():
        holder = _followed(schema_at(schema, path[:-1]), schema)
        marks = {"description": row.meaning, "x-effect": "silent" if row.silent else "none"}
        holder.setdefault("properties", {})[path[-1]] = marks
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OpenSoul",
        **schema,
    }


def schema_at(schema: dict[str, Any], path: StarPath) -> dict[str, Any]:
    """The JSON schema of the values at a path inside that of the whole."""
    node = schema
    for key in path:
        node = _followed(node, schema)
        if key == "*":
            node = node.get("items") or node["additionalProperties"]
        else:
            node = node["properties"][key]
    return node


def _followed(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of the object, record or list that a schema allows."""
    arms: list[dict[str, Any]] = node.get("anyOf", [node])
    found = next(arm for arm in arms if arm.get("type") not in ("string", "null"))
    return schema["$defs"][found["$ref"].rpartition("/")[2]] if "$ref" in found else found


__all__ = ["INERT", "ROOT", "Inert", "Place", "Root", "StarPath", "json_schema", "schema_at"]
