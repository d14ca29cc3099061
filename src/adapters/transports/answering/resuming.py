"""Requests that can be repeated, and answers that go on without their client.

`Idempotency-Key` gives the run an id that a repeated request finds again. Such a run, and one with
`x-opensoul-on-disconnect: continue`, is submitted: it is kept before anything happens, and goes on
when its client leaves, and after a restart.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ....domain.byte_budget import held_bytes
from ....domain.errors import EventsExpired, InvalidRequest, KeyReused
from ....domain.messages import Message, Reasoning, Role, ToolCall
from ....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ....domain.ports import Turn
from ....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TERMINAL,
    TOOL_EVENTS,
    ClientCalls,
    EventBatch,
    Finished,
    NumberedEvent,
    OnLeave,
    Resumed,
    RunEvent,
    RunRecord,
    RunRequest,
    RunStatus,
    Started,
    StepDone,
    Waiting,
    answer_format,
    consumes,
)
from ....domain.services import Following, Gateway, run_id_of_key
from ..http.context import RequestContext
from ..http.requests import Headers, family_header
from .headers import as_headers, session_headers

_KEY = "Idempotency-Key"
_KEY_BYTES = _KEY.lower().encode()
_LONGEST_KEY = 256
_MOST_AT_ONCE = 256
"""Events of one batch: other answers get their turn between two batches."""
_LEAVING = "on-disconnect"
_LEAVING_BYTES = (f"x-opensoul-{_LEAVING}".encode(), f"x-openclaw-{_LEAVING}".encode())
RESUME_HEADERS = [
    {
        "name": _KEY,
        "in": "header",
        "description": "A repeated request with the same key gets the same answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": _LONGEST_KEY},
    },
    {
        "name": f"x-opensoul-{_LEAVING}",
        "in": "header",
        "description": "The run goes on when the client leaves.",
        "schema": {"const": "continue"},
    },
]
"""The headers as parameters of an OpenAPI operation."""


def idempotency_key_in(headers: Headers) -> str | None:
    """The key of the request; None where it has none. Raises InvalidRequest."""
    value = headers.get(_KEY_BYTES)
    if value is None:
        return None
    try:
        key = value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"The header {_KEY} is not UTF-8.", param=_KEY) from None
    if not key.strip() or len(key) > _LONGEST_KEY:
        message = f"The header {_KEY} must have 1 to {_LONGEST_KEY} characters."
        raise InvalidRequest(message, param=_KEY)
    return key


def continues_without_client(headers: Headers) -> bool:
    """Whether the run goes on when the client leaves. Raises InvalidRequest."""
    if _LEAVING_BYTES[0] not in headers and _LEAVING_BYTES[1] not in headers:
        return False
    if family_header(headers, _LEAVING) == "continue":
        return True
    name = f"x-opensoul-{_LEAVING}"
    raise InvalidRequest(f"The only value of the header {name} is `continue`.", param=name)


async def start_submitted_run(
    gateway: Gateway, context: RequestContext, run_request: RunRequest, key: str | None
) -> tuple[RunRecord, Following, CurrentEvents]:
    """The run that the request begins, or has begun under the key before, as a follower of it and
    as the events that its answer is made from. Raises what `Gateway.submit_once` raises."""
    principal = context.principal
    context.charge.raise_to(held_bytes(run_request.messages))
    run_id = str(uuid.uuid4()) if key is None else run_id_of_key(principal, key)
    run_request = replace(run_request, on_leave=OnLeave.CONTINUE)
    try:
        submission = await gateway.submit_once(
            principal, run_request, run_id, charge=context.charge
        )
    except KeyReused:
        raise KeyReused(
            f"Another request was sent with the same {_KEY}; a new request needs a new key.",
            param=_KEY,
        ) from None
    except InvalidRequest as error:
        raise as_headers(error, context.headers) from None
    run = submission.record
    # Only what is kept: a client must not be sent the number of an event that a crash can undo.
    following = await context.enter(gateway.follow(principal, run, kept=True))
    context.adopt_task()
    context.began(run, run_request.model)
    if (spec := submission.spec) is not None:
        context.response_headers |= session_headers(spec, run_request)
    has_format = answer_format(run_request.params) is not None
    events = CurrentEvents(gateway, context, run, following, has_format=has_format)
    return run, following, events


class CurrentEvents:
    """The events of a run from its first one, for an answer that begins now.

    Those that there are already are read first, and come without the ones that a later attempt has
    made void. Where they are no longer kept, the stored turn of a run that has finished takes their
    place. Waiting may be given up and begun again. `has_format`: the text of the last step
    alone is the answer.
    """

    def __init__(
        self,
        gateway: Gateway,
        context: RequestContext,
        run: RunRecord,
        following: Following,
        *,
        has_format: bool = False,
    ) -> None:
        self._gateway = gateway
        self._context = context
        self._run = run
        self._following = following
        self._has_format = has_format
        self._there: list[NumberedEvent] = []
        """Those of the events up to `run.last_seq` that were read."""
        self._read = not run.last_seq
        """All of them were read."""
        self._batches: deque[EventBatch] = deque()

    def __aiter__(self) -> CurrentEvents:
        return self

    async def __anext__(self) -> EventBatch:
        while not self._read:
            try:
                batch = await anext(self._following)
            except EventsExpired:
                self._batches.append(await self._stored())
                self._read = True
                break
            for numbered in batch:
                _add(self._there, numbered)
            if batch.last >= self._run.last_seq:
                self._batches.extend(_batches(self._there))
                self._there, self._read = [], True
        if self._batches:
            return self._batches.popleft()
        return await anext(self._following)

    async def _stored(self) -> EventBatch:
        """The answer of the stored turn. Raises EventsExpired where there is none."""
        turn = None
        if self._run.status is RunStatus.FINISHED:
            turn = await self._gateway.turn(self._context.principal, self._run)
        if turn is None:
            raise EventsExpired(f"The answer of run {self._run.id!r} is no longer kept.")
        return events_of_turn(turn, self._run.last_seq, has_format=self._has_format)


def _batches(events: Sequence[NumberedEvent]) -> Iterator[EventBatch]:
    """The events in batches without gaps."""
    first, batch = 0, list[RunEvent]()
    for numbered in events:
        if batch and (numbered.seq != first + len(batch) or len(batch) == _MOST_AT_ONCE):
            yield EventBatch(first, batch)
            batch = []
        if not batch:
            first = numbered.seq
        batch.append(numbered.event)
    yield EventBatch(first, batch)


@consumes(
    Resumed,
    ignores=(Started, *DELTAS, *TOOL_EVENTS, *CONTEXT_EVENTS, StepDone, Waiting, *TERMINAL),
)
def _add(events: list[NumberedEvent], numbered: NumberedEvent) -> None:
    """Add an event, and remove those that it makes void."""
    event = numbered.event
    if isinstance(event, Resumed) and event.void:
        while events and events[-1].seq >= numbered.seq - event.void:
            events.pop()
        numbered = NumberedEvent(numbered.seq, replace(event, void=0))
    events.append(numbered)


def text_of(turn: Turn) -> str:
    """The text of the answer that a turn has stored, as the run's events had it: between the texts
    of two steps there is an empty line."""
    return "".join(text for _, text in _steps_in(_answer_in(turn)))


def events_of_turn(turn: Turn, last: int, *, has_format: bool) -> EventBatch:
    """The answer in a turn as the events that it was made of."""
    messages = _answer_in(turn)
    results = {message.tool_call_id for message in messages}
    events: list[RunEvent] = []
    calls: tuple[ToolCall, ...] = ()
    steps = _steps_in(messages)
    for number, (step, text) in enumerate(steps, 1):
        for part in step.parts:
            if isinstance(part, Reasoning) and part.text and not part.redacted:
                events.append(ReasoningDelta(part.text))
        if text and (number == len(steps) or not has_format):
            events.append(TextDelta(text))
        calls = tuple(p for p in step.parts if isinstance(p, ToolCall) and p.id not in results)
    if calls:
        events.append(ClientCalls(calls))
    stop = turn.stop or (StopReason.TOOL_CALLS if calls else StopReason.STOP)
    usage = turn.usage or Usage(0, 0, estimated=True)
    events.append(Finished(stop, usage, turn.model))
    return EventBatch(last - len(events) + 1, tuple(events))


def _answer_in(turn: Turn) -> Sequence[Message]:
    """The messages behind the last one of the user."""
    roles = [message.role for message in turn.messages]
    begin = len(roles) - roles[::-1].index(Role.USER) if Role.USER in roles else 0
    return turn.messages[begin:]


def _steps_in(answer: Sequence[Message]) -> list[tuple[Message, str]]:
    """The messages of the model, each with its text in the answer."""
    steps = [(message, message.text) for message in answer if message.role is Role.ASSISTANT]
    before = [(step, _paragraph(text) if text else "") for step, text in steps[:-1]]
    return before + steps[-1:]


def _paragraph(text: str) -> str:
    if text.endswith("\n\n"):
        return text
    return text + ("\n" if text.endswith("\n") else "\n\n")
