"""Pictures and files in requests: checked, within limits, as parts of messages."""

from .reading import MediaReader

__all__ = ["MediaReader"]
