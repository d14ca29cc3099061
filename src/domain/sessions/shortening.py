"""Long results of tools without their middle, as a model gets them."""

from __future__ import annotations

from dataclasses import replace

from ..messages import Message, Role, Text


def shortened_results(messages: tuple[Message, ...], max_chars: int) -> tuple[Message, ...]:
    """The messages with shortened results; the same object where none is too long."""
    results = [one for one in messages if one.role is Role.TOOL]
    if any(is_long(one, max_chars) for one in results):
        return tuple(shortened(message, max_chars) for message in messages)
    return messages


def shortened(message: Message, max_chars: int) -> Message:
    """A result of more than `max_chars` characters without its middle; any other message as is."""
    if message.role is not Role.TOOL or not is_long(message, max_chars):
        return message
    others = tuple(part for part in message.parts if not isinstance(part, Text))
    return replace(message, parts=(Text(without_middle(message.text, max_chars)), *others))


def is_long(message: Message, max_chars: int) -> bool:
    """Whether its text has more than `max_chars` characters."""
    return sum(len(part.text) for part in message.parts if isinstance(part, Text)) > max_chars


def without_middle(text: str, max_chars: int) -> str:
    """The beginning and the end of the text, `max_chars` characters in all, around a mark that
    says how many are missing."""
    head = (max_chars + 1) // 2
    tail = max_chars - head
    mark = f"\n[... {len(text) - max_chars} characters are left out here ...]\n"
    return text[:head] + mark + text[len(text) - tail :]
