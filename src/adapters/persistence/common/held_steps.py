"""The steps of open turns in this process's memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from ....domain.errors import LeaseLost
from ....domain.ports import OpenTurn, StoredSession, Turn
from ....domain.runs import Journal, Step, closed
from ....domain.sessions import SessionKey, Summary


class HeldSteps(ABC):
    """The part of a SessionStore that keeps steps, for stores that keep them in memory: they are
    lost with the process, and a Run then ends where it was.

    The store is its subclass: it calls `close_turn` in its `append` once the turn is stored.
    """

    def __init__(self) -> None:
        self._open_turns: dict[str, OpenTurn] = {}

    @abstractmethod
    def has_turn(self, run_id: str) -> bool:
        """Whether the turn of that Run is stored."""
        ...

    @abstractmethod
    async def load(
        self, key: SessionKey, budget: int, *, result_chars: int | None = None
    ) -> StoredSession | None:
        """SessionStore.load."""
        ...

    async def put_summary(
        self,
        key: SessionKey,
        session_id: str,
        summary: Summary,
        *,
        run_id: str = "",
        attempt: int = 0,
    ) -> bool:
        """SessionStore.put_summary, for a store that keeps none: models get the newest messages
        that fit."""
        return False

    @abstractmethod
    async def append(self, turn: Turn) -> None:
        """SessionStore.append."""
        ...

    def check_attempt(self, run_id: str, attempt: int) -> OpenTurn | None:
        """The open turn of that Run. Raises LeaseLost where a later attempt has it."""
        kept = self._open_turns.get(run_id)
        if kept is not None and attempt and kept.attempt > attempt:
            raise LeaseLost(f"A later attempt of run {run_id!r} has stored a step.")
        return kept

    def close_turn(self, run_id: str) -> None:
        """The turn of that Run is stored."""
        self._open_turns.pop(run_id, None)

    def move_turns(self, key: SessionKey, old_id: str, new_id: str) -> None:
        """The Session goes on in another transcript, and so do its open turns."""
        for run_id, turn in self._open_turns.items():
            if turn.key == key and turn.session_id == old_id:
                self._open_turns[run_id] = replace(turn, session_id=new_id)

    async def append_step(self, turn: OpenTurn, number: int, step: Step) -> None:
        if self.has_turn(turn.run_id):
            raise LeaseLost(f"The turn of run {turn.run_id!r} is stored already.")
        kept = self.check_attempt(turn.run_id, turn.attempt)
        steps = () if kept is None else kept.steps
        later = steps[number:] if kept is not None and kept.attempt == turn.attempt else ()
        steps = (*steps[: number - 1], step, *later)
        self._open_turns[turn.run_id] = replace(turn, steps=steps)

    async def open_turn(self, run_id: str, attempt: int) -> OpenTurn | None:
        kept = self.check_attempt(run_id, attempt)
        if kept is not None:
            kept = self._open_turns[run_id] = replace(kept, attempt=attempt)
        return kept

    async def open_turns(self) -> tuple[OpenTurn, ...]:
        return tuple(replace(turn, steps=()) for turn in self._open_turns.values())

    async def end_turn(self, turn: OpenTurn, *, note: str, at: float) -> bool:
        kept = self.check_attempt(turn.run_id, turn.attempt)
        if kept is None:
            return False
        session = None if kept.session_id else await self.load(kept.key, 0)
        current = "" if session is None else session.session_id
        ended = ended_turn(kept, current, note=note, at=at)
        if ended is not None:
            await self.append(ended)
        self.close_turn(turn.run_id)
        return True


def ended_turn(turn: OpenTurn, current: str, *, note: str, at: float) -> Turn | None:
    """What is stored of a turn whose Run ends without an answer; None: nothing. `current`: the id
    of the Session's current transcript, empty where there is none."""
    span = turn.history
    if span is not None and span.session_id != turn.session_id:
        return None  # The Session would go on in a transcript that ends with a failure.
    journal = Journal(turn.question, turn.steps)
    messages = closed(journal, note)
    if not messages:
        return None
    return Turn(
        key=turn.key,
        session_id=turn.session_id or current or turn.run_id,
        run_id=turn.run_id,
        at=at,
        messages=messages,
        model=turn.steps[-1].model,
        usage=journal.usage,
        one_off=turn.one_off,
    )
