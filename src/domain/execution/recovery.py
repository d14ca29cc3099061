"""What becomes of a Run whose owner has died: the rules, and the end of Runs that cannot go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import EventsExpired, RunInterrupted
from ..messages import Role
from ..models import ReasoningDelta, StopReason, TextDelta, Usage
from ..ports import RunEvents, RunQueue, SessionCatalog, Turn
from ..runs import (
    DELTAS,
    TERMINAL,
    TOOL_EVENTS,
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

MOST_LOST = 3
"""Attempts that may be lost: a Run that kills what executes it must not go on for ever."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The Run cannot go on, or has nothing left to do: `rest` of its answer, then the end."""

    event: Finished | Failed
    rest: str = ""


def take_over(
    claim: Claim, *, turn: Turn | None, last_seq: int, text: str | None, spoke: bool
) -> Ending | Resumed:
    """What the owner of `claim` does with a Run whose owner before it has died.

    `turn`: what the Run has stored, `text`: of its answer, what was appended (None: the beginning
    is gone), `spoke`: whether anything of an answer was appended.
    """
    if turn is not None:
        usage = turn.usage or Usage(0, 0, estimated=True)
        return Ending(Finished(StopReason.STOP, usage, turn.model), _rest(turn, text))
    if not claim.spec.messages:
        return _interrupted("The Gateway stopped while the run was going on.")
    if spoke and claim.spec.on_leave is OnLeave.ABORT:
        return _interrupted("What executed the run died after a part of its answer was sent.")
    if claim.lost >= MOST_LOST:
        return _interrupted(f"What executed the run died {claim.lost} times.")
    return Resumed(claim.attempt, last_seq, "What executed the run died.")


async def decide(
    claim: Claim, run_events: RunEvents, catalog: SessionCatalog
) -> tuple[Ending | Resumed, RunRecord | None]:
    """What `take_over` says of the Run as it is kept. Raises StoreFailed."""
    turn = await catalog.turn(claim.spec.id)
    record = await run_events.find(claim.spec.id)
    last_seq = 0 if record is None else record.last_seq
    text, spoke = await _told(run_events, claim.spec.id, last_seq)
    return take_over(claim, turn=turn, last_seq=last_seq, text=text, spoke=spoke), record


async def recover(
    queue: RunQueue, run_events: RunEvents, catalog: SessionCatalog, owner: str
) -> int:
    """Give each Run that dead processes left its terminal event, and return how many there were.

    A Run whose turn is stored has finished, though that was not told any more: what is missing of
    the answer is appended now. Doing it again, also after dying within, changes nothing. Raises
    StoreFailed.
    """
    claims: Sequence[Claim] = await queue.expired(owner)
    for claim in claims:
        decision, _ = await decide(claim, run_events, catalog)
        if isinstance(decision, Resumed):
            raise TypeError(f"run {claim.spec.id!r} has left no messages to go on with")
        await conclude(claim, decision, queue, run_events)
    return len(claims)


async def conclude(claim: Claim, ending: Ending, queue: RunQueue, run_events: RunEvents) -> None:
    """End the Run. Raises LeaseLost."""
    if ending.rest:
        await run_events.append(claim, (TextDelta(ending.rest),))
    await queue.finish(claim, ending.event)


def _interrupted(why: str) -> Ending:
    return Ending(Failed(RunInterrupted.code, why))


def _rest(turn: Turn, kept: str | None) -> str:
    """The end of the stored answer that no event has. Empty where `kept`, the text of the events,
    is None (it was too long to keep) or differs from the answer."""
    answer = turn.messages[-1] if turn.messages else None
    if kept is None or answer is None or answer.role is not Role.ASSISTANT:
        return ""
    return answer.text[len(kept) :] if answer.text.startswith(kept) else ""


@consumes(*DELTAS, StepDone, Resumed, ignores=(Started, Waiting, *TOOL_EVENTS, *TERMINAL))
async def _told(run_events: RunEvents, run_id: str, last_seq: int) -> tuple[str | None, bool]:
    """The text that a Run had told, None where its beginning is gone; and whether it had told
    anything of an answer."""
    texts: list[str] = []
    spoke = False
    if not last_seq:
        return "", False
    try:
        async for batch in run_events.follow_kept(run_id):
            for event in batch.events:
                if isinstance(event, StepDone) or (isinstance(event, Resumed) and event.void):
                    texts.clear()  # Of another message than the answer, or void.
                elif isinstance(event, TextDelta):
                    texts.append(event.text)
                spoke = spoke or isinstance(event, TextDelta | ReasoningDelta)
            if batch.last >= last_seq:
                break  # More will not come by itself.
    except EventsExpired:
        return None, True
    return "".join(texts), spoke
