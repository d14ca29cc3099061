"""The events of Runs, and what executes Runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from ..runs import EventBatch, RunEvent, RunPage, RunQuery, RunRecord, RunSpec
from ..sessions import SessionKey

T = TypeVar("T")


class RunLog(Protocol):
    """The events of Runs, append-only and numbered from 1 in each. Bounded, and it expires.

    Events are kept, where the adapter keeps anything, a moment after they were added, many at a
    time. Methods that read what is kept raise StoreFailed when it cannot be read.
    """

    async def start(self) -> None:
        """Make ready. Runs of an earlier process that have no end are told by `unfinished`."""
        ...

    async def reserve(self, record: RunRecord) -> RunRecord | None:
        """Keep the record, unless one of its id is kept: then that one is returned as it stands
        now, and nothing has changed. None: the id is the caller's, and on the disk; `open` or
        `release` follows. Of callers at the same time exactly one gets None."""
        ...

    async def release(self, run_id: str) -> None:
        """Take back a reservation whose Run was not begun."""
        ...

    def open(self, record: RunRecord) -> None:
        """Begin the log of a Run, reserved or not. ValueError when it has one already."""
        ...

    def append(self, run_id: str, *events: RunEvent) -> int:
        """Add events, all or none, and tell the number of the last. Never waits for a follower or
        for the disk. After a terminal event nothing can be added: RuntimeError."""
        ...

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        """Every event numbered above `after`, in order, each once, then new ones as they come;
        it ends behind the terminal event. What is there is told together, though never very much
        at once. Who waits for more may give that up and wait again; nothing need be closed.

        Of Runs that this process holds in memory, and without waiting for the disk. Raises
        UnknownRun, and EventsExpired when events that were asked for are no longer kept (a
        follower that fell too far behind)."""
        ...

    def follow_kept(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        """The same, but each event only once it is kept, and of Runs of earlier processes too:
        who comes back with the number of the last event it saw misses none and sees none twice,
        also after `kill -9`."""
        ...

    async def find(self, run_id: str) -> RunRecord | None:
        """What is known of a Run; None when it is not known (any more)."""
        ...

    async def list(self, query: RunQuery) -> RunPage:
        """Runs, newest first. Raises InvalidRequest (`param` cursor) for a cursor that is none."""
        ...

    async def unfinished(self) -> tuple[RunRecord, ...]:
        """Runs of an earlier process without a terminal event; `append` can still end them."""
        ...

    def trouble(self) -> str | None:
        """A sentence while what happens in Runs cannot be kept; None while it can. Runs go on, and
        keeping is tried again."""
        ...

    async def close(self) -> None:
        """Keep what was added, and let go. Safe to call twice."""
        ...


class RunDispatcher(Protocol):
    """Gets each Run executed once, in the order of its Session."""

    def dispatch(
        self, spec: RunSpec, *, fingerprint: str = "", on_end: Callable[[], None] | None = None
    ) -> None:
        """Take the Run. Raises SessionBusy, GatewayBusy or ShuttingDown, and then has not taken
        it. Returns at once; what happens is told in the RunLog. `on_end` is called once the Run,
        if it was taken, has ended."""
        ...

    def abort(self, run_id: str, reason: str) -> bool:
        """Stop the Run, queued or running. False when there is nothing (left) to stop."""
        ...

    def live(self, key: SessionKey | None = None) -> tuple[RunSpec, ...]:
        """The Runs without a terminal event, of a Session or all, in the order they came."""
        ...

    async def ended(self, run_id: str) -> None:
        """Return once the Run has its terminal event; at once where this process has no such
        Run."""
        ...

    async def change(
        self,
        key: SessionKey,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        patience: float,
        stop: str | None = None,
    ) -> T:
        """Do `work`, which changes the Session's transcript, in the order of its Runs: behind the
        Runs that were dispatched before, ahead of the later ones, and beside none of them.

        `stop`: first stop those before, for that reason. Work that has begun is done to its end,
        also when the caller is cancelled, and only then does the next Run begin. Raises
        SessionBusy when the turn does not come within `patience` seconds: nothing was done then.
        """
        ...

    async def drain(self, grace: float) -> None:
        """Take no more Runs, let those there finish for `grace` seconds, abort the rest. Runs
        whose runners do not stop are not waited for."""
        ...
