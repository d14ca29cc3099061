"""The tools that come with the Gateway: files of the workspace, commands, and web pages."""

from .tool import ToolFailed
from .toolbox import BuiltinTools
from .workspace import Workspace

__all__ = ["BuiltinTools", "ToolFailed", "Workspace"]
