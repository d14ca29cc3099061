"""The queue of Runs, their events, and signals to a Run, whichever process executes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from ..messages import Message
from ..runs import (
    Aborted,
    Claim,
    EventBatch,
    Failed,
    Finished,
    RunEvent,
    RunPage,
    RunQuery,
    RunRecord,
    RunSpec,
    Signal,
    Submission,
    Waiting,
)
from ..sessions import SessionKey

T = TypeVar("T")


class RunEvents(Protocol):
    """The events of Runs, append-only and numbered from 1 in each. Bounded, and it expires.

    Events are kept, where the adapter keeps anything, a moment after they were added, many at a
    time. Methods that read what is kept raise StoreFailed when it cannot be read.
    """

    async def start(self) -> None:
        """Open what the events are kept in. Raises StoreFailed."""
        ...

    async def append(self, claim: Claim, events: Sequence[RunEvent]) -> int:
        """Add events, all or none, and return the number of the last. Terminal events, and those
        that let the Run wait, are the queue's to add. Waits while very much of the Run is not kept
        yet. Raises LeaseLost where the claim's owner and attempt are not the Run's; nothing was
        added then."""
        ...

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        """Every event numbered above `after`, in order, each once, then new ones as they come;
        it ends behind the terminal event. What is there comes in one batch, though never very much
        at once. Who waits for more may give that up and wait again; nothing need be closed.

        May be ahead of what is kept. Raises UnknownRun; ShuttingDown when the Run is handed back;
        EventsExpired when events that were asked for are no longer kept (a follower that fell too
        far behind); and StoreFailed, also when this process has lost the Run and the follower has
        events that were not kept."""
        ...

    def follow_kept(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        """The same, but each event only once it is kept, and of Runs of earlier processes too:
        who comes back with the number of the last event it saw misses none and sees none twice,
        also after `kill -9`."""
        ...

    async def ended(self, run_id: str) -> None:
        """Return once the Run has its terminal event; at once where no Run of that id goes on,
        and when it is handed back."""
        ...

    async def find(self, run_id: str) -> RunRecord | None:
        """What is known of a Run; None when it is not known (any more)."""
        ...

    async def which_go_on(self, run_ids: Collection[str]) -> frozenset[str]:
        """Those of the Runs that are known and have not ended, in one step however many."""
        ...

    async def cursor(self, run_id: str) -> str | None:
        """The cursor of the page of `list` that begins behind the Run; None when the Run is not
        known (any more)."""
        ...

    async def list(self, query: RunQuery) -> RunPage:
        """Runs, newest first. Raises InvalidRequest (`param` cursor) for a cursor that is none."""
        ...

    def trouble(self) -> str | None:
        """A sentence while what happens in Runs cannot be kept; None while it can. Runs go on, and
        keeping is tried again."""
        ...

    async def close(self) -> None:
        """Keep what was added, and let go. Safe to call twice."""
        ...


class Worker(Protocol):
    """What executes Runs in this process. A RunQueue calls it, and none of the calls waits."""

    def take(self, claim: Claim) -> None:
        """Execute the Run, then `finish` it or let it `wait`."""
        ...

    def abort(self, run_id: str, reason: str) -> bool:
        """Stop a Run that was taken. False when it is ending already."""
        ...

    def deliver(self, run_id: str, signal: Signal) -> None:
        """A signal for a Run that was taken."""
        ...

    def closed(self, spec: RunSpec, ending: Aborted) -> None:
        """A Run that had begun, and that nobody had, ends with this event: keep what it did."""
        ...


class RunQueue(Protocol):
    """Runs until they end: accepted, in the order of their Sessions, each executed by one owner.
    Runs of commands are executed at once, beside the others.

    A claim is a lease. An owner that does not renew it in time has lost it, and the Run is handed
    to another owner with the next attempt; what the earlier owner still does is refused. Coroutines
    raise StoreFailed where the queue cannot be reached; what they were to do may be done then.
    """

    async def enqueue(
        self,
        spec: RunSpec,
        *,
        fingerprint: str = "",
        once: bool = False,
        on_release: Callable[[], None] | None = None,
    ) -> Submission:
        """Accept the Run, in one step. Raises SessionBusy, GatewayBusy, ShuttingDown, or RunAborted
        where its parent has ended, and then nothing has happened. After StoreFailed the Run may
        have been accepted; without `once` it is aborted as soon as that is possible.

        `once`: where a Run of that id is known, that one is returned and nothing changes; of
        callers at the same time exactly one begins a Run. Otherwise a known id is a ValueError.
        `on_release` is called when this process no longer holds an accepted Run.
        """
        ...

    def serve(self, owner: str, worker: Worker) -> None:
        """Hand claims to the worker from now on, as Runs come to their turn."""
        ...

    def withdraw(self, owner: str) -> None:
        """Hand no further claims to that owner; those that it has stay its own."""
        ...

    async def renew(self, owner: str, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Extend the leases of these claims, which the owner really holds, and return those that
        it has lost. An owner whose lease has expired gets no claims until its next call,
        which may have no claims."""
        ...

    async def finish(self, claim: Claim, ending: Finished | Failed | Aborted) -> None:
        """End the Run with its terminal event. Raises LeaseLost."""
        ...

    async def wait(self, claim: Claim, waiting: Waiting, *, signals_read: int) -> None:
        """Let the Run wait for a signal: its lane and its slot are free. With a signal that the
        attempt has not read, the Run is queued again at once. Raises LeaseLost."""
        ...

    async def unfinished(
        self, key: SessionKey | None = None, *, waiting: bool = True, here: bool = False
    ) -> tuple[RunSpec, ...]:
        """The Runs without a terminal event, of a Session or all, in the order they came.
        `waiting`: with those that wait for a signal. `here`: without those that stay with the other
        processes when this one ends."""
        ...

    async def expired(self, owner: str, *, go_on: bool = True) -> tuple[Claim, ...]:
        """Claims of Runs that dead processes left, whose leases have expired, for the owner to
        end: their specs have no messages, because their messages were not stored. Those whose
        specs were stored are queued again, or wait; without `go_on` they are left to the next
        process."""
        ...

    async def hand_back(self, run_id: str) -> bool:
        """Leave the Run to another process, or to the next one: nobody here has it any more, and
        it gets no terminal event. False where it is not stored, or has ended."""
        ...

    async def exclusive(
        self,
        key: SessionKey,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        patience: float,
        stop: str | None = None,
    ) -> T:
        """Do `work`, which changes the Session's transcript, in the order of its Runs: behind the
        Runs that were accepted before, ahead of the later ones, and beside none of them.

        `stop`: first stop those before, for that reason, though no commands. Work that has begun is
        done to its end, also when the caller is cancelled, and only then does the next Run begin.
        Raises SessionBusy when the turn does not come within `patience` seconds, or the process was
        stopped for so long that the turn is over: nothing was changed then.
        """
        ...

    def refuse(self) -> None:
        """Accept no more Runs from this process: ShuttingDown."""
        ...

    async def idle(self) -> None:
        """Return once no Run is queued or executed. Runs that wait for a signal do not count."""
        ...


