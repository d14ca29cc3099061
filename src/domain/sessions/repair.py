"""What of a conversation can be sent to a provider that checks it strictly."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..messages import Image, Message, Part, Role, Text, ToolCall

_Slot = Message | None
"""A message, or the place of one that was removed."""


def repaired(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation without the faults for which providers refuse a request.

    Messages without content are removed. So are tool calls without a result and results without
    their call; a result that is separated from its call moves behind it. Providers may also require
    that roles alternate: two messages of one role are merged where a removed message had separated
    them, and answers that have lost their question at the start are removed.

    Everything else stays as it is, and faultless messages stay the same objects. What stands behind
    the last answer is asked now, so none of it is removed: a fault there is the client's to mend.
    """
    if not any(map(_suspicious, messages)):
        return tuple(messages)
    answers = (i for i, one in enumerate(messages) if one.role is Role.ASSISTANT)
    slots = list(_slots(messages, asked_from=max(answers, default=-1) + 1))
    return tuple(_joined(_from_first_question(slots)))


def stray_results(messages: Sequence[Message]) -> list[int]:
    """The positions of the results, behind the last answer, that no call waits for. Strict
    providers refuse them."""
    last = next((i for i in reversed(range(len(messages))) if _calls(messages[i])), None)
    placed = set[int]()
    if last is not None:
        placed.update(_answered(messages[last], _results_behind(last, messages))[1])
    answers = (i for i in reversed(range(len(messages))) if messages[i].role is Role.ASSISTANT)
    asked = range(next(answers, -1) + 1, len(messages))
    return [i for i in asked if messages[i].role is Role.TOOL and i not in placed]


def _suspicious(message: Message) -> bool:
    """A cheap test, since it is made for each message of each call; False: nothing is wrong."""
    if len(message.parts) == 1 and message.role is not Role.TOOL:
        (part,) = message.parts
        if type(part) is Text:
            return not part.text or part.text.isspace()
    return message.role is Role.TOOL or _blank(message) or bool(_calls(message))


def _blank(message: Message) -> bool:
    """Nothing of it would be sent. A tool may well have an empty result."""
    return message.role is not Role.TOOL and not any(map(_has_content, message.parts))


def _has_content(part: Part) -> bool:
    match part:
        case Text(text=text):
            return bool(text) and not text.isspace()
        case Image() | ToolCall():
            return True
        case _:
            return False  # Reasoning is not sent back.


def _calls(message: Message) -> list[ToolCall]:
    return [part for part in message.parts if isinstance(part, ToolCall)]


def _slots(messages: Sequence[Message], *, asked_from: int) -> Iterator[_Slot]:
    """The messages with content, each tool call directly before its result."""
    placed: set[int] = set()
    """The numbers of the results that are behind their calls already."""
    for number, message in enumerate(messages):
        if _calls(message):
            parts, results = _answered(message, _results_behind(number, messages))
            placed.update(results)
            if len(parts) < len(message.parts):
                message = replace(message, parts=parts)
            yield None if _blank(message) else message
            yield from (messages[result] for result in results)
        elif number not in placed:
            orphan = message.role is Role.TOOL
            yield None if (orphan or _blank(message)) and number < asked_from else message


def _results_behind(number: int, messages: Sequence[Message]) -> dict[str, deque[int]]:
    """The numbers of the results for each call id. An id counts until the next message with calls,
    because some providers number the calls of every answer anew."""
    results: dict[str, deque[int]] = {}
    for i, message in enumerate(messages[number + 1 :], number + 1):
        if _calls(message):
            break
        if message.role is Role.TOOL and message.tool_call_id is not None:
            results.setdefault(message.tool_call_id, deque()).append(i)
    return results


def _answered(
    message: Message, waiting: Mapping[str, deque[int]]
) -> tuple[tuple[Part, ...], list[int]]:
    """The parts without the calls that have no result, and the numbers of the results."""
    parts: list[Part] = []
    results: list[int] = []
    for part in message.parts:
        if isinstance(part, ToolCall):
            if not waiting.get(part.id):
                continue
            results.append(waiting[part.id].popleft())
        parts.append(part)
    return tuple(parts), results


def _from_first_question(slots: Sequence[_Slot]) -> Sequence[_Slot]:
    """Without the answers at the start whose question was removed."""
    if slots[0] is not None:
        return slots
    first = (i for i, slot in enumerate(slots) if slot is not None and slot.role is Role.USER)
    return slots[next(first, 0) :]


def _joined(slots: Iterable[_Slot]) -> Iterator[Message]:
    """The messages, merged where a removed one had separated two of one speaker."""
    last: Message | None = None
    gap = False
    for slot in slots:
        if slot is None:
            gap = True
            continue
        if last is not None and gap and _same_speaker(last, slot):
            last = replace(last, parts=last.parts + slot.parts)
        else:
            if last is not None:
                yield last
            last = slot
        gap = False
    if last is not None:
        yield last


def _same_speaker(one: Message, other: Message) -> bool:
    return one.role is other.role is not Role.TOOL and one.name == other.name
