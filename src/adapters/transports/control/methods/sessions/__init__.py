"""The methods about sessions: lists, single sessions, changes and subscriptions."""

from .changes import SessionChanges, SessionTalk
from .lists import SessionLists, SessionSearch
from .lookups import SessionLookups
from .subscriptions import SessionSubscriptions

__all__ = [
    "SessionChanges",
    "SessionLists",
    "SessionLookups",
    "SessionSearch",
    "SessionSubscriptions",
    "SessionTalk",
]
