"""What every HTTP transport shares: principals, limits, headers, errors, the access log."""

from .context import principal
from .errors import HttpRejection, Problem
from .install import install

__all__ = [
    "HttpRejection",
    "Problem",
    "install",
    "principal",
]
