"""The tools that come with the Gateway: files of the workspace, commands, and web pages."""

from .toolbox import BuiltinTools

__all__ = ["BuiltinTools"]
