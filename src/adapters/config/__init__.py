"""Configuration files become domain settings, and stay in step with them while serving."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .issues import ConfigInvalid, Issue, render
from .places import Locations, NoPlace, Overrides, home_directory, is_text, locate

if TYPE_CHECKING:
    from .changes import Applied, Rejected, ReloadEvent, Skipped
    from .context import Inputs
    from .editing import ConfigEditor
    from .loading import Loaded, load
    from .redaction import redacted
    from .reference import render_reference
    from .schema import Root, json_schema
    from .secret_texts import REDACTED, masked
    from .source import ConfigSource

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
    "home_directory",
    "is_text",
    "json_schema",
    "load",
    "locate",
    "masked",
    "redacted",
    "render",
    "render_reference",
]

# pydantic takes a third of a second to import, which a command that needs no file should not pay.
_LATER = {
    "Applied": "changes",
    "ConfigEditor": "editing",
    "ConfigSource": "source",
    "Inputs": "context",
    "Loaded": "loading",
    "REDACTED": "secret_texts",
    "Rejected": "changes",
    "ReloadEvent": "changes",
    "Root": "schema",
    "Skipped": "changes",
    "json_schema": "schema",
    "load": "loading",
    "masked": "secret_texts",
    "redacted": "redaction",
    "render_reference": "reference",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATER[name]}", __name__), name)
