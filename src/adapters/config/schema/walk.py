"""Introspection of the schema: the keys of a place, their shapes and marks.

Validation, redaction, the reference page and the tests read the models through this module, so
that there is only one list of keys.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ..errors import KeyPath
from .inert import INERT, StarPath


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a value. `item`: the annotation of a record's or a list's elements."""

    kind: Literal["object", "record", "list", "scalar", "anything"]
    model: type[BaseModel] | None = None
    item: Any = None


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a value in a configuration.

    `stars`: the path with `*` for a record's keys and a list's positions. `shape`: None outside the
    schema, and at keys without an effect. Elements of a list have the field of the list.
    """

    path: KeyPath
    stars: StarPath
    shape: Shape | None
    field: FieldInfo | None = None

    def below(self, key: str | int) -> Place:
        """The place of a member or an element."""
        many = self.shape is not None and self.shape.kind in ("record", "list")
        stars = (*self.stars, "*" if many else str(key))
        shape, field = _below(self.shape, key) or (None, None)
        if stars in INERT:
            shape = field = None
        field = self.field if isinstance(key, int) else field
        return Place((*self.path, key), stars, shape, field)

    def marked(self, name: str) -> Any:
        """A mark of the field, or None."""
        return None if self.field is None else mark(self.field, name)


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that has an effect. `path` has `*` for a record's keys and for a list's positions."""

    path: tuple[str, ...]
    field: FieldInfo
    shape: Shape


def shape_of(annotation: Any) -> Shape:
    """The shape of an annotation, through Annotated and `| None`."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return shape_of(args[0])
    if origin in (Union, types.UnionType):
        return _union_shape(args)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Shape("object", model=annotation)
    if origin is dict:
        return Shape("record", item=args[1])
    if origin is list:
        return Shape("list", item=args[0])
    return Shape("anything" if annotation is Any else "scalar")


def _union_shape(args: tuple[Any, ...]) -> Shape:
    arms = [arm for arm in args if arm is not type(None)]
    return shape_of(arms[0]) if len(arms) == 1 else Shape("scalar")


@cache
def fields_of(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The fields of a model that have an effect, by their names in files."""
    return {
        field.alias or name: field
        for name, field in model.model_fields.items()
        if not mark(field, "x-inert")
    }


@cache
def _members(model: type[BaseModel]) -> Mapping[str, tuple[Shape, FieldInfo]]:
    return {name: (shape_of(field.annotation), field) for name, field in fields_of(model).items()}


def mark(field: FieldInfo, name: str) -> Any:
    """A mark of the field (see `fields`), or None."""
    marks = field.json_schema_extra
    return marks.get(name) if isinstance(marks, dict) else None


def _below(shape: Shape | None, key: str | int) -> tuple[Shape, FieldInfo | None] | None:
    """The shape at `key` inside `shape`, with its field; None outside the schema."""
    if shape is None:
        return None
    if shape.kind == "object" and shape.model is not None and isinstance(key, str):
        member = _members(shape.model).get(key)
        if member is not None:
            return member
        # Keys without a field have an effect where their type is declared.
        declared = "__pydantic_extra__" in shape.model.__annotations__
        return (Shape("scalar"), None) if declared else None
    if shape.kind in ("record", "list"):
        return shape_of(shape.item), None
    return None


def entries(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Every key that has an effect, objects before their members."""
    for name, (shape, field) in _members(model).items():
        entry = Entry((*path, name), field, shape)
        yield entry
        at, inner = entry.path, shape
        while inner.kind in ("record", "list"):
            at, inner = (*at, "*"), shape_of(inner.item)
        if inner.model is not None:
            yield from entries(inner.model, at)
