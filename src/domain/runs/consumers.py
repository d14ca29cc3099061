"""What each consumer of run events does with each kind of event."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])
_ATTRIBUTE = "__consumed_events__"


@dataclass(frozen=True, slots=True)
class Consumed:
    """The types of the events that a function handles, and of those that it ignores."""

    handles: frozenset[type]
    ignores: frozenset[type]


def consumes(*handles: type, ignores: Iterable[type] = ()) -> Callable[[_Function], _Function]:
    """Declare what a function does with the events of each kind; the function stays as it is.

    tests/domain/test_consumers.py finds the functions that compare the types of events. Each has to
    declare every kind of `KINDS`, so that a new kind is decided on everywhere. While the program
    runs, a function has to pass over events of any other type: a newer process may store them.
    """
    consumed = Consumed(frozenset(handles), frozenset(ignores))

    def declare(function: _Function) -> _Function:
        setattr(function, _ATTRIBUTE, consumed)
        return function

    return declare


def consumed_by(function: object) -> Consumed | None:
    """What a function declares; None if it declares nothing."""
    consumed = getattr(function, _ATTRIBUTE, None)
    return consumed if isinstance(consumed, Consumed) else None
