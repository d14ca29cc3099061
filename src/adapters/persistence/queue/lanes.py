"""One Run at a time in each Session, a cap over all, and a clear answer when a queue is full."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

from ....domain.errors import GatewayBusy, SessionBusy
from ....domain.settings import LaneSettings

_SECONDS_PER_RUN_AHEAD = 5


class Lanes:
    """Queues in front of Sessions, first come, first served; `limits` is asked at each entry.

    A Place of a Run that reaches the head of its Session waits for one of the slots over all
    Sessions. A Place of a change takes no slot. Giving a Place up leaves both queues at once.
    """

    def __init__(self, limits: Callable[[], LaneSettings]) -> None:
        self._limits = limits
        # Lists, since most hold one Place, and a deque makes room for many.
        self._sessions: dict[str, list[Place]] = {}
        self._heads: deque[Place] = deque()
        self._places = 0
        self._working = 0

    def of_subagents(self) -> Lanes:
        """Lanes with the same limits, but with slots of their own: `max_subagents`."""

        def limits() -> LaneSettings:
            own = self._limits()
            return replace(own, max_concurrent=own.max_subagents)

        return Lanes(limits)

    def enter(self, session: str) -> Place:
        """A place in the session's queue. Raises SessionBusy or GatewayBusy."""
        limits = self._limits()
        self._admit()  # The limit may have been raised since.
        lane = self._sessions.get(session) or []
        if len(lane) > limits.max_waiting:
            self._check_room(session, lane, limits)
        must_wait = bool(lane) or self._working >= limits.max_concurrent
        if must_wait and self.waiting >= limits.max_queued:
            raise GatewayBusy(
                f"The Gateway is busy: {self.waiting} runs are waiting "
                f"(agents.defaults.maxQueued is {limits.max_queued}).",
                retry_after=_SECONDS_PER_RUN_AHEAD,
            )
        return self._append(session, lane)

    def enter_again(self, session: str) -> Place:
        """A place for a Run that was accepted earlier and gave its place up: never refused."""
        return self._append(session, self._sessions.get(session) or [])

    def _append(self, session: str, lane: list[Place]) -> Place:
        self._sessions[session] = lane
        place = Place(self, session)
        lane.append(place)
        self._places += 1
        if lane[0] is place:
            self._heads.append(place)
            self._admit()
        return place

    def enter_to_change(self, session: str) -> Place:
        """A place for a change of the session itself, in order with its Runs.

        It takes no slot and is not counted as work: a short write must not wait for long Runs of
        other sessions. Raises SessionBusy when `max_waiting` changes wait already.
        """
        limits = self._limits()
        lane = self._sessions.get(session) or []
        changes = sum(not place.is_run for place in lane)
        if changes > limits.max_waiting:
            raise SessionBusy(
                f"The session {session!r} is busy: {changes} changes of it are waiting "
                f"(agents.defaults.maxWaiting is {limits.max_waiting}).",
                retry_after=_SECONDS_PER_RUN_AHEAD,
            )
        self._sessions[session] = lane
        place = Place(self, session, is_run=False)
        lane.append(place)
        if lane[0] is place:
            place._grant()
        return place

    @property
    def sessions(self) -> int:
        """How many Sessions have a Place."""
        return len(self._sessions)

    @property
    def working(self) -> int:
        return self._working

    @property
    def heads(self) -> int:
        """Runs that wait for a slot, and for no other Run of their session."""
        return len(self._heads)

    @property
    def waiting(self) -> int:
        return self._places - self._working

    def _check_room(self, session: str, lane: list[Place], limits: LaneSettings) -> None:
        """Raises SessionBusy when too many Runs are in the lane; changes do not count."""
        runs = sum(place.is_run for place in lane)
        if runs > limits.max_waiting:
            raise SessionBusy(
                f"The session {session!r} is busy: {runs} runs are in its queue "
                f"(agents.defaults.maxWaiting is {limits.max_waiting}); "
                f"this one would be number {runs} in the queue.",
                retry_after=_SECONDS_PER_RUN_AHEAD * runs,
            )

    def _admit(self) -> None:
        if not self._heads:
            return
        limit = self._limits().max_concurrent
        while self._heads and self._working < limit:
            self._working += 1
            self._heads.popleft()._grant()

    def _leave(self, place: Place) -> None:
        lane = self._sessions[place.session]
        was_head = lane[0] is place
        lane.remove(place)
        if place.is_run:
            self._places -= 1
            if place.granted:
                self._working -= 1
            elif was_head:
                self._heads.remove(place)
        if not lane:
            del self._sessions[place.session]
        elif was_head:
            self._reach_head(lane[0])
        self._admit()

    def _reach_head(self, place: Place) -> None:
        if place.is_run:
            self._heads.append(place)
        else:
            place._grant()


class Place:
    """A place in a Lane, of a Run or of a change. `turn` waits for it; `leave` frees the lane.

    `on_turn` is called when the turn comes, where it has not come at once.
    """

    __slots__ = ("_lanes", "_left", "_turn", "granted", "is_run", "on_turn", "session")

    def __init__(self, lanes: Lanes, session: str, *, is_run: bool = True) -> None:
        self._lanes = lanes
        self._turn: asyncio.Future[None] | None = None
        self._left = False
        self.on_turn: Callable[[], None] | None = None
        self.session = session
        self.granted = False
        self.is_run = is_run

    async def turn(self) -> None:
        """Wait until it is this place's turn."""
        if not self.granted:
            self._turn = asyncio.get_running_loop().create_future()
            await self._turn

    def leave(self) -> None:
        """Give the place up, before or after its turn. Safe to call twice."""
        if not self._left:
            self._left = True
            self._lanes._leave(self)

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def _grant(self) -> None:
        self.granted = True
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)
        if self.on_turn is not None:
            self.on_turn()
