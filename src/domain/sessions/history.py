"""How much of a Session's past goes into a model call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..messages import Image, Message, Reasoning, Role, Text
from .shortening import is_long, shortened

_MESSAGE_OVERHEAD = 4
_PIECE = 65_536
_BYTES_PER_TOKEN = 3
_TOKENS_PER_IMAGE = 1_000
"""Providers charge for an image by its measures, which nobody here decodes: of common sizes about
a thousand tokens, however many bytes it has."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a model gets instead of the first `through` messages of a transcript.

    `tokens_before`: roughly how many tokens it replaces; `model`: the `provider/model` that wrote
    it; `at`: Unix seconds.
    """

    text: str
    through: int
    tokens_before: int = 0
    model: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """The newest Messages of a Session that fit a budget, oldest first, behind its summary."""

    messages: tuple[Message, ...] = ()
    complete: bool = True
    """False when older messages were left out, other than those that the summary replaces."""
    tokens: int | None = field(default=None, compare=False)
    """The sum of their estimates, if known: a long one need not be counted again."""
    summary: Summary | None = None

    @property
    def may_begin_anywhere(self) -> bool:
        """The first message follows the summary, so that it need not be a user's."""
        return self.summary is not None and self.complete


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


def estimate_sent(message: Message, result_chars: int | None) -> int:
    """The estimate of the message as a model gets it: a tool's result of more than `result_chars`
    characters is shortened. None: nothing is shortened."""
    tokens = message._tokens or estimate(message)
    if (
        message.role is not Role.TOOL
        or result_chars is None
        # A character has one byte at least.
        or (tokens - _MESSAGE_OVERHEAD) * _BYTES_PER_TOKEN <= result_chars
        or not is_long(message, result_chars)
    ):
        return tokens
    return estimate(shortened(message, result_chars))


def fitting(
    transcript: Transcript, budget: int, message_count: int, result_chars: int | None = None
) -> Transcript:
    """What of a transcript fits `budget` tokens; `message_count` is that of the whole session
    behind the summary. `result_chars`: as in `estimate_sent`."""
    messages, tokens = transcript.messages, transcript.tokens
    anywhere = transcript.may_begin_anywhere
    if (
        tokens is not None
        and tokens <= budget
        and messages
        and (messages[0].role is Role.USER or anywhere)
    ):
        return transcript
    start, tokens = _start_of_newest(messages, budget, result_chars, anywhere)
    complete = len(messages) - start == message_count
    return Transcript(messages[start:], complete, tokens, transcript.summary)


def newest_that_fit(messages: Sequence[Message], budget: int) -> tuple[Message, ...]:
    """The longest end of `messages` within `budget` tokens that starts with a user's message.

    A history that began with an answer, or with a tool's result, would be refused by providers.
    """
    start, _ = _start_of_newest(messages, budget, None, anywhere=False)
    return tuple(messages[start:])


def _start_of_newest(
    messages: Sequence[Message], budget: int, result_chars: int | None, anywhere: bool
) -> tuple[int, int]:
    """Where the newest messages that fit begin, and the sum of their estimates. `anywhere`: where
    all fit, they may begin with any message."""
    start, tokens, spent, sent = len(messages), 0, 0, 0
    for i, message in enumerate(reversed(messages), 1):
        # Without a call for what is known: a long session is walked through for every turn.
        size = message._tokens or estimate(message)
        spent += size
        if result_chars is not None and message.role is Role.TOOL:
            size = estimate_sent(message, result_chars)
        sent += size
        if sent > budget:
            break
        if message.role is Role.USER or (anywhere and i == len(messages)):
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
