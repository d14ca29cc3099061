"""Sessions: their keys, history, settings and policies, as values and pure rules."""

from .binding import bind, unstored, with_call_ids
from .changes import ANYTHING, Compacted, Expected
from .history import Transcript, estimate, estimate_all, fitting, newest_that_fit
from .keys import MAIN, SessionKey, parse_key
from .policy import (
    UNREADABLE,
    ResetMode,
    ResetRule,
    SendPolicy,
    SendRule,
    SessionSettings,
    check_send,
    is_stale,
)
from .records import (
    KeptMessage,
    KeptTranscript,
    PeriodUsage,
    SessionInfo,
    SessionPage,
    SessionQuery,
    SessionSettingsMap,
    UsageQuery,
)
from .repair import repaired
from .settings import (
    HARMLESS,
    OWNER,
    SETTINGS,
    Setting,
    applied_to,
    checked,
    thinking_level,
    with_thinking,
)

__all__ = [
    "ANYTHING",
    "HARMLESS",
    "MAIN",
    "OWNER",
    "SETTINGS",
    "UNREADABLE",
    "Compacted",
    "Expected",
    "KeptMessage",
    "KeptTranscript",
    "PeriodUsage",
    "ResetMode",
    "ResetRule",
    "SendPolicy",
    "SendRule",
    "SessionInfo",
    "SessionKey",
    "SessionPage",
    "SessionQuery",
    "SessionSettings",
    "SessionSettingsMap",
    "Setting",
    "Transcript",
    "UsageQuery",
    "applied_to",
    "bind",
    "check_send",
    "checked",
    "estimate",
    "estimate_all",
    "fitting",
    "is_stale",
    "newest_that_fit",
    "parse_key",
    "repaired",
    "thinking_level",
    "unstored",
    "with_call_ids",
    "with_thinking",
]
