"""The server: makes the application and serves it on its addresses."""

from .factory import create_app
from .host import PortTaken, TlsUnusable, host

__all__ = [
    "PortTaken",
    "TlsUnusable",
    "create_app",
    "host",
]
