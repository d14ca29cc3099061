"""Reads configuration files into domain settings, reloads them, and edits them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .locations import (
    DATABASE_VARIABLE,
    Locations,
    NoPlace,
    Overrides,
    home_directory,
    is_text,
    locate,
)
from .secret_texts import REDACTED, masked

if TYPE_CHECKING:
    from .changes import Applied, Rejected, ReloadEvent, Skipped, differing, needs_restart
    from .edit import ConfigEditor, node_independent_text, redacted, save
    from .errors import ConfigInvalid, Issue
    from .loading import Loaded, load, load_at
    from .node_keys import find, of_node
    from .read import Inputs
    from .reference import render_reference
    from .schema import Root, json_schema
    from .watch import ConfigSource

__all__ = [
    "DATABASE_VARIABLE",
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
    "find",
    "home_directory",
    "is_text",
    "json_schema",
    "load",
    "load_at",
    "locate",
    "masked",
    "needs_restart",
    "node_independent_text",
    "of_node",
    "redacted",
    "render_reference",
    "save",
]

_MODULES = ("errors", "loading", "schema", "changes", "reference", "edit", "node_keys", "watch")


def __getattr__(name: str) -> Any:
    # pydantic takes a third of a second to import; commands that need no file load none of these.
    if name in __all__:
        for module in _MODULES:
            found = import_module(f".{module}", __name__)
            if hasattr(found, name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
