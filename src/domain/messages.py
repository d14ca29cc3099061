"""A Message and its parts: what is said in a Session, by whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from .immutable import immutable


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@immutable(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What a model thought aloud. Without a signature it is for readers only.

    `signature`: the provider's proof, with which `model` (`provider/model`) gets the reasoning back
    while it calls tools. `redacted`: the signature is the reasoning itself, in encrypted form.
    """

    text: str
    signature: str = ""
    model: str = ""
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is the JSON text as the model wrote it; it may be no valid JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Image:
    """A picture somebody shows: `data` is its bytes in base64, `mime` says what they are."""

    data: str
    mime: str
    detail: str = field(default="", compare=False)
    """How closely a model is to look, in OpenAI's words. Not compared: the digests of requests stay
    the same."""


Part = Text | Reasoning | ToolCall | Image


@immutable(frozen=True, slots=True, weakref_slot=True)
class Message:
    """One utterance. `name` is the speaker's; `tool_call_id` says which call a tool answers, and
    `is_error` that the call failed."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    tool_call_id: str | None = None
    is_error: bool = field(default=False, compare=False)
    """Not compared: the digests of requests, which do not have it, stay the same."""
    _tokens: int = field(default=0, init=False, repr=False, compare=False)
    """What `history.estimate` found, once it has looked; a long session is looked at every turn."""

    @property
    def text(self) -> str:
        """The text parts joined by line breaks, as the reference joins content parts.

        Images are left out.
        """
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))


def text_message(role: Role, text: str) -> Message:
    """A Message of one text part."""
    return Message(role, (Text(text),))
