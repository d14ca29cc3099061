"""A store of your own: every turn is one line of JSON in one file, all sessions in memory.

Put it in the place of the SQLite store where the application is made:

    container = Container(store=providers.Singleton(JsonLinesStore, Path("turns.jsonl")))
    app = create_app(container)

It keeps the promises of the port `SessionStore`: a turn is one line, so it is there whole or not at
all, and `append` returns when the line has reached the disk. The steps of a turn that has no answer
yet are only in memory: `HeldSteps`.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from opensoul.api import (
    HeldSteps,
    Message,
    SessionKey,
    StoredSession,
    StoreFailed,
    Transcript,
    Turn,
    decode_message,
    encode_message,
    newest_that_fit,
)


@dataclass
class _Session:
    session_id: str
    updated_at: float
    one_off: bool
    kept_from: float = field(default_factory=time.monotonic)
    size: int = 0
    messages: list[Message] = field(default_factory=list)


class JsonLinesStore(HeldSteps):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._sessions: dict[SessionKey, _Session] = {}
        self._run_ids: set[str] = set()
        self._file: IO[bytes] | None = None
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        self._path.touch(mode=0o600)
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1  # a line cut short was never acknowledged
        for line in content[:whole].splitlines():
            self._remember(_turn_from(json.loads(line)))
        self._file = self._path.open("r+b")
        self._file.truncate(whole)
        self._file.seek(whole)

    def has_turn(self, run_id: str) -> bool:
        return run_id in self._run_ids

    async def load(
        self, key: SessionKey, budget: int, *, result_chars: int | None = None
    ) -> StoredSession | None:
        self._opened()
        session = self._sessions.get(key)
        if session is None:
            return None
        tail = newest_that_fit(session.messages, budget)
        count = len(session.messages)
        transcript = Transcript(tail, complete=len(tail) == count)
        return StoredSession(key, session.session_id, session.updated_at, count, transcript)

    async def append(self, turn: Turn) -> None:
        async with self._writing:
            file = self._opened()
            if turn.run_id in self._run_ids:
                return
            self.check_attempt(turn.run_id, turn.attempt)
            line = json.dumps(_turn_as_dict(turn)).encode() + b"\n"
            await asyncio.to_thread(_write_through, file, line)
            self._remember(turn)
            self.close_turn(turn.run_id)

    async def prune_one_off(self, keep: float | None, max_bytes: int | None = None) -> int:
        self._opened()
        before = float("-inf") if keep is None else time.monotonic() - keep
        one_offs = [(key, session) for key, session in self._sessions.items() if session.one_off]
        size = sum(session.size for _, session in one_offs)
        pruned = 0
        for key, session in one_offs:  # the oldest first
            if session.kept_from < before or (max_bytes is not None and size > max_bytes):
                size -= session.size
                pruned += 1
                del self._sessions[key]
        return pruned

    async def check_writable(self) -> None:
        self._opened()

    async def check(self) -> None:
        self._opened()

    async def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise StoreFailed(f"The store {self._path} is not open.")
        return self._file

    def _remember(self, turn: Turn) -> None:
        session = self._sessions.get(turn.key)
        if session is None or session.session_id != turn.session_id:
            session = _Session(turn.session_id, turn.at, turn.one_off)
            self._sessions[turn.key] = session
        session.messages.extend(turn.messages)
        session.size += sum(len(message.text) for message in turn.messages)
        session.updated_at = turn.at
        self._run_ids.add(turn.run_id)


def _write_through(file: IO[bytes], line: bytes) -> None:
    try:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise StoreFailed(f"The turn could not be written: {error}") from error


def _turn_as_dict(turn: Turn) -> dict[str, Any]:
    return {
        "agent": turn.key.agent_id,
        "rest": turn.key.rest,
        "session": turn.session_id,
        "run": turn.run_id,
        "at": turn.at,
        "one_off": turn.one_off,
        "messages": [b64encode(encode_message(message)).decode() for message in turn.messages],
    }


def _turn_from(data: dict[str, Any]) -> Turn:
    return Turn(
        key=SessionKey(data["agent"], data["rest"]),
        session_id=data["session"],
        run_id=data["run"],
        at=data["at"],
        messages=tuple(decode_message(b64decode(encoded)) for encoded in data["messages"]),
        one_off=data["one_off"],
    )
