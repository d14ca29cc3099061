"""Events of a reload, and the differences between two configurations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from .errors import Issue, KeyPath, dotted
from .schema import ROOT, Place, Root


@dataclass(frozen=True, slots=True)
class Applied:
    """A new generation of settings is in force.

    `changed`: dotted paths; `restart_needed`: those that need a restart; `notes`: the new ones.
    """

    changed: tuple[str, ...]
    restart_needed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """The files are invalid; the last good generation stays in force."""

    issues: tuple[Issue, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """The files changed, but `gateway.reload.mode` is `off` or `restart`."""

    mode: str
    changed: tuple[str, ...]


ReloadEvent = Applied | Rejected | Skipped


def differences(old: Root, new: Root) -> tuple[KeyPath, ...]:
    """The paths at which two configurations differ, defaults included. A list is one path."""
    return differing(old.model_dump(by_alias=True), new.model_dump(by_alias=True))


def differing(old: object, new: object) -> tuple[KeyPath, ...]:
    """The same for their plain data."""
    return tuple(_between(old, new, ()))


def needs_restart(path: KeyPath) -> bool:
    """Whether a change at `path` needs a restart."""
    places = accumulate(path, Place.below, initial=ROOT)
    return any(place.marked("x-restart") for place in places)


def dotted_paths(paths: tuple[KeyPath, ...]) -> tuple[str, ...]:
    """The paths as text, in order."""
    return tuple(sorted(map(dotted, paths)))


def _between(old: object, new: object, path: KeyPath) -> Iterator[KeyPath]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _between(old.get(key), new.get(key), (*path, key))
    elif old != new:
        yield path
