"""What becomes of a Run whose owner has died: the rules, and the end of Runs that cannot go on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import EventsExpired, RunFailed, RunInterrupted, StoreFailed
from ..messages import Role
from ..models import ReasoningDelta, StopReason, TextDelta, Usage
from ..ports import Clock, RunEvents, RunQueue, SessionCatalog, SessionStore, Turn
from ..runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TERMINAL,
    TOOL_EVENTS,
    Aborted,
    Claim,
    Failed,
    Finished,
    OnLeave,
    Resumed,
    RunRecord,
    Started,
    StepDone,
    Waiting,
    consumes,
)
from ..sessions import FAILED, STOPPED

logger = logging.getLogger(__name__)

MOST_LOST = 3
"""Attempts that may be lost: a Run that kills what executes it must not go on for ever."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The Run cannot go on, or has nothing left to do: `rest` of its answer, then the end."""

    event: Finished | Failed | Aborted
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Appended:
    """What the events of a Run hold. `text`: of its answer, None where the beginning is gone.
    `void`: how many of the last events are those of a model call whose message was not stored;
    `any_text`: there is text or reasoning among these."""

    text: str | None = ""
    any_text: bool = False
    void: int = 0


def take_over(claim: Claim, *, turn: Turn | None, appended: Appended) -> Ending | Resumed:
    """What the owner of `claim` does with a Run whose owner before it has died. `turn`: what the
    Run has stored."""
    if turn is not None:
        ended = _ended_without_answer(turn)
        if ended is not None:
            return Ending(ended)
        usage = turn.usage or Usage(0, 0, estimated=True)
        return Ending(Finished(StopReason.STOP, usage, turn.model), _rest(turn, appended.text))
    if not claim.spec.messages:
        return _interrupted("The Gateway stopped while the run was going on.")
    spec = claim.spec
    if appended.any_text and spec.streamed and spec.on_leave is OnLeave.ABORT:
        return _interrupted("What executed the run died after a part of its answer was sent.")
    if claim.lost >= MOST_LOST:
        return _interrupted(f"What executed the run died {claim.lost} times.")
    return Resumed(claim.attempt, appended.void, "What executed the run died.")


async def decide(
    claim: Claim, run_events: RunEvents, catalog: SessionCatalog
) -> tuple[Ending | Resumed, RunRecord | None]:
    """What `take_over` says of the Run as it is kept. Raises StoreFailed."""
    turn = await catalog.turn(claim.spec.id)
    record = await run_events.find(claim.spec.id)
    last_seq = 0 if record is None else record.last_seq
    appended = await _appended(run_events, claim.spec.id, last_seq)
    return take_over(claim, turn=turn, appended=appended), record


async def recover(
    queue: RunQueue,
    run_events: RunEvents,
    store: SessionStore,
    catalog: SessionCatalog,
    owner: str,
    clock: Clock,
    *,
    go_on: bool = True,
) -> int:
    """Give each Run that dead processes left, and that cannot go on, its terminal event, and return
    how many there were. The queue hands the others to its workers; without
    `go_on` it leaves them to the next process.

    A Run whose turn is stored has finished, though its terminal event is missing: what is missing
    of the answer is appended now. Doing it again, also after dying within, changes nothing. Raises
    StoreFailed.
    """
    claims: Sequence[Claim] = await queue.expired(owner, go_on=go_on)
    for claim in claims:
        decision, _ = await decide(claim, run_events, catalog)
        if isinstance(decision, Resumed):
            raise TypeError(f"run {claim.spec.id!r} has left no messages to go on with")
        await conclude(claim, decision, queue, run_events, store, clock())
    if go_on:
        await _end_forgotten(queue, store, clock)
    return len(claims)


