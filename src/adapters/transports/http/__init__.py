"""What every HTTP transport shares: who asks, what the answer carries, how errors look, the log."""

from .context import principal
from .errors import HttpRejection, Problem
from .install import install
from .openapi import SCHEMA_REF, document, json_content

__all__ = [
    "SCHEMA_REF",
    "HttpRejection",
    "Problem",
    "document",
    "install",
    "json_content",
    "principal",
]
