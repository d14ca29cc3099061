"""What a model gets of a Run's steps: long results shortened, and a warning about repeated calls.

The functions look back only, so what they make of a complete step stays the same in each later
model call of the Run: the caches of providers keep their prefix.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..messages import Message, Role, Text
from .journal import Journal
from .limits import WARNED_AFTER, repetitions


def prompted(journal: Journal, max_result_chars: int) -> tuple[Message, ...]:
    """The question and the complete steps, as a model gets them."""
    if not journal.steps:
        return journal.question
    messages = [*journal.question]
    for step, counts in zip(journal.steps, repetitions(journal.steps), strict=True):
        if step.open_calls:
            continue
        for message in step.messages:
            shown = shortened(message, max_result_chars)
            count = counts.get(message.tool_call_id or "", 0)
            if message.role is Role.TOOL and count >= WARNED_AFTER:
                shown = replace(shown, parts=(*shown.parts, Text(_warning(count))))
            messages.append(shown)
    return tuple(messages)


def shortened_results(messages: tuple[Message, ...], max_chars: int) -> tuple[Message, ...]:
    """The messages with shortened results; the same object where none is too long."""
    if any(is_long(message, max_chars) for message in _results(messages)):
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


def _results(messages: Iterable[Message]) -> list[Message]:
    return [message for message in messages if message.role is Role.TOOL]


def _warning(count: int) -> str:
    return (
        f"[This is call {count} in a row with the same arguments and the same result. Repeating it "
        "will not change the result.]"
    )
