"""The configuration file as something to show and to edit, with its secrets hidden."""

from .editor import ConfigEditor
from .redaction import redacted

__all__ = [
    "ConfigEditor",
    "redacted",
]
