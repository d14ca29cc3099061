"""The layout of a run log's SQLite file."""

from __future__ import annotations

from ..schema import Kind

_APPLICATION_ID = 0x4F53_524C
"""`OSRL`."""

_SEQ_BITS = 28
_MAX_SEQ = (1 << _SEQ_BITS) - 1

# A row of `events` is what was added to a Run between two commits: its key is made of the Run's
# number and that of its first event, so that one page is touched for it and no index. `size` is
# how many bytes of events a finished Run has in the file; what has none in it has 0. Texts that
# have no UTF-8 (lone surrogates) are kept as blobs: see sqlite_columns.
RUNS = Kind(
    "run log",
    _APPLICATION_ID,
    migrations=(
        (
            f"PRAGMA application_id = {_APPLICATION_ID}",
            """CREATE TABLE runs (
                number INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                session_key TEXT NOT NULL,
                agent_id TEXT NOT NULL,
                principal_id TEXT NOT NULL,
                door TEXT NOT NULL,
                on_leave TEXT NOT NULL,
                fingerprint TEXT NOT NULL,
                status TEXT NOT NULL,
                accepted_at REAL NOT NULL,
                started_at REAL,
                ended_at REAL,
                last_seq INTEGER NOT NULL,
                size INTEGER NOT NULL DEFAULT 0)""",
            "CREATE INDEX runs_by_time ON runs (accepted_at, id)",
            "CREATE INDEX runs_of_session ON runs (session_key, accepted_at, id)",
            "CREATE INDEX runs_by_end ON runs (ended_at)",
            "CREATE INDEX runs_with_events ON runs (ended_at) WHERE size > 0",
            """CREATE TABLE events (
                key INTEGER PRIMARY KEY,
                last_seq INTEGER NOT NULL,
                body BLOB NOT NULL)""",
        ),
        # `kept_from` is when a Run ended, by the clock in expiry_clock. Runs are listed by their
        # numbers, since times jump with the system's clock; every index ends with the number.
        (
            "DROP INDEX runs_by_time",
            "DROP INDEX runs_of_session",
            "CREATE INDEX runs_of_session ON runs (session_key)",
            "ALTER TABLE runs ADD COLUMN kept_from REAL",
            "UPDATE runs SET kept_from = ended_at",
            "DROP INDEX runs_by_end",
            "DROP INDEX runs_with_events",
            "CREATE INDEX runs_by_end ON runs (kept_from)",
            "CREATE INDEX runs_with_events ON runs (kept_from) WHERE size > 0",
        ),
        # Who executes a Run, as of its last change of status.
        (
            "ALTER TABLE runs RENAME COLUMN door TO source",
            "ALTER TABLE runs ADD COLUMN owner TEXT",
            "ALTER TABLE runs ADD COLUMN attempt INTEGER",
            "ALTER TABLE runs ADD COLUMN lease_until REAL",
        ),
        # What was asked for, of Runs that go on after a restart, until they end. `lost`: how many
        # processes died while they executed it.
        (
            """CREATE TABLE specs (
                number INTEGER PRIMARY KEY,
                lost INTEGER NOT NULL DEFAULT 0,
                body BLOB NOT NULL)""",
        ),
    ),
    # NORMAL survives the death of the process. Whole turns, which must survive that of the machine
    # too, are the session store's. Small pages, because a commit often changes a few bytes only.
    pragmas=("PRAGMA synchronous = NORMAL", "PRAGMA wal_autocheckpoint = 4096"),
    page_size=1024,
)


def key_of(number: int, seq: int) -> int:
    """The key of the row in which event `seq` of Run `number` is the first."""
    return (number << _SEQ_BITS) + min(seq, _MAX_SEQ)


def seq_of(key: int) -> int:
    """The first event's number in the row of that key."""
    return key & _MAX_SEQ


def keys_of(number: int) -> tuple[int, int]:
    """The lowest and the highest key that a Run's rows can have."""
    return key_of(number, 0), key_of(number, _MAX_SEQ)
