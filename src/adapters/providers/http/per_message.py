"""A cache of what was computed from a message."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar
from weakref import ref

from ....domain.messages import Message

T = TypeVar("T")


class PerMessage(Generic[T]):
    """Caches the value that `compute` has for a message for the lifetime of the Message object.

    A session's transcript is sent with every turn, so most messages have been sent before. The
    cache is keyed by identity (hashing the content would cost more than encoding it); a weak
    reference removes the entry when the message is collected, before its id can be reused.

    Thread-safe: if two threads compute the same value, the last entry stays, with an equal value.
    The caller holds the message, so its entry cannot disappear during a call.
    """

    def __init__(self, compute: Callable[[Message], T]) -> None:
        self._compute = compute
        self._values: dict[int, tuple[ref[Message], T]] = {}

    def __call__(self, message: Message) -> T:
        known = self._values.get(id(message))
        if known is not None:
            return known[1]
        value = self._compute(message)
        self._values[id(message)] = (ref(message, partial(self._forget, id(message))), value)
        return value

    def __len__(self) -> int:
        return len(self._values)

    def _forget(self, key: int, gone: ref[Message]) -> None:
        if self._values[key][0] is gone:
            del self._values[key]
