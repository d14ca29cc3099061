"""From validated values to the domain's settings."""

from .built_in import BUILT_IN
from .gateway import is_loopback
from .settings import build_settings

__all__ = ["BUILT_IN", "build_settings", "is_loopback"]
