"""One Run at a time in each Session, a cap over all, and a clear answer when a queue is full."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType

from .errors import GatewayBusy, SessionBusy
from .settings import LaneSettings

_SECONDS_PER_RUN_AHEAD = 5


class Lanes:
    """Queues in front of Sessions, first come, first served; `limits` is asked at each entry.

    A Place that reaches the head of its Session waits for one of the slots over all Sessions.
    Both queues are left at once by who gives up.
    """

    def __init__(self, limits: Callable[[], LaneSettings]) -> None:
        self._limits = limits
        # Lists, since most hold one Place, and a deque makes room for many.
        self._sessions: dict[str, list[Place]] = {}
        self._heads: deque[Place] = deque()
        self._places = 0
        self._working = 0

    def enter(self, session: str) -> Place:
        """A place in the session's queue. Raises SessionBusy or GatewayBusy."""
        limits = self._limits()
        self._admit()  # The limit may have been raised since.
        lane = self._sessions.get(session) or []
        if len(lane) > limits.max_waiting:
            raise SessionBusy(
                f"The session {session!r} is busy: {len(lane)} runs are in its queue "
                f"(agents.defaults.maxWaiting is {limits.max_waiting}); "
                f"this one would be number {len(lane)} in the queue.",
                retry_after=_SECONDS_PER_RUN_AHEAD * len(lane),
            )
        must_wait = bool(lane) or self._working >= limits.max_concurrent
        if must_wait and self.waiting >= limits.max_queued:
            raise GatewayBusy(
                f"The Gateway is busy: {self.waiting} runs are waiting "
                f"(agents.defaults.maxQueued is {limits.max_queued}).",
                retry_after=_SECONDS_PER_RUN_AHEAD,
            )
        self._sessions[session] = lane
        place = Place(self, session)
        lane.append(place)
        self._places += 1
        if lane[0] is place:
            self._heads.append(place)
            self._admit()
        return place

    @property
    def working(self) -> int:
        return self._working

    @property
    def waiting(self) -> int:
        return self._places - self._working

    def _admit(self) -> None:
        limit = self._limits().max_concurrent
        while self._heads and self._working < limit:
            self._working += 1
            self._heads.popleft()._grant()

    def _leave(self, place: Place) -> None:
        lane = self._sessions[place.session]
        was_head = lane[0] is place
        lane.remove(place)
        self._places -= 1
        if place.granted:
            self._working -= 1
        elif was_head:
            self._heads.remove(place)
        if not lane:
            del self._sessions[place.session]
        elif was_head:
            self._heads.append(lane[0])
        self._admit()


class Place:
    """A place in a Lane. Entering it waits for its turn; leaving it frees the lane."""

    __slots__ = ("_lanes", "_left", "_turn", "granted", "session")

    def __init__(self, lanes: Lanes, session: str) -> None:
        self._lanes = lanes
        self._turn: asyncio.Future[None] | None = None
        self._left = False
        self.session = session
        self.granted = False

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
