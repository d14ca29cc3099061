"""Reads configuration files into domain settings, reloads them, and edits them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    ConfigInvalid,
    Issue,
    Locations,
    NoPlace,
    Overrides,
    home_directory,
    is_text,
    locate,
    render,
)

if TYPE_CHECKING:
    from .changes import Applied, Rejected, ReloadEvent, Skipped, differing, needs_restart
    from .edit import ConfigEditor, redacted
    from .errors import REDACTED, masked
    from .loading import Loaded, load
    from .read import Inputs
    from .reference import render_reference
    from .schema import Root, json_schema
    from .watch import ConfigSource

__all__ = [
    "REDACTED",
    "Applied",
    "ConfigEditor",
    "ConfigInvalid",
    "ConfigSource",
    "Inputs",
    "Issue",
    "Loaded",
    "Locations",
    "NoPlace",
    "Overrides",
    "Rejected",
    "ReloadEvent",
    "Root",
    "Skipped",
    "differing",
    "home_directory",
    "is_text",
    "json_schema",
    "load",
    "locate",
    "masked",
    "needs_restart",
    "redacted",
    "render",
    "render_reference",
]

# pydantic takes a third of a second to import; commands that need no file do not load it.
_LATER = {
    "Applied": "changes",
    "ConfigEditor": "edit.editor",
    "ConfigSource": "watch",
    "Inputs": "read.context",
    "Loaded": "loading",
    "REDACTED": "errors.secret_texts",
    "Rejected": "changes",
    "ReloadEvent": "changes",
    "Root": "schema",
    "Skipped": "changes",
    "differing": "changes",
    "json_schema": "schema",
    "load": "loading",
    "masked": "errors.secret_texts",
    "needs_restart": "changes",
    "redacted": "edit.redaction",
    "render_reference": "reference",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATER[name]}", __name__), name)