async def conclude(
    claim: Claim,
    ending: Ending,
    queue: RunQueue,
    run_events: RunEvents,
    store: SessionStore,
    at: float,
) -> None:
    """End the Run. Raises LeaseLost, StoreFailed."""
    if isinstance(ending.event, Failed):
        await _keep_steps(claim, ending.event, store, at)
    if ending.rest:
        await run_events.append(claim, (TextDelta(ending.rest),))
    await queue.finish(claim, ending.event)


async def _keep_steps(claim: Claim, ending: Failed, store: SessionStore, at: float) -> None:
    """Store what a Run has done that cannot go on. Steps that cannot be read, or stored now, stay
    where they are: one Run must not keep the Gateway from starting. Raises LeaseLost."""
    try:
        kept = await store.open_turn(claim.spec.id, claim.attempt)
        if kept is not None:
            await store.end_turn(kept, note=note_of(ending), at=at)
    except StoreFailed as error:
        _note_unkept(claim.spec.id, error)


def _note_unkept(run_id: str, error: StoreFailed) -> None:
    extra = {"run": run_id, "reason": error.message}
    logger.error("the steps of a run could not be kept", extra=extra)


def note_of(ending: Failed | Aborted) -> str:
    """What the transcript says of a Run that has ended without an answer, after its steps."""
    if isinstance(ending, Aborted):
        return f"{STOPPED}{ending.reason}]"
    return f"{FAILED}{ending.message}]"


def _ended_without_answer(turn: Turn) -> Failed | Aborted | None:
    """How the Run has ended whose turn `note_of` concludes; None for one with an answer."""
    text = turn.messages[-1].text if turn.messages else ""
    if text.startswith(STOPPED):
        return Aborted(text.removeprefix(STOPPED).removesuffix("]"))
    if text.startswith(FAILED):
        return Failed(RunFailed.code, text.removeprefix(FAILED).removesuffix("]"))
    return None


async def _end_forgotten(queue: RunQueue, store: SessionStore, clock: Clock) -> None:
    """Store the open turns of Runs that have ended, or that nobody knows any more."""
    going_on = {spec.id for spec in await queue.unfinished()}
    note = note_of(Failed(RunInterrupted.code, "The Gateway stopped."))
    for turn in await store.open_turns():
        if turn.run_id in going_on:
            continue
        try:
            await store.end_turn(turn, note=note, at=clock())
        except StoreFailed as error:
            _note_unkept(turn.run_id, error)


def _interrupted(why: str) -> Ending:
    return Ending(Failed(RunInterrupted.code, why))


def _rest(turn: Turn, kept: str | None) -> str:
    """The end of the stored answer that no event has. Empty where `kept`, the text of the events,
    is None (it was too long to keep) or differs from the answer."""
    answer = turn.messages[-1] if turn.messages else None
    if kept is None or answer is None or answer.role is not Role.ASSISTANT:
        return ""
    return answer.text[len(kept) :] if answer.text.startswith(kept) else ""


_STORED = (StepDone, *TOOL_EVENTS, Waiting, Resumed)
"""Events that are appended once what comes before them in the Run is stored."""


@consumes(*DELTAS, *_STORED, ignores=(Started, *CONTEXT_EVENTS, *TERMINAL))
async def _appended(run_events: RunEvents, run_id: str, last_seq: int) -> Appended:
    if not last_seq:
        return Appended()
    texts: list[str] = []
    any_text, stored = False, 0
    try:
        async for batch in run_events.follow_kept(run_id):
            for seq, event in enumerate(batch.events, batch.first):
                if isinstance(event, _STORED):
                    texts.clear()  # Of another message than the answer, or void.
                    stored, any_text = seq, False
                elif isinstance(event, TextDelta):
                    texts.append(event.text)
                any_text = any_text or isinstance(event, TextDelta | ReasoningDelta)
            if batch.last >= last_seq:
                break  # More will not come by itself.
    except EventsExpired:
        return Appended(None, any_text=True, void=last_seq - stored)
    return Appended("".join(texts), any_text, last_seq - stored)
