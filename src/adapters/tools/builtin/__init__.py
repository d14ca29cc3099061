"""The tools that come with the Gateway: files, commands, web pages, memory, sessions."""

from .sessions import SessionTools
from .toolbox import BuiltinTools

__all__ = ["BuiltinTools", "SessionTools"]