class Watchers(Protocol):
    """Which processes have followers of the Runs that end with their last follower. The process
    that accepts such a Run counts from the beginning, and until it leaves or dies."""

    async def enter(self, run_id: str) -> None:
        """This process has a follower of the Run, perhaps beside others that have entered or are
        about to. Where this raises or is cancelled, that follower has not entered. Raises
        StoreFailed."""
        ...

    def ended(self, run_id: str) -> None:
        """The followers of this process have seen the Run's end."""
        ...

    async def leave(self, run_id: str, *, goes_on: bool) -> None:
        """This process has no follower of the Run any more: the Run is stopped where no other
        living process has one, unless it `goes_on`. What fails is tried again."""
        ...


class RunSignals(Protocol):
    """Reaches a Run that is queued, executed by any owner, or waits. All methods raise
    StoreFailed."""

    async def abort(self, run_id: str, reason: str) -> bool:
        """Stop the Run. False when there is nothing (left) to stop."""
        ...

    async def resolve(self, run_id: str, approval_id: str, decision: str) -> bool:
        """Tell the Run what was decided. A waiting Run is queued again. False when it has ended."""
        ...

    async def inject(self, run_id: str, message: Message) -> bool:
        """Give the Run a message while it goes on. A waiting Run is queued again. False when it has
        ended."""
        ...
