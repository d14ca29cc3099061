"""What is done once for each turn of the event loop."""

from __future__ import annotations

import asyncio

from opensoul.domain.concurrency import ThisTurn


async def test_what_is_done_is_done_until_the_turn_ends() -> None:
    turn = ThisTurn()
    assert not turn.done
    turn.mark()
    assert turn.done
    await asyncio.sleep(0)
    assert not turn.done


def test_without_an_event_loop_nothing_counts_as_done() -> None:
    turn = ThisTurn()
    turn.mark()
    assert not turn.done
