"""Keys that the schema does not have: notes, and errors.

Keys of the table `INERT` and unknown keys are noted, as files of other programs have many of them.
An unknown key is an error if a key with an effect in the same object is spelled similarly, and in
objects that are `ours`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ..errors import KeyPath, dotted, listing
from ..schema import INERT, Root, StarPath
from ..schema.fields import Section
from ..schema.walk import Shape, below, fields_of, shape_of

_MOVED: dict[KeyPath, str] = {
    ("agent",): "it is spelled agents.defaults now",
    ("gateway", "token"): "it is spelled gateway.auth.token now",
    ("identity",): "it is spelled agents.list[].identity now",
    ("routing",): "it is spelled bindings, messages or channels now, by its parts",
}
_LONGEST = 64
_MAX_GUESSES = 500
_SLIPS = ((5, 1), (11, 2), (_LONGEST, 3))
"""How many edits a similar key may be away, by its length."""


@dataclass(frozen=True, slots=True)
class UnknownKey:
    """Either an `error` or a `note`, or neither for a key that is silently ignored."""

    path: KeyPath
    error: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """`shown`: the path for people, with `[]` after a list."""

    path: KeyPath = ()
    stars: StarPath = ()
    shown: StarPath = ()

    def member(self, key: str) -> _Place:
        return _Place((*self.path, key), (*self.stars, key), (*self.shown, key))

    def item(self, key: str | int) -> _Place:
        """An element of a list, or a value of a record."""
        shown = (*self.shown, "*")
        if isinstance(key, int):
            shown = (*self.shown[:-1], f"{self.shown[-1]}[]")
        return _Place((*self.path, key), (*self.stars, "*"), shown)


def unknown_keys(data: Any) -> Iterator[UnknownKey]:
    """The outermost keys that the schema does not have.

    If there are very many, only the first are noted and compared with known keys.
    """
    unknown = 0
    for found in _in(data, Shape("object", model=Root), _Place()):
        if isinstance(found, UnknownKey):
            yield found
            continue
        unknown += 1
        key = _unknown(*found, guess=unknown <= _MAX_GUESSES)
        if unknown <= _MAX_GUESSES or key.error is not None:
            yield key
    if unknown > _MAX_GUESSES:
        more = unknown - _MAX_GUESSES
        yield UnknownKey((), note=f"{more} more keys are not known here and have no effect.")


def _in(
    value: Any, shape: Shape, place: _Place
) -> Iterator[UnknownKey | tuple[_Place, type[BaseModel] | None]]:
    """The verdict on a key of the table, or the place and the model of an unknown one."""
    match value:
        case dict() if shape.kind == "object":
            for key, item in value.items():
                here, found = place.member(key), below(shape, key)
                if here.stars in INERT:
                    yield UnknownKey(here.path, note=_inert_note(here))
                elif found is not None:
                    yield from _in(item, found[0], here)
                else:
                    yield here, shape.model
        case dict() if shape.kind == "record":
            for key, item in value.items():
                yield from _in(item, shape_of(shape.item), place.item(key))
        case list() if shape.kind == "list":
            for i, item in enumerate(value):
                yield from _in(item, shape_of(shape.item), place.item(i))


def _inert_note(place: _Place) -> str | None:
    row = INERT[place.stars]
    if row.silent:
        return None
    return f"{dotted(place.shown)} has no effect here{f': {row.note}' if row.note else ' yet'}."


def _unknown(place: _Place, model: Any, *, guess: bool) -> UnknownKey:
    if place.path in _MOVED:
        return UnknownKey(place.path, f"there is no such key any more; {_MOVED[place.path]}")
    allowed = sorted(fields_of(model))
    near = nearest(str(place.path[-1]), allowed) if guess else None
    if near is not None:
        meant = f"there is no such key; did you mean `{near}`? Allowed here: {listing(allowed)}"
        return UnknownKey(place.path, meant)
    if issubclass(model, Section) and model.ours:
        return UnknownKey(place.path, f"there is no such key. Allowed here: {listing(allowed)}")
    return UnknownKey(
        place.path, note=f"{dotted(place.shown)} is not known here and has no effect."
    )


def nearest(word: str, known: list[str]) -> str | None:
    """The most similar known word; None if none is similar enough."""
    if len(word) > _LONGEST:
        return None
    plain = _plain(word)
    slips = {name: _distance(plain, _plain(name)) for name in known}
    best = min(slips, key=lambda name: slips[name], default=None)
    if best is None or slips[best] > _allowed(min(len(plain), len(best))):
        return None
    return best


def _allowed(length: int) -> int:
    return next(slips for longest, slips in _SLIPS if length <= longest)


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def _distance(one: str, other: str) -> int:
    """The Damerau-Levenshtein distance: insertions, deletions, changes and swaps."""
    rows = [list(range(len(other) + 1))]
    for i, char in enumerate(one, 1):
        row = [i]
        for j, wanted in enumerate(other, 1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (char != wanted))
            if i > 1 and j > 1 and (char, one[i - 2]) == (other[j - 2], wanted):
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]
