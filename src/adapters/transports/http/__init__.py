"""What every HTTP transport shares: principals, limits, headers, errors, the access log."""

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
