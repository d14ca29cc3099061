"""A client that remembers every frame in order, and what it asked to follow."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.control.client import Peer

TERMINAL = ("end", "error")


@dataclass
class Witness(Peer):
    """A client that keeps every frame in the order in which they came."""

    frames: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Ids of requests that must have one last answer."""

    async def _read(self) -> None:
        while (message := await self.socket.receive()).type is aiohttp.WSMsgType.TEXT:
            frame = json.loads(message.data)
            self.frames.append(frame)
            if frame["type"] == "res":
                self._answers.setdefault(frame["id"], deque()).append(frame)
            else:
                self.events.append(frame)
            self._news.set()
        self._news.set()

    def send(self, method: str, params: Any = None, request_id: str | None = None) -> str:
        self.asked.append(super().send(method, params, request_id))
        return self.asked[-1]

    def told_of(
        self, run_id: str, behind: str | None = None, before: str | None = None
    ) -> list[dict[str, Any]]:
        """Payloads of the Run's `agent` events, between the answers to two requests."""
        start = 0 if behind is None else self._place(behind)
        end = len(self.frames) if before is None else self._place(before)
        return [
            frame["payload"]
            for frame in self.frames[start:end]
            if frame.get("event") == "agent" and frame["payload"]["runId"] == run_id
        ]

    def last_answers(self, request_id: str) -> int:
        """How many answers there were that no other follows."""
        return sum(
            frame.get("id") == request_id
            and (frame.get("payload") or {}).get("status") != "accepted"
            for frame in self.frames
        )

    def is_answered(self) -> bool:
        return all(map(self.last_answers, self.asked))

    def _place(self, request_id: str) -> int:
        return next(i for i, f in enumerate(self.frames) if f.get("id") == request_id)


@dataclass
class Following:
    """What a client asked for with `runs.follow`: those of one client and Run follow each other."""

    witness: Witness
    run_id: str
    after: int
    request_id: str

    until: str | None = None
    """The request for the next one."""

    @property
    def told(self) -> list[dict[str, Any]]:
        return self.witness.told_of(self.run_id, self.request_id, self.until)

    @property
    def numbers(self) -> list[int]:
        return [payload["seq"] for payload in self.told]

    @property
    def ended(self) -> bool:
        return any(payload["data"].get("phase") in TERMINAL for payload in self.told)

    def has(self, seq: int) -> bool:
        return self.after + len(self.told) >= seq
