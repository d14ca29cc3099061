"""Tool calls as a model wrote them, made such that every provider accepts them in a conversation.

A malformed call is answered with a text that says what is wrong; it is never run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from ..messages import Message, Part, ToolCall
from ..tools import CLIENT_SOURCE, ToolSpec

Validate = Callable[[ToolSpec, Mapping[str, object]], str | None]
"""What is wrong with the arguments of a call of the tool; None: nothing."""

_MOST_QUOTED = 200
_MOST_NAMED = 50
_MOST_NAME = 64
_ODD = re.compile(r"[^a-zA-Z0-9_-]")


def any_arguments(tool: ToolSpec, arguments: Mapping[str, object]) -> str | None:
    """The Validate that accepts all arguments."""
    return None


def checked(
    message: Message,
    tools: Mapping[str, ToolSpec],
    validate: Validate,
    taken: Collection[str] = (),
) -> tuple[Message, Mapping[str, str]]:
    """The message with usable calls, and by their ids the reasons why calls cannot be run.

    Ids are unique within the message, and none of those that are `taken`: followers know a call by
    its id, and some providers refuse a conversation in which two are the same. Where the arguments
    are no JSON object, `{}` takes their place, and characters that providers do not allow in a name
    are replaced: many providers refuse each later request of the conversation otherwise. The reason
    quotes what the model wrote.
    """
    parts: list[Part] = []
    refused: dict[str, str] = {}
    ids = set(taken)
    for part in message.parts:
        if isinstance(part, ToolCall):
            part, reason = _checked(replace(part, id=_unique(part.id, ids)), tools, validate)
            ids.add(part.id)
            if reason is not None:
                refused[part.id] = reason
        parts.append(part)
    return replace(message, parts=tuple(parts)), refused


def _unique(call_id: str, taken: set[str]) -> str:
    unique, number = call_id or "call", 1
    while unique in taken:
        number += 1
        unique = f"{call_id or 'call'}-{number}"
    return unique


def _checked(
    call: ToolCall, tools: Mapping[str, ToolSpec], validate: Validate
) -> tuple[ToolCall, str | None]:
    arguments, problem = _parsed(call.arguments)
    if arguments is None or not call.arguments.strip():
        call = replace(call, arguments="{}")
    tool = tools.get(call.name) or tools.get(call.name.strip())
    if tool is None:
        known = ", ".join(sorted(tools)[:_MOST_NAMED])
        reason = f"There is no tool {_quoted(call.name)}. The tools are: {known}."
        if not call.name.strip():
            reason = f"The call names no tool. The tools are: {known}."
        name = _ODD.sub("_", call.name)[:_MOST_NAME] or "unnamed"
        return replace(call, name=name), reason
    call = replace(call, name=tool.name)
    if arguments is None:
        return call, f"The arguments must be a JSON object, {problem}."
    if tool.source == CLIENT_SOURCE and not tool.strict:
        return call, None  # Its client checks them.
    wrong = validate(tool, arguments)
    if wrong is not None:
        return call, f"The arguments do not fit the parameters of {tool.name}: {wrong}"
    return call, None


def _parsed(text: str) -> tuple[Mapping[str, object] | None, str]:
    """The arguments, or None and what they are instead. No text at all: no arguments."""
    if not text.strip():
        return {}, ""
    try:
        value = json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        return None, f"but they are no valid JSON ({why}): {_quoted(text)}"
    if not isinstance(value, dict):
        return None, f"but they are: {_quoted(text)}"
    return value, ""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _finite(text: str) -> float:
    """Most parsers refuse a number that a double cannot hold."""
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _integer(digits: str) -> int:
    _finite(digits)
    return int(digits)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _MOST_QUOTED else text[:_MOST_QUOTED] + "\u2026")
