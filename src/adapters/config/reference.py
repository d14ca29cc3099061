"""The reference page of the configuration, generated from the schema.

`python -m opensoul.adapters.config.reference` prints it.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .schema import INERT, Root, StarPath, json_schema, schema_at
from .schema.walk import Entry, entries, mark

_TYPES = {"boolean": "true or false", "integer": "whole number"}
_LARGE = 1_000_000
"""Upper bounds from here on are not mentioned."""


def render_reference() -> str:
    """The page, in Markdown."""
    known = list(entries(Root))
    schema = json_schema()
    introduction = files(__package__).joinpath("reference.md").read_text("utf-8")
    lines = [introduction, "## Keys with an effect", "", *_LEGEND]
    for section in (entry for entry in known if entry.shape.kind == "object" and _is_top(entry)):
        name = section.path[0]
        lines += ["", f"### `{name}`", "", _meaning(section), "", *_HEAD]
        lines += [_row(entry, schema) for entry in known if _in(entry, name)]
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


def _row(entry: Entry, schema: dict[str, Any]) -> str:
    kind = type_text(schema_at(schema, entry.path))
    cells = (f"`{'.'.join(entry.path)}`", kind, _default(entry.field))
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


def type_text(schema: dict[str, Any]) -> str:
    """The type of a JSON schema as text."""
    if "anyOf" in schema:
        arms = (arm for arm in schema["anyOf"] if arm.get("type") != "null")
        return " or ".join(map(type_text, arms))
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {type_text(schema['items'])}"
    kind = "object" if "$ref" in schema else schema.get("type", "anything")
    return f"{_TYPES.get(kind, kind)}{_bounds(schema)}"


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum", _LARGE)
    if low is None:
        above = schema.get("exclusiveMinimum")
        return "" if above is None else f", more than {above}"
    return f", {low} to {high}" if high < _LARGE else f", {low} or more"


if __name__ == "__main__":
    print(render_reference(), end="")  # noqa: T201 - for `make docs`
