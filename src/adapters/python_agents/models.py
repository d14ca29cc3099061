"""The Gateway's own models, for the code of Python agents."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

URL_VARIABLE = "OPENSOUL_MODELS_URL"
KEY_VARIABLE = "OPENSOUL_MODELS_KEY"
"""Where a worker process finds them."""


class ModelAccess(Protocol):
    """Serves the models to agents."""

    async def start(self) -> str:
        """The base URL for OpenAI's clients. Raises OSError."""
        ...

    def key_of(self, agent_id: str) -> str:
        """The key of an agent, which names it."""
        ...


@dataclass(frozen=True, slots=True)
class GatewayModel:
    """A model of the Gateway as an OpenAI-compatible endpoint. The methods make it a model of a
    framework, which has to be installed."""

    name: str
    base_url: str
    api_key: str = field(repr=False)

    def pydantic_ai(self) -> Any:
        """A model for an `Agent` of pydantic-ai."""
        provider = import_module("pydantic_ai.providers.openai").OpenAIProvider(
            base_url=self.base_url, api_key=self.api_key
        )
        return import_module("pydantic_ai.models.openai").OpenAIChatModel(
            self.name, provider=provider
        )

    def openai_agents(self) -> Any:
        """A model for an `Agent` of the OpenAI Agents SDK."""
        client = import_module("openai").AsyncOpenAI(base_url=self.base_url, api_key=self.api_key)
        return import_module("agents").OpenAIChatCompletionsModel(self.name, client)

    def langchain(self) -> Any:
        """A chat model for LangChain and LangGraph."""
        return import_module("langchain_openai").ChatOpenAI(
            model=self.name, base_url=self.base_url, api_key=self.api_key, stream_usage=True
        )


_access: ContextVar[tuple[str, str] | None] = ContextVar("opensoul.models", default=None)


@contextmanager
def provided(access: tuple[str, str] | None) -> Iterator[None]:
    """Within it, and in the tasks and threads that begin in it, `model` finds the URL and key."""
    token = _access.set(access)
    try:
        yield
    finally:
        _access.reset(token)


def current_access() -> tuple[str, str] | None:
    """What is provided here."""
    return _access.get()


def environment(access: tuple[str, str] | None) -> Mapping[str, str]:
    """The variables by which a worker process finds the URL and key."""
    return {} if access is None else {URL_VARIABLE: access[0], KEY_VARIABLE: access[1]}


def model(name: str = "default") -> GatewayModel:
    """A model of the Gateway that runs the agent: `provider/model`, an alias, or `default` for the
    agent's own; its keys, fallbacks and cooldowns are those of the configuration.

    Call it where the module of the agent is imported, or within a run. Raises RuntimeError where no
    Gateway runs the code.
    """
    found = _access.get()
    if found is None and URL_VARIABLE in os.environ:
        found = os.environ[URL_VARIABLE], os.environ[KEY_VARIABLE]
    if found is None:
        raise RuntimeError(
            "No Gateway runs this code, so that there are no models of one. Call "
            "opensoul.api.model() in the module of an agent that a Gateway serves."
        )
    return GatewayModel(name, *found)
