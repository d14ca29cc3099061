"""Opening, identification and migration of a store's SQLite file; the schema of session stores."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ....domain.errors import StoreFailed
from .columns import text_or_bytes
from .integrity import StoreDamaged, check_tables, is_damage

APPLICATION_ID = 0x4F53_4F55
"""`OSOU`: identifies the database, also to file(1)."""

BUSY_TIMEOUT = 5.0
"""Seconds to wait for a lock of another program, such as the sqlite3 shell."""

Migration = Sequence[str]
"""The statements that lead from one schema version to the next, run in one transaction."""

# Texts with lone surrogates are stored as blobs (see `columns`). Messages are numbered within their
# transcript from 1. A session's current transcript is its newest one.
MIGRATIONS: Sequence[Migration] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        """CREATE TABLE sessions (
            id INTEGER PRIMARY KEY,
            key TEXT NOT NULL UNIQUE,
            agent_id TEXT NOT NULL,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL,
            one_off INTEGER NOT NULL)""",
        "CREATE INDEX one_off_by_age ON sessions (updated_at) WHERE one_off = 1",
        """CREATE TABLE transcripts (
            id INTEGER PRIMARY KEY,
            session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
            session_id TEXT NOT NULL,
            created_at REAL NOT NULL,
            turn_count INTEGER NOT NULL,
            message_count INTEGER NOT NULL)""",
        "CREATE INDEX transcripts_of_session ON transcripts (session)",
        """CREATE TABLE turns (
            transcript INTEGER NOT NULL REFERENCES transcripts ON DELETE CASCADE,
            number INTEGER NOT NULL,
            run_id TEXT NOT NULL UNIQUE,
            at REAL NOT NULL,
            model TEXT NOT NULL,
            input_tokens INTEGER,
            output_tokens INTEGER,
            reasoning_tokens INTEGER,
            cached_tokens INTEGER,
            usage_estimated INTEGER,
            first_message INTEGER NOT NULL,
            message_count INTEGER NOT NULL,
            PRIMARY KEY (transcript, number)) WITHOUT ROWID""",
        """CREATE TABLE messages (
            transcript INTEGER NOT NULL REFERENCES transcripts ON DELETE CASCADE,
            number INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            role TEXT NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (transcript, number)) WITHOUT ROWID""",
    ),
    # The fields of list rows are stored with each session, and their sums with its transcripts.
    # `copies`: the original turns of messages that a compacted transcript copied from another one.
    (
        "ALTER TABLE sessions ADD COLUMN model TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE sessions ADD COLUMN settings BLOB",
        "ALTER TABLE sessions ADD COLUMN label TEXT",
        "ALTER TABLE sessions ADD COLUMN spawned_by TEXT",
        "ALTER TABLE transcripts ADD COLUMN input_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE transcripts ADD COLUMN output_tokens INTEGER NOT NULL DEFAULT 0",
        """CREATE TABLE copies (
            transcript INTEGER NOT NULL REFERENCES transcripts ON DELETE CASCADE,
            first_message INTEGER NOT NULL,
            message_count INTEGER NOT NULL,
            run_id TEXT NOT NULL,
            PRIMARY KEY (transcript, first_message)) WITHOUT ROWID""",
        """UPDATE transcripts SET (input_tokens, output_tokens) = (
            SELECT CAST(total(max(input_tokens, 0)) AS INTEGER),
                   CAST(total(max(output_tokens, 0)) AS INTEGER)
            FROM turns WHERE transcript = transcripts.id)""",
        """UPDATE sessions SET model = coalesce((
            SELECT turns.model FROM turns JOIN transcripts ON transcripts.id = turns.transcript
            WHERE transcripts.session = sessions.id
            ORDER BY transcripts.id DESC, turns.number DESC LIMIT 1), '')""",
        "CREATE INDEX sessions_by_age ON sessions (updated_at)",
        "CREATE INDEX sessions_of_agent ON sessions (agent_id, updated_at)",
        "CREATE INDEX sessions_by_label ON sessions (label) WHERE label IS NOT NULL",
        "CREATE INDEX sessions_by_parent ON sessions (spawned_by) WHERE spawned_by IS NOT NULL",
        "CREATE INDEX transcripts_by_session_id ON transcripts (session_id)",
        "CREATE INDEX turns_by_time ON turns (at)",
    ),
    # `kept_from`: a time of `expiry_clock`; `size`: bytes of a session's first turn. Both are used
    # for one-off sessions only, which have a single turn. `expiry` has one row: the clock at the
    # last deletion of expired sessions.
    (
        "CREATE TABLE expiry (stamp REAL NOT NULL, unix REAL NOT NULL)",
        "ALTER TABLE sessions ADD COLUMN kept_from REAL NOT NULL DEFAULT 0",
        "ALTER TABLE sessions ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
        """UPDATE sessions SET kept_from = updated_at, size = coalesce((
            SELECT sum(length(messages.body)) FROM transcripts
            JOIN messages ON messages.transcript = transcripts.id
            WHERE transcripts.session = sessions.id), 0) WHERE one_off = 1""",
        "DROP INDEX one_off_by_age",
        "CREATE INDEX one_off_by_age ON sessions (kept_from, size) WHERE one_off = 1",
    ),
    # Turns without an answer: `body` has the question, `attempt` is the fencing token. Approvals
    # are kept for a time after they were decided.
    (
        """CREATE TABLE open_turns (
            run_id TEXT PRIMARY KEY,
            key TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            body BLOB NOT NULL) WITHOUT ROWID""",
        "CREATE INDEX open_turns_of_session ON open_turns (key)",
        """CREATE TABLE steps (
            run_id TEXT NOT NULL REFERENCES open_turns ON DELETE CASCADE,
            number INTEGER NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (run_id, number)) WITHOUT ROWID""",
        """CREATE TABLE approvals (
            id TEXT PRIMARY KEY,
            run_id TEXT NOT NULL,
            created_at REAL NOT NULL,
            expires_at REAL NOT NULL,
            body BLOB NOT NULL,
            decision TEXT,
            decided_by TEXT,
            decided_at REAL) WITHOUT ROWID""",
        "CREATE INDEX approvals_by_end ON approvals (expires_at)",
    ),
    # Calls that were allowed for always, by `Approval.subject`; `body` is that of the approval.
    (
        """CREATE TABLE always_allowed (
            subject TEXT PRIMARY KEY,
            granted_by TEXT NOT NULL,
            granted_at REAL NOT NULL,
            body BLOB NOT NULL) WITHOUT ROWID""",
    ),
    # What a model gets instead of the first `through` messages of a transcript: of several
    # summaries the one of the most.
    (
        """CREATE TABLE summaries (
            transcript INTEGER NOT NULL REFERENCES transcripts ON DELETE CASCADE,
            through INTEGER NOT NULL,
            at REAL NOT NULL,
            model TEXT NOT NULL,
            tokens_before INTEGER NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (transcript, through)) WITHOUT ROWID""",
    ),
    # Responses of the Responses API; `body` is a StoredResponse. The items of conversations are
    # numbered in their order.
    (
        """CREATE TABLE responses (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            session_key TEXT NOT NULL,
            conversation TEXT NOT NULL,
            settled INTEGER NOT NULL,
            hidden INTEGER NOT NULL,
            created_at REAL NOT NULL,
            body BLOB NOT NULL)""",
        "CREATE INDEX responses_of_session ON responses (session_key)",
        "CREATE INDEX responses_by_age ON responses (created_at) WHERE settled = 1",
        "CREATE INDEX unsettled_responses ON responses (conversation) WHERE settled = 0",
        """CREATE TABLE conversations (
            id TEXT PRIMARY KEY,
            principal_id TEXT NOT NULL,
            created_at REAL NOT NULL,
            metadata BLOB NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE conversation_items (
            number INTEGER PRIMARY KEY,
            conversation TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
            id TEXT NOT NULL,
            body BLOB NOT NULL,
            UNIQUE (conversation, id))""",
        "CREATE INDEX items_of_conversation ON conversation_items (conversation, number)",
    ),
    # Why the answer of a turn ended; empty where it is not known.
    ("ALTER TABLE turns ADD COLUMN stop TEXT NOT NULL DEFAULT ''",),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of a store. `name`: for messages; the first migration sets `application_id`."""

    name: str
    application_id: int
    migrations: Sequence[Migration]
    pragmas: Sequence[str] = ()
    """Further settings of the writing connection."""
    page_size: int = 4096
    """Of new files."""
    advice: str = ""
    """What to do if the database is damaged."""


SESSIONS = Kind(
    "session store",
    APPLICATION_ID,
    MIGRATIONS,
    advice=(
        "It contains the only copy of the conversations and was not changed. Stop the Gateway, copy"
        " the file with its -wal and -shm, and restore a backup; or recover the readable part with"
        " `sqlite3 FILE .recover`."
    ),
)


def open_database(
    path: Path,
    migrations: Sequence[Migration] | None = None,
    *,
    kind: Kind = SESSIONS,
    own: Sequence[str] = (),
) -> sqlite3.Connection:
    """Open the writing connection and migrate the schema; a missing file is created.
    `own`: further statements for this connection, such as temporary tables.

    Raises StoreFailed without changing anything: for a damaged file (StoreDamaged), another
    program's database, a newer schema version, or a path that cannot be opened.
    """
    migrations = kind.migrations if migrations is None else migrations
    try:
        _make_file(path)
        connection = _connect(path)
        try:
            _refuse_unknown(connection, path, kind, len(migrations))
            _configure(connection, path, kind)
            _migrate(connection, migrations)
            check_tables(connection)
            for statement in own:
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        if is_damage(error):
            damaged = f"The {kind.name} {path} is damaged: {error}. {kind.advice}"
            raise StoreDamaged(damaged) from error
        raise StoreFailed(f"The {kind.name} {path} cannot be opened: {error}.") from error
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection to a database that is already open for writing. A missing file is not
    created."""
    connection = _connect(f"file:{quote(str(path))}?mode=rw", uri=True)
    connection.execute("PRAGMA query_only = ON")
    return connection


def close_database(connection: sqlite3.Connection) -> None:
    """Checkpoint the write-ahead log and close. The log is durable without a checkpoint, too."""
    with closing(connection):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _make_file(path: Path) -> None:
    """SQLite creates -wal and -shm with the mode of the file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _connect(path: Path | str, *, uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, uri=uri
    )
    connection.text_factory = text_or_bytes
    return connection


def _refuse_unknown(connection: sqlite3.Connection, path: Path, kind: Kind, newest: int) -> None:
    application = _number(connection, "PRAGMA application_id")
    version = _number(connection, "PRAGMA user_version")
    if application != kind.application_id:
        if application or version or _number(connection, "SELECT count(*) FROM sqlite_master"):
            raise StoreFailed(f"{path} is a database of another program. It was not changed.")
    elif version > newest:
        raise StoreFailed(
            f"The {kind.name} {path} has schema version {version}; this version of OpenSoul"
            f" supports versions up to {newest}. It was not changed. Use the newer OpenSoul."
        )


def _configure(connection: sqlite3.Connection, path: Path, kind: Kind) -> None:
    """`synchronous = FULL`: a commit is on disk when it returns, also in WAL mode."""
    connection.execute(f"PRAGMA page_size = {kind.page_size}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreFailed(f"The file system of {path} does not support SQLite's write-ahead log.")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {16 * 1024 * 1024}")
    for pragma in kind.pragmas:
        connection.execute(pragma)


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    start = _number(connection, "PRAGMA user_version")
    for version, statements in enumerate(migrations[start:], start + 1):
        connection.execute("BEGIN IMMEDIATE")
        with connection:  # Commits, or rolls back when a statement fails.
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")


def _number(connection: sqlite3.Connection, query: str) -> int:
    (value,) = connection.execute(query).fetchone()
    return int(value)
