"""The invariants after any number of `kill -9`, checked against the clients' observations.

Each check returns a sentence per violation.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opensoul.adapters.persistence.common.codec import Undecodable, decode
from opensoul.client import Aborted, Failed, Finished, Resumed, TextDelta
from opensoul.client.run_events import Ending, read_run_event
from opensoul.domain.execution.recovery import MOST_LOST
from opensoul.domain.messages import Text

DATABASES = ("opensoul.sqlite3", "runs.sqlite3")
_TURNS = """
    SELECT turns.run_id, sessions.key, turns.message_count, messages.body
    FROM turns JOIN transcripts ON transcripts.id = turns.transcript
    JOIN sessions ON sessions.id = transcripts.session
    LEFT JOIN messages ON messages.transcript = turns.transcript
        AND messages.number >= turns.first_message
        AND messages.number < turns.first_message + turns.message_count
    ORDER BY turns.transcript, turns.number, messages.number"""


def words_of(question: str) -> tuple[str, ...]:
    """The chunks of the provider's answer to a question, different for each question."""
    count = 3 + zlib.crc32(question.encode()) % 30
    return (f"{question}: ", *(f"word{number} " for number in range(count)))


def answer_to(question: str) -> str:
    """The whole answer to a question."""
    return "".join(words_of(question))


@dataclass(slots=True)
class Followed:
    """A run, and the events that its follower received over all its connections."""

    run_id: str
    seqs: list[int] = field(default_factory=list)
    text: str = ""
    ending: Ending | None = None

    @property
    def last(self) -> int:
        return self.seqs[-1] if self.seqs else 0

    def take(self, payload: Mapping[str, Any]) -> None:
        """Note an event of the run."""
        self.seqs.append(payload["seq"])
        match read_run_event(payload):
            case TextDelta(text=text):
                self.text += text
            case Resumed(void=void) if void:
                self.text = ""  # What was said of the answer is void; it is said anew.
            case Finished() | Failed() | Aborted() as ending:
                self.ending = ending
            case _:
                pass


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A stored turn."""

    run_id: str
    session_key: str
    wanted: int
    """The expected number of messages."""
    texts: tuple[str, ...]


@dataclass(slots=True)
class Observations:
    """Observations of clients and provider. A question's text is also its idempotency key."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    """The session keys of questions whose complete answer a client received."""
    keyed: set[str] = field(default_factory=set)
    """Questions sent with an idempotency key, possibly several times."""
    calls: Counter[str] = field(default_factory=Counter)
    """The number of provider calls per question."""
    followed: dict[str, Followed] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """Received answers that must not occur."""
    counts: Counter[str] = field(default_factory=Counter)
    """Counts of operations and outcomes, for the summary."""


def stored_turns(database: Path) -> Iterator[StoredTurn]:
    """The turns of the session database, sorted by transcript. A database without tables, as after
    a kill during the first start, has none."""
    rows: dict[str, tuple[str, int, list[bytes]]] = {}
    with closing(sqlite3.connect(database)) as connection:
        made = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'turns'").fetchone()
        for run_id, key, count, body in connection.execute(_TURNS) if made else ():
            turn = rows.setdefault(run_id, (key, count, []))
            if body is not None:
                turn[2].append(body)
    for run_id, (key, count, bodies) in rows.items():
        yield StoredTurn(run_id, key, count, tuple(map(_text, bodies)))


def _text(body: bytes) -> str:
    try:
        parts = decode(body).parts
    except Undecodable as error:
        return f"<{error}>"
    return "".join(part.text for part in parts if isinstance(part, Text))


def turn_violations(seen: Observations, turns: Iterable[StoredTurn]) -> Iterator[str]:
    """Missing or changed acknowledged turns; duplicate or incomplete turns."""
    by_question: dict[str, list[StoredTurn]] = {}
    for turn in turns:
        if len(turn.texts) != turn.wanted or len(turn.texts) != 2:
            yield f"turn {turn.run_id} has {len(turn.texts)} messages of {turn.wanted}"
            continue
        question, answer = turn.texts
        by_question.setdefault(question, []).append(turn)
        if not answer_to(question).startswith(answer):
            yield f"turn {turn.run_id} answers {question!r} by {answer!r}"
    for question, found in by_question.items():
        if len(found) > 1:
            yield f"question {question!r} has {len(found)} turns"
        if question in seen.keyed and found[0].run_id != question:
            yield f"key {question!r} has the turn of run {found[0].run_id!r}"
    for question, key in seen.acknowledged.items():
        for turn in by_question.get(question, ())[:1]:
            if turn.session_key != key:
                yield f"acknowledged turn {question!r} of {key} is in {turn.session_key}"
            if turn.texts[1] != answer_to(question):
                yield f"acknowledged turn {question!r} is not whole: {turn.texts[1]!r}"
        if question not in by_question:
            yield f"acknowledged turn {question!r} of {key} is missing"


def call_violations(seen: Observations) -> Iterator[str]:
    """Questions with more provider calls than they may have. A run under a key goes on after the
    death of its process, and its model is called again, until it has been lost too often."""
    for question, calls in seen.calls.items():
        keyed = question in seen.keyed
        if calls > (MOST_LOST if keyed else 1):
            what = "key" if keyed else "question"
            yield f"{what} {question!r} ran {calls} times"


def event_violations(followed: Iterable[Followed], *, final: bool = False) -> Iterator[str]:
    """Missing, duplicate or misordered events; `final`: also runs without a terminal event."""
    for run in followed:
        wanted = list(range(1, len(run.seqs) + 1))
        if run.seqs != wanted:
            at = next(i for i, (a, b) in enumerate(zip(run.seqs, wanted, strict=True)) if a != b)
            before = run.seqs[at - 1] if at else 0
            kind = "doubled or out of order" if run.seqs[at] <= before else "missing before it"
            yield f"run {run.run_id}: event {run.seqs[at]} follows {before} ({kind})"
        whole = answer_to(run.run_id)
        finished = isinstance(run.ending, Finished)
        if run.text != whole if finished else not whole.startswith(run.text):
            yield f"run {run.run_id} has the text {run.text!r} and the end {run.ending}"
        if final and run.ending is None:
            yield f"run {run.run_id} has no terminal event after {run.last}"


def database_violations(folder: Path) -> Iterator[str]:
    """The results of SQLite's integrity checks of the existing databases."""
    for name in DATABASES:
        path = folder / name
        if not path.exists():
            continue  # Killed before it was created; missing turns are reported separately.
        with closing(sqlite3.connect(path)) as connection:
            for (problem,) in connection.execute("PRAGMA integrity_check"):
                if problem != "ok":
                    yield f"{name}: {problem}"
            for row in connection.execute("PRAGMA foreign_key_check"):
                yield f"{name}: foreign key of {row}"


def unfinished_violations(folder: Path) -> Iterator[str]:
    """Runs without a final status in the run log; there must be none after a clean stop."""
    query = "SELECT id, status FROM runs WHERE status IN ('queued', 'running')"
    with closing(sqlite3.connect(folder / "runs.sqlite3")) as connection:
        for run_id, status in connection.execute(query):
            yield f"run {run_id} is left {status}"
