"""The tools that come with the Gateway: files of the workspace, commands, web pages, memory."""

from .toolbox import BuiltinTools

__all__ = ["BuiltinTools"]
