"""The reference page of the configuration, generated from the schema.

`python -m opensoul.adapters.config.reference` prints it.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterable
from importlib.resources import files
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .schema import INERT, Root, StarPath
from .schema.walk import Entry, entries, mark, shape_of

_LARGE = 1_000_000
"""Upper bounds from here on are not mentioned."""


def render_reference() -> str:
    """The page, in Markdown."""
    known = list(entries(Root))
    introduction = files(__package__).joinpath("reference.md").read_text("utf-8")
    lines = [introduction, "## Keys with an effect", "", *_LEGEND]
    for section in (entry for entry in known if entry.shape.kind == "object" and _is_top(entry)):
        name = section.path[0]
        lines += ["", f"### `{name}`", "", _meaning(section), "", *_HEAD]
        lines += [_row(entry) for entry in known if _in(entry, name)]
    lines += ["", "## Keys without an effect", "", *_WITHOUT]
    lines += [_inert_line(path) for path in sorted(INERT) if path[:2] != _ALIKE]
    return "\n".join(lines) + "\n"


_LEGEND = [
    "`*` is any key, or a position in a list. *Ours*: an addition to the schema that this one is",
    "compatible with. *Restart*: takes effect after a restart. *Machine*: names a path, a program",
    "or an address of the machine, or protects it; clients cannot write new values there over the",
    "network, except paths inside the state directory.",
]
_HEAD = ["| key | type | default | meaning |", "|---|---|---|---|"]
_WITHOUT = [
    "These keys are accepted so that files of compatible programs can be used unchanged. Their",
    "values are not checked, and variables in them are not replaced. Each one that is set is named",
    "in a note at the start and by `opensoul doctor`. Those of `agents.list` are the same in",
    "`agents.entries`. As other programs read the same file, clients can remove them over the",
    "network, but set only those marked *Client*.",
    "",
]
_ALIKE = ("agents", "entries")


def _is_top(entry: Entry) -> bool:
    return len(entry.path) == 1


def _in(entry: Entry, name: str) -> bool:
    return entry.path[0] == name and len(entry.path) > 1


def _row(entry: Entry) -> str:
    cells = (f"`{'.'.join(entry.path)}`", type_text(entry.field), _default(entry.field))
    return f"| {' | '.join((*cells, _meaning(entry)))} |"


def _meaning(entry: Entry) -> str:
    words = [(entry.field.description or "").replace("|", "\\|")]
    if mark(entry.field, "x-restart"):
        words.append("*Restart.*")
    if mark(entry.field, "x-addition"):
        words.append("*Ours.*")
    if mark(entry.field, "x-machine") not in (None, "server"):
        words.append("*Machine.*")
    return " ".join(words)


def _inert_line(path: StarPath) -> str:
    row = INERT[path]
    client = " *Client.*" if row.remote else ""
    return f"- `{'.'.join(path)}`: {row.meaning}{f' Here: {row.note}.' if row.note else ''}{client}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value)}`"


def type_text(field: FieldInfo) -> str:
    """The type of a field as text."""
    return _with_bounds(_type(field.annotation, field.metadata), field.metadata)


def _type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    for item in metadata:
        if (
            isinstance(item, BeforeValidator)
            and item.json_schema_input_type is not PydanticUndefined
        ):
            return _type(item.json_schema_input_type)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _with_bounds(_type(args[0], args[1:]), args[1:])
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in args)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(arm) for arm in args if arm is not type(None))
    if origin is list:
        return f"list of {_type(args[0])}"
    shape = shape_of(annotation)
    if shape.kind in ("object", "record"):
        return "object"
    names = {bool: "true or false", int: "whole number", float: "number", str: "string"}
    return names.get(annotation, "anything")


def _with_bounds(text: str, metadata: Iterable[Any]) -> str:
    found: dict[str, Any] = {}
    for item in metadata:
        for inner in (item, *getattr(item, "metadata", ())):
            found |= {
                name: getattr(inner, name) for name in ("ge", "gt", "le") if hasattr(inner, name)
            }
    low = found.get("ge")
    high = found.get("le", _LARGE)
    words = {
        (True, True): f", {low} to {high}",
        (True, False): f", {low} or more",
        (False, False): f", more than {found.get('gt')}" if "gt" in found else "",
        (False, True): f", at most {high}",
    }
    return text + words[low is not None, high < _LARGE]


if __name__ == "__main__":
    print(render_reference(), end="")  # noqa: T201 - for `make docs`
