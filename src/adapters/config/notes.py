"""Says which keys of a configuration have no effect, read off the marks in the schema."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from .issues import dotted
from .schema import Root
from .schema.walk import is_inert, mark


def notes_on(config: Root) -> Iterator[str]:
    """One sentence for each key that was given and has no effect, lists and records folded."""
    return iter(dict.fromkeys(_of_model(config, ())))


def _of_model(model: BaseModel, path: tuple[str, ...]) -> Iterator[str]:
    for attribute, field in type(model).model_fields.items():
        if attribute not in model.model_fields_set:
            continue
        here = (*path, field.alias or attribute)
        if is_inert(field):
            more = mark(field, "x-note")
            yield f"{dotted(here)} has no effect here{f': {more}' if more else ' yet'}."
        else:
            yield from _of_value(getattr(model, attribute), here)


def _of_value(value: object, path: tuple[str, ...]) -> Iterator[str]:
    match value:
        case BaseModel():
            yield from _of_model(value, path)
        case list():
            for item in value:
                yield from _of_value(item, (*path[:-1], f"{path[-1]}[]"))
        case dict():
            for item in value.values():
                yield from _of_value(item, (*path, "*"))
