"""Shows and edits the configuration file, with its secrets hidden."""

from .editor import ConfigEditor, node_independent_text
from .redaction import redacted
from .saving import save

__all__ = [
    "ConfigEditor",
    "node_independent_text",
    "redacted",
    "save",
]
