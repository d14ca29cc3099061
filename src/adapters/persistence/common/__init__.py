"""What every store shares: codecs, events in memory, cursors and clocks."""

from .codec import MAX_INTEGER, Undecodable, decode, encode, encode_settings, readable_settings
from .disk_room import is_short, try_to_write
from .event_codec import decode_events, encode_events
from .event_logs import (
    MOST_AT_ONCE,
    MOST_BYTES_AT_ONCE,
    HeldEvents,
    Log,
    Waiters,
    expired,
    size_of,
    unknown,
    wake,
    woken,
)
from .expiry_clock import ExpiryClock, Stamp
from .failure_log import FailureLog
from .live_logs import BOUNDS, Bounds, LiveRuns
from .no_catalog import NoCatalog
from .pages import Numbered, decode_cursor, page_of
from .searching import found
from .spec_codec import decode_spec, encode_spec

__all__ = [
    "BOUNDS",
    "MAX_INTEGER",
    "MOST_AT_ONCE",
    "MOST_BYTES_AT_ONCE",
    "Bounds",
    "ExpiryClock",
    "FailureLog",
    "HeldEvents",
    "LiveRuns",
    "Log",
    "NoCatalog",
    "Numbered",
    "Stamp",
    "Undecodable",
    "Waiters",
    "decode",
    "decode_cursor",
    "decode_events",
    "decode_spec",
    "encode",
    "encode_events",
    "encode_settings",
    "encode_spec",
    "expired",
    "found",
    "is_short",
    "page_of",
    "readable_settings",
    "size_of",
    "try_to_write",
    "unknown",
    "wake",
    "woken",
]
