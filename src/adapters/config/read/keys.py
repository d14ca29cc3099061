"""Keys that the schema does not have: notes, and errors.

Keys of the table `INERT` and unknown keys are noted, as files of other programs have many of them.
An unknown key is an error if a key with an effect in the same object is spelled similarly, and in
objects that are `ours`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import KeyPath, dotted, listing
from ..schema import INERT, ROOT, Place, StarPath
from ..schema.fields import Section
from ..schema.walk import fields_of
from .documents import members

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


def unknown_keys(data: Any) -> Iterator[UnknownKey]:
    """The outermost keys that the schema does not have.

    If there are very many, only the first are noted and compared with known keys.
    """
    unknown = 0
    for place, model in _in(data, ROOT):
        if place.stars in INERT:
            yield UnknownKey(place.path, note=_inert_note(place))
            continue
        unknown += 1
        key = _unknown(place, model, guess=unknown <= _MAX_GUESSES)
        if unknown <= _MAX_GUESSES or key.error is not None:
            yield key
    if unknown > _MAX_GUESSES:
        more = unknown - _MAX_GUESSES
        yield UnknownKey((), note=f"{more} more keys are not known here and have no effect.")


def _in(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """The keys of the table and the unknown ones, each with the model of its object."""
    kind = None if place.shape is None else place.shape.kind
    if kind not in ("object", "record", "list") or isinstance(value, list) != (kind == "list"):
        return
    for key, item in members(value):
        inner = place.below(key)
        if inner.shape is not None:
            yield from _in(item, inner)
        else:
            yield inner, place.shape and place.shape.model


def _shown(place: Place) -> str:
    """The path as text, with `[]` for positions in lists, and `*` for keys of records."""
    shown: StarPath = ()
    for key, star in zip(place.path, place.stars, strict=True):
        shown = (*shown[:-1], f"{shown[-1]}[]") if isinstance(key, int) else (*shown, star)
    return dotted(shown)


def _inert_note(place: Place) -> str | None:
    row = INERT[place.stars]
    if row.silent:
        return None
    return f"{_shown(place)} has no effect here{f': {row.note}' if row.note else ' yet'}."


def _unknown(place: Place, model: Any, *, guess: bool) -> UnknownKey:
    if place.path in _MOVED:
        return UnknownKey(place.path, f"there is no such key any more; {_MOVED[place.path]}")
    allowed = sorted(fields_of(model))
    near = nearest(str(place.path[-1]), allowed) if guess else None
    if near is not None or (issubclass(model, Section) and model.ours):
        meant = "" if near is None else f"; did you mean `{near}`?"
        message = f"there is no such key{meant or '.'} Allowed here: {listing(allowed)}"
        return UnknownKey(place.path, message)
    return UnknownKey(place.path, note=f"{_shown(place)} is not known here and has no effect.")


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
