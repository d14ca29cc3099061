"""What becomes of Runs that were going on when the Gateway died."""

from __future__ import annotations

from ..errors import EventsExpired, RunInterrupted
from ..messages import Role
from ..models import StopReason, TextDelta, Usage
from ..ports import RunLog, SessionCatalog, Turn
from ..runs import Failed, Finished, RunRecord


async def recover(run_log: RunLog, catalog: SessionCatalog) -> int:
    """Give each unfinished Run of an earlier process its terminal event; tells how many there were.

    To be called after the start of both, before any Run is accepted. A Run whose turn is stored
    has finished, though that was not told any more: what is missing of the answer is told now.
    Doing it again, also after dying within, changes nothing. Raises StoreFailed.
    """
    unfinished = await run_log.unfinished()
    for record in unfinished:
        turn = await catalog.turn(record.id)
        if turn is None:
            why = "The Gateway stopped while the run was going on."
            run_log.append(record.id, Failed(RunInterrupted.code, why))
        else:
            rest = _rest(turn, await _kept_text(run_log, record))
            if rest:
                run_log.append(record.id, TextDelta(rest))
            usage = turn.usage or Usage(0, 0, estimated=True)
            run_log.append(record.id, Finished(StopReason.STOP, usage, turn.model))
    return len(unfinished)


def _rest(turn: Turn, kept: str | None) -> str:
    """What of the stored answer was not told. None was kept of a Run that told too much; and what
    differs from the answer is no beginning of it."""
    answer = turn.messages[-1] if turn.messages else None
    if kept is None or answer is None or answer.role is not Role.ASSISTANT:
        return ""
    return answer.text[len(kept) :] if answer.text.startswith(kept) else ""


async def _kept_text(run_log: RunLog, record: RunRecord) -> str | None:
    """The text that a Run had told; None where its beginning is gone."""
    if not record.last_seq:
        return ""
    texts: list[str] = []
    try:
        async for told in run_log.follow_kept(record.id):
            texts += [event.text for event in told.events if isinstance(event, TextDelta)]
            if told.last >= record.last_seq:
                break  # More will not come by itself.
    except EventsExpired:
        return None
    return "".join(texts)
