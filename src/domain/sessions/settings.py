"""What can be set for one Session, what is allowed, and what it does to a Run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ..agents import Agent
from ..errors import InvalidRequest
from ..models import ModelDirectory, ModelTarget
from ..text import check_name
from .keys import SessionKey
from .records import SessionSettingsMap

MAX_LABEL = 64
OWNER = "owner"
"""The setting that holds the id of the principal that a session belongs to. No client can set it:
the Gateway does, for a principal that is restricted to agents. A session without it is the
operators'."""

Setting = str | bool | int | None

_LEVELS = ("off", "minimal", "low", "medium", "high", "xhigh")
_THINKING_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "on": "low",
        "think": "minimal",
        "min": "minimal",
        "mid": "medium",
        "med": "medium",
        "max": "high",
        "ultra": "high",
        "highest": "high",
        "extrahigh": "xhigh",
    }
)
_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "thinkingLevel": _LEVELS,
        "verboseLevel": ("on", "off", "full"),
        "reasoningLevel": ("on", "off", "stream"),
        "responseUsage": ("off", "tokens", "full", "on"),
        "elevatedLevel": ("on", "off", "ask", "full"),
        "execHost": ("sandbox", "gateway", "node"),
        "execSecurity": ("deny", "allowlist", "full"),
        "execAsk": ("off", "on-miss", "always"),
        "sendPolicy": ("allow", "deny"),
        "groupActivation": ("mention", "always"),
    }
)
_TEXTS = ("execNode", "label", "spawnedBy")
_FLAGS = ("archived", "pinned", "unread", "fastMode")
SETTINGS = frozenset((*_CHOICES, *_TEXTS, *_FLAGS, "model"))
HARMLESS = frozenset(
    ("label", "pinned", "archived", "unread", "model", "thinkingLevel", "fastMode", "verboseLevel")
)
"""What may be set with less than operator.admin: it changes nothing that is not undone as
easily."""


def checked(
    key: SessionKey, asked: Mapping[str, Setting], models: ModelDirectory
) -> dict[str, Setting]:
    """The settings as they are to be kept; None takes one away. Raises InvalidRequest."""
    return {name: _checked(key, name, value, models) for name, value in asked.items()}


def applied_to(agent: Agent, settings: SessionSettingsMap, models: ModelDirectory) -> Agent:
    """The agent as it answers in a Session with these settings.

    A chosen model that is no longer configured is passed over: a Session is not lost by it.
    """
    targets = agent.models
    chosen = models.get(str(settings["model"])) if "model" in settings else None
    if chosen is not None:
        targets = (chosen, *(target for target in targets if target.ref != chosen.ref))
    level = settings.get("thinkingLevel")
    if isinstance(level, str):
        targets = tuple(with_thinking(target, level) for target in targets)
    return agent if targets is agent.models else replace(agent, models=targets)


def thinking_level(text: str) -> str:
    """The level that somebody means. Raises InvalidRequest."""
    level = text.strip().lower()
    level = _THINKING_ALIASES.get(level, level)
    if level not in _LEVELS:
        raise InvalidRequest(
            f"invalid thinkingLevel (use {'|'.join(_LEVELS)})", param="thinkingLevel"
        )
    return level


def _checked(key: SessionKey, name: str, value: Setting, models: ModelDirectory) -> Setting:
    if name not in SETTINGS:
        raise InvalidRequest(f"{name!r} is no setting of a session", param=name)
    if value is None:
        return None
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise InvalidRequest(f"{name} must be true or false", param=name)
        return value
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a text", param=name)
    return _checked_text(key, name, value, models)


def _checked_text(key: SessionKey, name: str, value: str, models: ModelDirectory) -> Setting:
    if name == "thinkingLevel":
        return thinking_level(value)
    if name == "model":
        return models.choose(value).ref
    if name in _CHOICES:
        level = value.strip().lower()
        if level not in _CHOICES[name]:
            allowed = "|".join(f'"{choice}"' for choice in _CHOICES[name])
            raise InvalidRequest(f"invalid {name} (use {allowed})", param=name)
        return level
    text = value.strip()
    if not text:
        raise InvalidRequest(f"{name} must not be blank", param=name)
    check_name(text, name)
    if name == "label" and len(text) > MAX_LABEL:
        raise InvalidRequest(f"label is longer than {MAX_LABEL} characters", param="label")
    if name == "spawnedBy" and not key.rest.lower().startswith("subagent:"):
        raise InvalidRequest("spawnedBy is only supported for subagent:* sessions", param=name)
    return text


def with_thinking(target: ModelTarget, level: str) -> ModelTarget:
    """Levels are OpenAI's `reasoning_effort`, for models that reason at all."""
    if not target.reasoning or not target.compat.supports_reasoning_effort:
        return target
    params = {name: value for name, value in target.params if name != "reasoning_effort"}
    if level != "off":
        params["reasoning_effort"] = level
    return replace(target, params=tuple(params.items()))
