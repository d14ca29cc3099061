"""The settings that turn on endpoints, and the limits that all of them have."""

from __future__ import annotations

from operator import attrgetter

from ...domain.settings import Settings
from .routes import Limits, Switch

_ENDPOINTS = "gateway.http.endpoints"
_CHAT = f"{_ENDPOINTS}.chatCompletions"

CHAT_SWITCH = Switch(
    "The chat completions endpoint", f"{_CHAT}.enabled", lambda settings: settings.chat.enabled
)
MODELS_SWITCH = Switch(
    "The list of models",
    f"{_CHAT}.enabled",
    lambda settings: settings.chat.enabled or settings.endpoints.lists_models,
)
"""Any endpoint whose clients ask for the list turns it on."""
RUNS_SWITCH = Switch(
    "The list of runs",
    f"{_CHAT}.enabled",
    lambda settings: settings.chat.enabled or settings.endpoints.begins_runs,
)
"""Any endpoint that answers with a run turns it on."""


def _switch(subject: str, name: str) -> Switch:
    """The switch of the endpoint with that name in EndpointSettings and in the configuration."""
    is_on = attrgetter(f"endpoints.{name}")
    return Switch(subject, f"{_ENDPOINTS}.{name}.enabled", is_on)


RESPONSES_SWITCH = _switch("The Responses endpoint", "responses")
MESSAGES_SWITCH = _switch("Anthropic's Messages endpoint", "messages")
COMPLETIONS_SWITCH = _switch("The completions endpoint", "completions")
EMBEDDINGS_SWITCH = _switch("The embeddings endpoint", "embeddings")
MCP_SWITCH = _switch("The MCP server", "mcp")
A2A_SWITCH = _switch("The A2A endpoint", "a2a")


def answer_limits(settings: Settings) -> Limits:
    """The limits of requests that a run answers."""
    chat = settings.chat
    return Limits(chat.max_body_bytes, chat.body_timeout, chat.write_timeout, _CHAT)
