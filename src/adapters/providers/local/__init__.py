"""Models on this machine, each in a child process."""

from .client import LocalModels
from .files import DEFAULT_MODEL, FetchFailed, fetch, known_models

__all__ = [
    "DEFAULT_MODEL",
    "FetchFailed",
    "LocalModels",
    "fetch",
    "known_models",
]
