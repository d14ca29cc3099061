"""How much of a Session's past goes into a model call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..messages import Image, Message, Reasoning, Role, Text

_MESSAGE_OVERHEAD = 4
_PIECE = 65_536
_BYTES_PER_TOKEN = 3
_TOKENS_PER_IMAGE = 1_000
"""Providers charge for an image by its measures, which nobody here decodes: of common sizes about
a thousand tokens, however many bytes it has."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """The newest Messages of a Session that fit a budget, oldest first."""

    messages: tuple[Message, ...] = ()
    complete: bool = True
    """False when older messages were left out."""
    tokens: int | None = field(default=None, compare=False)
    """The sum of their estimates, where who made it knows it: spares counting a long one again."""


def estimate(message: Message) -> int:
    """Roughly how many tokens a message takes; rather too many than too few.

    Three bytes of UTF-8 to a token: English text has about four, Chinese about three. An
    image counts as much as any other. Reasoning is not counted, since it is not sent back.
    """
    if not message._tokens:
        # A frozen message cannot change, so neither can its size.
        object.__setattr__(message, "_tokens", _estimated(message))
    return message._tokens


def estimate_all(messages: Iterable[Message]) -> int:
    """The sum of the estimates."""
    return sum(map(estimate, messages))


def fitting(transcript: Transcript, budget: int, message_count: int) -> Transcript:
    """What of a transcript fits `budget` tokens; `message_count` is that of the whole session."""
    messages, tokens = transcript.messages, transcript.tokens
    if tokens is not None and tokens <= budget and messages and messages[0].role is Role.USER:
        return transcript
    start, tokens = _start_of_newest(messages, budget)
    return Transcript(messages[start:], len(messages) - start == message_count, tokens)


def newest_that_fit(messages: Sequence[Message], budget: int) -> tuple[Message, ...]:
    """The longest end of `messages` within `budget` tokens that starts with a user's message.

    A history that began with an answer, or with a tool's result, would be refused by providers.
    """
    start, _ = _start_of_newest(messages, budget)
    return tuple(messages[start:])


def _start_of_newest(messages: Sequence[Message], budget: int) -> tuple[int, int]:
    """Where the newest messages that fit begin, and how many tokens they have."""
    start, tokens, spent = len(messages), 0, 0
    for i, message in enumerate(reversed(messages), 1):
        # Without a call for what is known: a long session is walked through for every turn.
        spent += message._tokens or estimate(message)
        if spent > budget:
            break
        if message.role is Role.USER:
            start, tokens = len(messages) - i, spent
    return start, tokens


def _estimated(message: Message) -> int:
    size, images = len(message.name or "") + len(message.tool_call_id or ""), 0
    for part in message.parts:
        match part:
            case Text(text=text):
                size += _utf8_size(text)
            case Reasoning():
                pass
            case Image():
                images += 1
            case _:
                size += len(part.name) + _utf8_size(part.arguments)
    return _MESSAGE_OVERHEAD + images * _TOKENS_PER_IMAGE + -(-size // _BYTES_PER_TOKEN)


def _utf8_size(text: str) -> int:
    """Bytes as UTF-8; what is not there yet is not made, but for a piece at a time."""
    if text.isascii():
        return len(text)
    starts = range(0, len(text), _PIECE)
    return sum(
        len(text[start : start + _PIECE].encode("utf-8", "surrogatepass")) for start in starts
    )
