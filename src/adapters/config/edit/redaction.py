"""Redacts secrets in a configuration.

There are two views. For an administrator, keys that the schema marks are hidden, and what looks
like a secret by its name or value. For a reader, heuristics are not enough: every string outside
the schema is hidden too, and so are file paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BeforeValidator

from ..loading import Loaded
from ..read import INCLUDE, Node, members
from ..schema import ROOT, Place
from ..secret_texts import REDACTED, masked, sounds_secret

_PLACES = ("directory", "file", "log", "store")
"""Kinds of paths that only administrators see."""
_SECRET_DIGITS = 4
"""A number of at least this many digits may be a secret, such as a PIN."""
_LONGEST_KEY = 64
_PLAIN_KEY = re.compile(r"[A-Za-z$*][A-Za-z_.*-]*")
_NAMES, _VALUES = ("name", "key", "header", "field", "id"), ("value", "val", "content", "text")
"""Members of an object that is a name-value pair."""


def redacted(loaded: Loaded, *, reader: bool = False) -> dict[str, Any]:
    """The configuration in force, defaults included, with secrets replaced by REDACTED.

    Strings that name variables are shown as written. `reader`: for a user who is not an
    administrator.
    """
    dump = loaded.config.model_dump(by_alias=True, exclude_none=True)
    shown: dict[str, Any] = _View(reader, loaded.tree).shown(dump, ROOT)
    return shown


def redacted_value(value: object, *, reader: bool = False) -> object:
    """The value of a configuration file, with secrets replaced by REDACTED."""
    return _View(reader).shown(value, ROOT)


def _is_free(place: Place) -> bool:
    """Whether any value is valid there."""
    return place.shape is None or place.shape.kind == "anything"


def _accepts(place: Place, text: str) -> bool:
    """Whether the schema accepts this string there."""
    scalar = _is_free(place) or (place.shape is not None and place.shape.kind == "scalar")
    if place.field is None:
        return scalar
    return _takes(place.field.annotation if scalar else None, place.field.metadata, text)


@dataclass(frozen=True, slots=True)
class _View:
    """`tree`: the origins of the values, if known."""

    reader: bool
    tree: Node = field(default_factory=lambda: Node({}, "", ()))

    def shown(self, value: Any, place: Place) -> Any:
        match value:
            case dict():
                named = _is_free(place) and _names_secret(value)
                return {
                    self._key(key, i, place): self._member(item, place.below(key), named)
                    for i, (key, item) in enumerate(value.items())
                }
            case list():
                return self._list(value, place)
            case str():
                return self._text(value, place)
            case _ if self.reader and _is_free(place):
                return hidden(value)
            case _:
                return value

    def _member(self, value: Any, place: Place, named: bool) -> Any:
        key = str(place.path[-1])
        if key == INCLUDE and not self.reader:
            return value
        guessed = place.field is None and (_is_free(place) or _accepts(place, ""))
        if guessed and not sounds_secret(key) and not (named and key in _VALUES):
            guessed = False
        if guessed or place.marked("x-secret"):
            return hidden(value, includes=self.reader)
        return self.shown(value, place)

    def _list(self, items: list[Any], place: Place) -> list[Any]:
        shown, option = [], False
        for i, item in enumerate(items):
            # In a command, the word after `--token` is a secret.
            shown.append(hidden(item) if option else self.shown(item, place.below(i)))
            option = _is_free(place) and _is_secret_option(item)
        return shown

    def _text(self, text: str, place: Place) -> str:
        node, rest = self.tree.at(place.path)
        written = text if rest or node.written is None else node.written
        if self.reader and (
            _is_free(place) or place.marked("x-machine") in _PLACES or not _accepts(place, text)
        ):
            return REDACTED
        if place.shape is not None and place.field is not None and not _accepts(place, ""):
            # A string in the wrong place may be a secret.
            return written if _accepts(place, text) else REDACTED
        return masked(written)

    def _key(self, key: Any, i: int, place: Place) -> Any:
        return f"{REDACTED}{i}" if self.reader and _is_odd(key, place) else key


def hides_keys(value: Any, place: Place = ROOT) -> bool:
    """Whether keys are hidden from a reader, so that the text must be hidden too."""
    return any(
        (isinstance(value, dict) and _is_odd(key, place)) or hides_keys(item, place.below(key))
        for key, item in members(value)
    )


def hidden(value: Any, *, includes: bool = False) -> Any:
    """`value` with strings and long numbers replaced; paths of includes only with `includes`."""
    match value:
        case dict():
            return {
                key: item if key == INCLUDE and not includes else hidden(item, includes=includes)
                for key, item in value.items()
            }
        case list():
            return [hidden(item, includes=includes) for item in value]
        case str():
            return REDACTED
        case bool():
            return value
        case int() | float() if sum(map(str.isdigit, repr(value))) >= _SECRET_DIGITS:
            return REDACTED
        case _:
            return value


def _is_odd(key: Any, place: Place) -> bool:
    """Whether a key may be a secret itself, such as a name, a number or a token."""
    if not _is_free(place) or not isinstance(key, str):
        return False
    return len(key) > _LONGEST_KEY or _PLAIN_KEY.fullmatch(key) is None


def _names_secret(value: dict[Any, Any]) -> bool:
    names = (value.get(name) for name in _NAMES)
    return any(isinstance(name, str) and sounds_secret(name) for name in names)


def _is_secret_option(word: Any) -> bool:
    return isinstance(word, str) and word.startswith("-") and sounds_secret(word.lstrip("-"))


def _takes(annotation: Any, metadata: Iterable[Any], text: str) -> bool:
    inputs = [one.json_schema_input_type for one in metadata if isinstance(one, BeforeValidator)]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return text in args
    if origin is Annotated:
        return _takes(args[0], args[1:], text)
    return annotation is str or any(_takes(arm, (), text) for arm in (*inputs, *args))
