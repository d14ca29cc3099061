"""How much of a Session's past goes into a model call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .messages import Message, Reasoning, Role, Text

_MESSAGE_OVERHEAD = 4
_BYTES_PER_TOKEN = 3


def estimate(message: Message) -> int:
    """Roughly how many tokens a message takes; rather too many than too few.

    Three bytes of UTF-8 to a token: English text has about four, Chinese about three. Reasoning
    is not counted, since it is not sent back.
    """
    size = len(message.name or "") + len(message.tool_call_id or "")
    for part in message.parts:
        match part:
            case Text(text=text):
                size += len(text.encode("utf-8", "surrogatepass"))
            case Reasoning():
                pass
            case _:
                size += len(part.name) + len(part.arguments.encode("utf-8", "surrogatepass"))
    return _MESSAGE_OVERHEAD + -(-size // _BYTES_PER_TOKEN)


def estimate_all(messages: Iterable[Message]) -> int:
    """The sum of the estimates."""
    return sum(map(estimate, messages))


def newest_that_fit(messages: Sequence[Message], budget: int) -> tuple[Message, ...]:
    """The longest end of `messages` within `budget` tokens that starts with a user's message.

    A history that began with an answer, or with a tool's result, would be refused by providers.
    """
    start = len(messages)
    spent = 0
    for i in range(len(messages) - 1, -1, -1):
        spent += estimate(messages[i])
        if spent > budget:
            break
        if messages[i].role is Role.USER:
            start = i
    return tuple(messages[start:])
