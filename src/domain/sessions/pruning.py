"""Old results of tools, shortened or left out in what a model gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..agents import PruningSettings
from ..messages import Image, Message, Role, Text
from ..tools import matches
from .history import estimate, estimate_all

_LEFT_OUT = (
    "[This result was left out, because the conversation has become too long for the model. Call "
    "the tool again if the result is still needed.]"
)


def pruned(
    messages: tuple[Message, ...], cold: int, settings: PruningSettings, window: int
) -> tuple[Message, ...]:
    """The messages with old results pruned; the same object where none is. `window`: tokens.

    `cold`: how many of the messages were there when the provider's cache had expired. Only these
    count, also for the share of the window that is used: until the cache expires again, the
    beginning of the conversation stays the same, and the cache is of use.
    """
    old = messages[:cold]
    end = _unprotected(old, settings.keep_last_assistants)
    tokens = estimate_all(old)
    if not end or tokens < settings.soft_trim_ratio * window:
        return messages
    result = list(messages)
    for i in _prunable(old[:end], settings):
        result[i] = _trimmed(old[i], settings)
        tokens += estimate(result[i]) - estimate(old[i])
    places = list(_prunable(result[:end], settings))
    chars = sum(len(result[i].text) for i in places)
    if settings.hard_clear and chars >= settings.min_prunable_chars:
        for i in places:
            if tokens < settings.hard_clear_ratio * window:
                break
            cleared = replace(result[i], parts=(Text(settings.placeholder),))
            if estimate(cleared) < estimate(result[i]):
                tokens += estimate(cleared) - estimate(result[i])
                result[i] = cleared
    changed = any(new is not was for new, was in zip(result, messages, strict=True))
    return tuple(result) if changed else messages


def relieved(messages: tuple[Message, ...], limit: int) -> tuple[Message, ...]:
    """The question and the steps of a Run, in at most `limit` tokens if possible: where there are
    more, the oldest results are left out until half as many tokens are used. What stands behind the
    newest calls stays. The same object where nothing is left out.

    It goes through the messages from the beginning, so that what it makes of them stays the same as
    more are added, until there are too many again.
    """
    if estimate_all(messages) <= limit:
        return messages
    kept = list(messages)
    used = oldest = newest_calls = 0
    for i, message in enumerate(messages):
        used += estimate(message)
        if message.role is Role.ASSISTANT:
            newest_calls = i
        if used <= limit:
            continue
        while oldest < newest_calls and used > limit // 2:
            old = messages[oldest]
            if old.role is Role.TOOL:
                shorter = replace(old, parts=(Text(_LEFT_OUT),))
                if estimate(shorter) < estimate(old):
                    used += estimate(shorter) - estimate(old)
                    kept[oldest] = shorter
            oldest += 1
    return tuple(kept)


def saved_by(new: Sequence[Message], old: Sequence[Message]) -> tuple[int, int]:
    """How many of the messages were changed, and roughly how many tokens that saves."""
    changed = sum(one is not other for one, other in zip(new, old, strict=True))
    return changed, estimate_all(old) - estimate_all(new)


def _unprotected(messages: Sequence[Message], keep_last: int) -> int:
    """How many messages stand before the newest answers that are protected with what follows."""
    answers = [i for i, message in enumerate(messages) if message.role is Role.ASSISTANT]
    if keep_last == 0:
        return len(messages)
    return answers[-keep_last] if len(answers) >= keep_last else 0


def _prunable(messages: Sequence[Message], settings: PruningSettings) -> Iterator[int]:
    """The places of the results that may be pruned."""
    for i, message in enumerate(messages):
        if message.role is not Role.TOOL or any(isinstance(p, Image) for p in message.parts):
            continue
        name = (message.name or "").lower()
        if settings.allow and not _named(name, settings.allow):
            continue
        if not _named(name, settings.deny):
            yield i


def _named(name: str, patterns: Sequence[str]) -> bool:
    return any(matches(pattern.lower().split("*"), name) for pattern in patterns)


def _trimmed(message: Message, settings: PruningSettings) -> Message:
    text, head, tail = message.text, settings.soft_head_chars, settings.soft_tail_chars
    missing = len(text) - head - tail
    if len(text) <= settings.soft_max_chars or missing <= 0:
        return message
    mark = f"\n[... {missing} characters of this old result are left out ...]\n"
    shorter = replace(message, parts=(Text(text[:head] + mark + text[len(text) - tail :]),))
    return shorter if estimate(shorter) < estimate(message) else message
