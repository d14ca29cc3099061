"""The setting that turns on chat completions, and the routes beside them."""

from __future__ import annotations

from .....domain.settings import Settings
from ...routes import Limits, Switch

_SETTING = "gateway.http.endpoints.chatCompletions"
CHAT_SWITCH = Switch(
    "The chat completions endpoint", f"{_SETTING}.enabled", lambda settings: settings.chat.enabled
)


def chat_limits(settings: Settings) -> Limits:
    chat = settings.chat
    return Limits(chat.max_body_bytes, chat.body_timeout, chat.write_timeout, _SETTING)
