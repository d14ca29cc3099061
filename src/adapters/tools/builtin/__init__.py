"""The tools that come with the Gateway: files, commands, web pages, memory, sessions."""

from .sessions import SessionTools
from .tool import ToolFailed
from .toolbox import BuiltinTools
from .web_fetch import Fetcher
from .workspace import Workspace

__all__ = ["BuiltinTools", "Fetcher", "SessionTools", "ToolFailed", "Workspace"]
