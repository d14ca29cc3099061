"""Fetches resources of the public internet."""

from .addresses import Address, is_public
from .client import GuardedClient, resolve

__all__ = ["Address", "GuardedClient", "is_public", "resolve"]
