"""The schema with hints for a form: labels, help and which fields are secret."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from ..schema import INERT, Root, json_schema
from ..schema.walk import Entry, entries, mark

_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def described_schema(now: float) -> dict[str, object]:
    """The schema and hints for a form. `now`: Unix seconds."""
    return {
        "schema": json_schema(),
        "uiHints": _hints(),
        "version": _version(),
        "generatedAt": datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z"),
    }


def _hints() -> dict[str, object]:
    known = {".".join(entry.path): _hint(entry, i) for i, entry in enumerate(entries(Root))}
    inert = {
        ".".join(path): {
            "label": _label(path),
            "group": path[0],
            "order": order,
            "help": row.meaning,
            "advanced": True,
        }
        for order, (path, row) in enumerate(INERT.items(), len(known))
    }
    return {**known, **inert}


def _hint(entry: Entry, order: int) -> dict[str, object]:
    hint: dict[str, object] = {"label": _label(entry.path), "group": entry.path[0], "order": order}
    if entry.field.description:
        hint["help"] = entry.field.description
    if mark(entry.field, "x-secret"):
        hint["sensitive"] = True
    return hint


def _label(path: tuple[str, ...]) -> str:
    """`maxBodyBytes` becomes `Max body bytes`."""
    words = " ".join(_WORD.findall(path[-1])).lower()
    return words[:1].upper() + words[1:]


def _version() -> str:
    try:
        return version("opensoul")
    except PackageNotFoundError:
        return "unknown"
