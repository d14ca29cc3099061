"""The agents as A2A agents: https://a2a-protocol.org. The package `a2a-sdk`, an optional extra, is
imported when the endpoint is first used."""

from .extra import ADVICE, PROBLEM, is_installed
from .transport import transport

__all__ = ["ADVICE", "PROBLEM", "is_installed", "transport"]
