"""The tools that come with the Gateway: files of the workspace, commands, web pages, sessions."""

from .sessions import SessionTools
from .toolbox import BuiltinTools

__all__ = ["BuiltinTools", "SessionTools"]
