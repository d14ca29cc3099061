"""Turns that go on with the results of a client's tools, in a request without a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..access import Action, Principal, Resource, may
from ..messages import Message, Role, ToolCall
from ..ports import RunEvents, SessionCatalog, Turn
from ..runs import RunSpec
from ..tools import run_of_call


async def with_stored_steps(
    spec: RunSpec, principal: Principal, run_events: RunEvents, catalog: SessionCatalog
) -> RunSpec:
    """The spec of a one-off Run with the steps that were handed out to its client, in the place of
    the messages that the client has of them: it knows its own calls only, and not those of the
    agent's tools, their results, and earlier steps.

    A step is taken where a call's id is one of ours, the Run was the principal's and the agent's,
    and its turn is stored still. Other messages are the client's own history. Raises StoreFailed.
    """
    messages: list[Message] = []
    changed = False
    for message in spec.messages:
        steps = None
        if message.role is Role.ASSISTANT:
            steps = await _stored_steps(message, spec, principal, run_events, catalog)
        if steps is None:
            messages.append(message)
        else:
            messages += steps
            changed = True
    return replace(spec, messages=tuple(messages)) if changed else spec


async def _stored_steps(
    message: Message,
    spec: RunSpec,
    principal: Principal,
    run_events: RunEvents,
    catalog: SessionCatalog,
) -> Sequence[Message] | None:
    calls = [part.id for part in message.parts if isinstance(part, ToolCall)]
    named = next((found for call in calls if (found := run_of_call(call)) is not None), None)
    if named is None:
        return None
    run_id, step = named
    record = await run_events.find(run_id)
    if record is None or record.agent_id != spec.agent_id:
        return None
    if not may(principal, Action.SEE_RUN, Resource(record.agent_id, record.principal_id)):
        return None
    turn = await catalog.turn(run_id)
    return None if turn is None else _last_steps(turn, step, frozenset(calls))


def _last_steps(turn: Turn, count: int, calls: frozenset[str]) -> Sequence[Message] | None:
    """The last `count` steps of the turn; None where these calls are not in the last of them."""
    messages = turn.messages
    for i in range(len(messages) - 1, -1, -1):
        ids = {part.id for part in messages[i].parts if isinstance(part, ToolCall)}
        if not ids or messages[i].role is not Role.ASSISTANT:
            continue
        if calls:
            if ids.isdisjoint(calls):
                return None
            calls = frozenset()
        count -= 1
        if not count:
            return messages[i:]
    return None
