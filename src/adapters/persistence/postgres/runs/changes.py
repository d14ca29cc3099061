"""Changes of a Session's transcript, in the order of its Runs, over all processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from .....domain.errors import GatewayError, LeaseLost, SessionBusy, StoreFailed
from .....domain.sessions import SessionKey
from .....domain.settings import LaneSettings
from ..columns import data
from ..database import Database
from ..fence import Fence, set_fence
from .held import within

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_EVERY = 1.0
_BUSY_FOR = 5
_ENTER = "SELECT * FROM change_enter(%s, %s, %s, %s)"
_LEAVE = "SELECT change_leave(%s, %s)"
_GRANTED = "SELECT granted FROM changes WHERE position = %s"
_HAS_PLACE = "SELECT FROM changes WHERE position = %s AND granted FOR KEY SHARE"
_RENEW = "UPDATE changes SET lease_until = server_now() + lease WHERE position = %s AND granted"


class Changes:
    """The places of this process's changes in their lanes. `settled` is called with what
    lane_settle returns."""

    def __init__(
        self,
        database: Database,
        *,
        owner: str,
        lease: float,
        limits: Callable[[], LaneSettings],
        settled: Callable[[str], None],
    ) -> None:
        self._database = database
        self._owner = owner
        self._lease = lease
        self._limits = limits
        self._settled = settled
        self._waiters: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def look(self) -> None:
        """One of them may have its turn."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    @asynccontextmanager
    async def place(self, key: SessionKey) -> AsyncIterator[Place]:
        """A place in the lane, which is left when the context ends, unless its work goes on. Raises
        SessionBusy, StoreFailed."""
        lane, most = data(str(key)), self._limits().max_waiting
        values = (lane, self._owner, self._lease, most)
        (row,) = await self._database.rows(_ENTER, values, repeat=False)
        if row[0] is None:
            raise SessionBusy(
                f"The session {str(key)!r} is busy: more than {most} changes of it are waiting "
                f"(agents.defaults.maxWaiting is {most}).",
                retry_after=_BUSY_FOR,
            )
        place = Place(self, key, lane, row[0], granted=row[1])
        try:
            yield place
        finally:
            if not place.works:
                place.leave()

    async def granted(self, position: int) -> bool:
        row = await self._database.row(_GRANTED, (position,))
        if row is None:
            raise StoreFailed("The change has lost its place in the session's lane.")
        return bool(row[0])

    async def arrival(self) -> None:
        """Return when it is time to look again."""
        await within(_LOOK_EVERY, self._waiters)

    async def hold(self, position: int) -> None:
        """Renew the lease until this is cancelled."""
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await self._database.execute(_RENEW, (position,))
            except GatewayError as error:
                logger.warning("a change was not renewed", extra={"reason": str(error)})

    def leave(self, lane: bytes, position: int) -> None:
        task = asyncio.create_task(self._leave(lane, position))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _leave(self, lane: bytes, position: int) -> None:
        try:
            row = await self._database.row(_LEAVE, (lane, position))
        except GatewayError as error:  # The lane is free when the lease has expired.
            logger.warning("a change did not leave its lane", extra={"reason": str(error)})
        else:
            self._settled("" if row is None else row[0])

    async def close(self) -> None:
        """Return once no change is leaving."""
        while self._tasks:
            await asyncio.wait(self._tasks)


class Place:
    """The place of one change."""

    def __init__(
        self, changes: Changes, key: SessionKey, lane: bytes, position: int, *, granted: bool
    ) -> None:
        self._changes = changes
        self._key = key
        self._lane = lane
        self._position = position
        self._granted = granted
        self.works = False
        """The work goes on, and leaves the place at its end."""

    async def turn(self, patience: float) -> None:
        """Wait until the change may be done. Raises SessionBusy, StoreFailed."""
        try:
            async with asyncio.timeout(patience):
                while not self._granted:
                    arrival = asyncio.ensure_future(self._changes.arrival())
                    try:
                        await asyncio.sleep(0)
                        self._granted = await self._changes.granted(self._position)
                        if not self._granted:
                            await arrival
                    finally:
                        arrival.cancel()
        except TimeoutError:
            raise SessionBusy(
                f"Session {self._key} is still active; try again in a moment.",
                retry_after=patience,
            ) from None

    async def do(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the change, and leave the place. What it writes is refused once the place is lost,
        because a Run may be at work then. Raises SessionBusy."""
        keeper = asyncio.create_task(self._changes.hold(self._position))
        lost = f"The change of session {self._key} has lost its place."
        fence = Fence(_HAS_PLACE, (self._position,), lost)
        set_fence(fence)
        try:
            return await work()
        except LeaseLost as error:
            raise SessionBusy(
                f"The change of session {self._key} was interrupted for too long and not made; "
                "try again.",
                retry_after=_BUSY_FOR,
            ) from error
        finally:
            fence.active = False
            keeper.cancel()
            self.leave()

    def leave(self) -> None:
        self._changes.leave(self._lane, self._position)
