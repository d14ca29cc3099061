"""What a model gets of a Run's steps: long results shortened, and a warning about repeated calls.

The functions look back only, so what they make of a complete step stays the same in each later
model call of the Run: the caches of providers keep their prefix.
"""

from __future__ import annotations

from dataclasses import replace

from ..messages import Message, Role, Text
from ..sessions import shortened
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


def _warning(count: int) -> str:
    return (
        f"[This is call {count} in a row with the same arguments and the same result. Repeating it "
        "will not change the result.]"
    )
