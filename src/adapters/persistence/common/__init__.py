"""What every store shares: codecs, events in memory, cursors and clocks."""

from .codec import (
    MAX_INTEGER,
    Undecodable,
    decode,
    decode_json,
    decode_stop,
    encode,
    encode_json,
    encode_settings,
    readable_settings,
    text,
)
from .damage import UNREADABLE, Cells, DamageLog
from .disk_room import is_short, try_to_write
from .event_codec import decode_events, encode_events
from .event_logs import (
    MOST_AT_ONCE,
    MOST_BYTES_AT_ONCE,
    HeldEvents,
    Log,
    Waiters,
    expired,
    left_behind,
    size_of,
    unknown,
    wake,
    woken,
)
from .expiry_clock import ExpiryClock, Stamp
from .failure_log import FailureLog
from .held_steps import HeldSteps, ended_turn
from .journal_codec import (
    decode_approval,
    decode_open_turn,
    decode_step,
    encode_approval,
    encode_open_turn,
    encode_step,
)
from .key_codec import decode_key, encode_key
from .live_logs import BOUNDS, Bounds, LiveRuns
from .no_catalog import NoCatalog
from .pages import Numbered, decode_cursor, encode_cursor, page_of
from .response_codec import decode_response, encode_response
from .searching import found
from .spec_codec import decode_spec, encode_spec

__all__ = [
    "BOUNDS",
    "MAX_INTEGER",
    "MOST_AT_ONCE",
    "MOST_BYTES_AT_ONCE",
    "UNREADABLE",
    "Bounds",
    "Cells",
    "DamageLog",
    "ExpiryClock",
    "FailureLog",
    "HeldEvents",
    "HeldSteps",
    "LiveRuns",
    "Log",
    "NoCatalog",
    "Numbered",
    "Stamp",
    "Undecodable",
    "Waiters",
    "decode",
    "decode_approval",
    "decode_cursor",
    "decode_events",
    "decode_json",
    "decode_key",
    "decode_open_turn",
    "decode_response",
    "decode_spec",
    "decode_step",
    "decode_stop",
    "encode",
    "encode_approval",
    "encode_cursor",
    "encode_events",
    "encode_json",
    "encode_key",
    "encode_open_turn",
    "encode_response",
    "encode_settings",
    "encode_spec",
    "encode_step",
    "ended_turn",
    "expired",
    "found",
    "is_short",
    "left_behind",
    "page_of",
    "readable_settings",
    "size_of",
    "text",
    "try_to_write",
    "unknown",
    "wake",
    "woken",
]
