"""Shows and edits the configuration file, with its secrets hidden."""

from .editor import ConfigEditor
from .redaction import redacted

__all__ = [
    "ConfigEditor",
    "redacted",
]
