"""Conversations that go on with the results of a client's tools."""

from __future__ import annotations

from collections.abc import Sequence

from ..access import Action, Principal, Resource, may
from ..errors import InvalidRequest
from ..messages import Message, Role, ToolCall
from ..ports import RunEvents, SessionCatalog, Turn
from ..runs import RunSpec
from ..sessions import SessionKey, is_made_call_id, stray_results
from ..tools import run_of_call


class StoredCalls:
    """The steps that have handed out calls to clients.

    A client knows the texts of a turn and its own calls: not those of the agent's tools, their
    results, and which step is which. Steps are found by the ids of calls that are ours, where the
    Run was the principal's and the agent's and its turn is stored still. Other calls are the
    client's own history.
    """

    def __init__(self, run_events: RunEvents, catalog: SessionCatalog) -> None:
        self._run_events = run_events
        self._catalog = catalog

    async def completed(
        self,
        messages: tuple[Message, ...],
        *,
        agent_id: str,
        principal: Principal,
        history: Sequence[Message] = (),
    ) -> tuple[Message, ...]:
        """The messages of a client, which follow `history`, with the stored steps in the place of
        what it has of them. Results whose call it has not sent at all go on with the turn of the
        call. Raises StoreFailed."""
        found: list[Message] = []
        changed = False
        for message in messages:
            steps = None
            if message.role is Role.ASSISTANT and (calls := _calls(message)):
                turn = await self._turn_of(calls, agent_id, principal)
                steps = None if turn is None else _steps_of(turn, calls)
            if steps is None or not _has_text_of(message, steps):
                found.append(message)
            else:
                found += steps
                changed = True
        sent = {call for one in (*history, *found) for call in _calls(one)}
        for stray in [found[i] for i in _stray(history, found)]:
            if stray.tool_call_id is None or stray.tool_call_id in sent:
                continue
            turn = await self._turn_of((stray.tool_call_id,), agent_id, principal)
            if turn is None:
                continue
            at = next(i for i, one in enumerate(found) if one is stray)
            is_asked = any(one.role is Role.USER for one in found[:at])
            steps = _steps_of(turn, (stray.tool_call_id,))
            if steps is None:
                continue
            found[at:at] = steps if is_asked else turn.messages
            sent.update(call for one in steps for call in _calls(one))
            changed = True
        return tuple(found) if changed else messages

    async def sessions_of(self, spec: RunSpec) -> set[SessionKey]:
        """The sessions of the principal's Runs whose calls the messages of the Run answer. Raises
        StoreFailed."""
        keys = set[SessionKey]()
        for call in {call for message in spec.messages for call in _calls(message)}:
            record = await self._run_events.find(named[0]) if (named := run_of_call(call)) else None
            if record is not None and record.principal_id == spec.principal_id:
                keys.add(record.session_key)
        return keys

    async def _turn_of(
        self, calls: Sequence[str], agent_id: str, principal: Principal
    ) -> Turn | None:
        named = next((found for call in calls if (found := run_of_call(call)) is not None), None)
        if named is None:
            return None
        record = await self._run_events.find(named[0])
        if record is None or record.agent_id != agent_id:
            return None
        if not may(principal, Action.SEE_RUN, Resource(record.agent_id, record.principal_id)):
            return None
        return await self._catalog.turn(record.id)


def check_results(
    messages: Sequence[Message], history: Sequence[Message] = (), *, sent: Sequence[Message] = ()
) -> None:
    """Check that each result follows its call. `sent`: all messages of the request, where the error
    shall name the position of the result. Raises InvalidRequest."""
    for i in _stray(history, messages):
        result = messages[i]
        if result.tool_call_id is None or is_made_call_id(result.tool_call_id):
            continue  # The client has named no call.
        place = next((place for place, one in enumerate(sent) if one is result), None)
        raise InvalidRequest(
            "A message with the role 'tool' must be a response to a preceding message with "
            f"'tool_calls': there is no call {result.tool_call_id!r} that waits for a result.",
            param="messages" if place is None else f"messages[{place}].tool_call_id",
        )


def _stray(history: Sequence[Message], messages: Sequence[Message]) -> Sequence[int]:
    """The positions in `messages` of results without a call before them that waits for them."""
    if not any(one.role is Role.TOOL for one in messages):
        return ()
    before = len(history)
    return [i - before for i in stray_results((*history, *messages)) if i >= before]


def _calls(message: Message) -> list[str]:
    return [part.id for part in message.parts if isinstance(part, ToolCall)]


def _steps_of(turn: Turn, calls: Sequence[str]) -> Sequence[Message] | None:
    """The steps of the turn up to the one with these calls; None where that is not its last one."""
    named = next((found for call in calls if (found := run_of_call(call)) is not None), None)
    if named is None:
        return None
    count, messages = named[1], turn.messages
    wanted = frozenset(calls)
    for i in range(len(messages) - 1, -1, -1):
        if messages[i].role is not Role.ASSISTANT or not (ids := _calls(messages[i])):
            continue
        if wanted:
            if wanted.isdisjoint(ids):
                return None
            wanted = frozenset()
        count -= 1
        if not count:
            return messages[i:]
    return None


def _has_text_of(message: Message, steps: Sequence[Message]) -> bool:
    """Whether the client has left the text as it was, or out. What it has edited is its own."""
    text = _squeezed(message.text)
    texts = [_squeezed(step.text) for step in steps if step.role is Role.ASSISTANT]
    return text in ("", texts[-1], "".join(texts))


def _squeezed(text: str) -> str:
    return "".join(text.split())
