"""The schema of the configuration, as pydantic models: every key, its type, default and meaning."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .agents import AgentsSection
from .families import EnvSection, Families
from .fields import inert, section
from .gateway import GatewaySection
from .providers import ModelsSection
from .session import LoggingSection, SessionSection
from .tools import Tools


class Root(Families):
    """A whole configuration."""

    gateway: GatewaySection = section(GatewaySection, "Where the Gateway listens, whom it lets in.")
    agents: AgentsSection = section(AgentsSection, "Who answers.")
    models: ModelsSection = section(ModelsSection, "Where models are served.")
    session: SessionSection = section(SessionSection, "How long conversations last.")
    logging: LoggingSection = section(LoggingSection, "What is logged.")
    env: EnvSection = Field(
        default_factory=EnvSection,
        description="Variables for `${NAME}`.",
        json_schema_extra={"x-secret": True},
        repr=False,
    )
    tools: Tools | None = inert("Which tools agents may use.")


def json_schema() -> dict[str, Any]:
    """The schema as JSON schema, for editors; `x-effect`, `x-restart`, ... as in `fields`."""
    schema = Root.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OpenSoul",
        **schema,
    }


__all__ = ["Root", "json_schema"]
