"""Pictures and files in requests: checked, within limits, as parts of messages."""

from .parts import UNREAD, MediaPart
from .reading import MediaReader

__all__ = ["UNREAD", "MediaPart", "MediaReader"]
