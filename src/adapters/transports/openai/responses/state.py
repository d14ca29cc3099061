"""The state behind responses: what a request goes on from, what is kept of it, and the response
object again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

from .....domain.access import Principal, Scope
from .....domain.concurrency import off_loop
from .....domain.errors import (
    EventsExpired,
    GatewayError,
    InvalidRequest,
    RunAborted,
    StoreFailed,
    UnknownResponse,
    UnknownRun,
)
from .....domain.messages import Role
from .....domain.responses import Json, StoredResponse
from .....domain.runs import After, EventBatch, OnLeave, RunRecord, RunRequest, RunSpec, RunStatus
from .....domain.services import (
    CONVERSATION,
    Gateway,
    Responses,
    conversation_locked,
    run_id_of_key,
)
from .....domain.services import after as after_response
from .....domain.sessions import Conversation, is_temporary, stray_results
from ...answering import (
    Answer,
    CurrentEvents,
    collect,
    events_of_turn,
    idempotency_key_in,
    session_key_in,
)
from ...http.context import RequestContext
from ...http.errors import problem_of
from ...http.fields import Ignored
from ..common import Extras
from .frames import Frames
from .input import InputReader
from .items import kept_items, key_of_item, layers_in, refuse_repeated
from .objects import (
    Head,
    answer_items,
    answer_object,
    failed_object,
    response_id,
    response_object,
)
from .request import ResponsesRequest, read_request

_ANSWERED = frozenset({RunStatus.FINISHED, RunStatus.FAILED, RunStatus.INTERRUPTED})
_BYTES_PER_ITEM = 1_000
"""About; for the choice of reading a conversation in a thread."""
_READER = Principal("gateway", frozenset({Scope.READ}), "internal")
"""Reads the responses in a conversation: who may see that has its items, whoever added them."""
_NOT_STORED = (
    "Item with id '{}' not found. Items are not persisted when `store` is set to false. Try again "
    "with `store` set to true, or remove this item from your input."
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with what it goes on from. `resolved`: the items that its references stand for, by
    their ids."""

    asked: ResponsesRequest
    after: After | None = None
    conversation: str = ""
    resolved: Mapping[str, object] | None = None
    layers: Sequence[Json] = ()
    """Messages of `system` and `developer` before it, which are no part of a session."""

    def run_request(self, run_request: RunRequest) -> RunRequest:
        """`run_request`, which goes on from there."""
        if self.conversation:
            conversation = Conversation(CONVERSATION, self.conversation)
            run_request = replace(run_request, conversation=conversation, user=None)
        if self.after is not None:
            run_request = replace(run_request, after=self.after)
        if self.asked.background:
            run_request = replace(run_request, on_leave=OnLeave.CONTINUE)
        return run_request

    @property
    def echo(self) -> Mapping[str, object]:
        """The fields of the response object that repeat the request."""
        if not self.conversation:
            return self.asked.echo
        return {**self.asked.echo, "conversation": {"id": self.conversation}}


@dataclass(frozen=True, slots=True)
class _Ended:
    """An answer that is complete; `at`: when, in Unix seconds."""

    answer: Answer
    at: float


class ResponseState:
    """What the endpoints for responses and conversations share. `clock`: Unix seconds."""

    def __init__(self, gateway: Gateway, responses: Responses, clock: Callable[[], float]) -> None:
        self.gateway = gateway
        self.responses = responses
        self.clock = clock

    @asynccontextmanager
    async def prepared(
        self,
        context: RequestContext,
        asked: ResponsesRequest,
        local: Mapping[str, StoredResponse] | None = None,
    ) -> AsyncIterator[Prepared]:
        """The request with what it goes on from; within this context nothing else goes on with its
        conversation. `local`: responses of this connection that are not stored. Raises
        InvalidRequest and its kinds."""
        if asked.background and not asked.store:
            raise InvalidRequest(
                "A response in the background has to be stored: leave `store` out.",
                param="background",
            )
        if asked.conversation is not None:
            if asked.previous_response_id is not None:
                raise InvalidRequest(
                    "Mutually exclusive parameters: 'conversation' and 'previous_response_id'. "
                    "Ensure you are only providing one of them.",
                    param="previous_response_id",
                )
            if _named_session(context, asked) is not None:
                raise InvalidRequest(
                    "A conversation has a session of its own. Leave out `conversation`, or the key "
                    "of the session.",
                    param="conversation",
                )
            async with self.responses.locked(asked.conversation):
                yield await self._in_conversation(context, asked, asked.conversation)
            return
        after = await self._after(context, asked, local or {})
        layers = await self._layers(context, asked, local or {})
        if not asked.references and not layers:
            yield Prepared(asked, after)
            return
        resolved = await self._resolved(context, asked.references)
        again = await _read_again(asked, layers, resolved)
        yield Prepared(again, after, resolved=resolved, layers=layers)

    async def _after(
        self,
        context: RequestContext,
        asked: ResponsesRequest,
        local: Mapping[str, StoredResponse],
    ) -> After | None:
        previous = asked.previous_response_id
        if previous is None:
            return None
        if previous in local:
            return after_response(local[previous])
        after = await self.responses.after(context.principal, previous)
        named = _named_session(context, asked)
        if named is not None and after is not None:
            key = self.gateway.session_key(named, principal=context.principal)
            if key != after.session_key:
                raise InvalidRequest(
                    f"The response {previous} is in the session {after.session_key}. Leave the "
                    "key of a session out, or send that one.",
                    param="previous_response_id",
                )
        return after

    async def _layers(
        self,
        context: RequestContext,
        asked: ResponsesRequest,
        local: Mapping[str, StoredResponse],
    ) -> Sequence[Json]:
        """The layers up to the response before, without those that the request repeats."""
        previous = asked.previous_response_id
        if previous is None:
            return ()
        response = local.get(previous)
        if response is None:
            response = await self.responses.find(context.principal, previous)
        before = response.body.get("layers")
        if not isinstance(before, list):
            return ()
        repeated = [layer["content"] for layer in layers_in(kept_items(asked.items, ""))]
        return [layer for layer in before if layer["content"] not in repeated]

    async def _in_conversation(
        self, context: RequestContext, asked: ResponsesRequest, conversation_id: str
    ) -> Prepared:
        """The conversation is read from its items, and compared with the stored session as that of
        a client that sends all of it again."""
        await self.responses.conversation(context.principal, conversation_id)
        again = await self._begun_before(context)
        for response in await self._settle(context, conversation_id):
            if again is not None and response.id == again.id:
                continue
            record = await self._record(_READER, response)
            # One that waits for an approval adds its items later; this request may decide.
            if record is None or record.status is not RunStatus.WAITING:
                raise conversation_locked()
        if again is None:
            await self.responses.check_room(conversation_id)
        before = await self.responses.all_items(context.principal, conversation_id)
        if again is not None:  # It was asked before its own items were added.
            own = {item["id"] for item in again.input}
            before = tuple(takewhile(lambda item: item["id"] not in own, before))
        resolved: dict[str, object] = {str(item["id"]): item for item in before}
        refuse_repeated(asked.items, resolved.keys())
        unknown = {one: path for one, path in asked.references.items() if one not in resolved}
        if unknown:
            resolved |= await self._resolved(context, unknown)
        read = await _read_again(asked, before, resolved)
        return Prepared(read, conversation=conversation_id, resolved=resolved)

    async def _begun_before(self, context: RequestContext) -> StoredResponse | None:
        """The response that the request's Idempotency-Key stands for already."""
        if (key := idempotency_key_in(context.headers)) is None:
            return None
        run_id = run_id_of_key(context.principal, key)
        try:
            return await self.responses.find(context.principal, response_id(run_id))
        except UnknownResponse:
            return None

    async def keep(
        self,
        context: RequestContext,
        prepared: Prepared,
        run_request: RunRequest,
        run: RunSpec | RunRecord,
        extras: Extras,
    ) -> StoredResponse:
        """The response of a run that was accepted, which can be found from here on unless its
        client asked not to store it. Raises StoreFailed. The run was stopped then, unless the
        request has a key: when it is sent again it stores the response of the same run."""
        asked, after = prepared.asked, prepared.after
        key = response_id(run.id).partition("_")[2]
        before = "" if after is None else after.run_id
        is_command = self.gateway.command(run_request) is not None
        own = f"{run.source}:{run.id}"
        # Of a conversation that its client does not keep nothing is stored.
        stores = asked.store and not is_temporary(run.session_key)
        items = kept_items(asked.items, key, prepared.resolved)
        echo: object = {**prepared.echo, "store": stores}
        if before == run.id:  # It decides on a call of that response, and gets its answer.
            try:
                echo = (await self.responses.find(context.principal, response_id(before))).body[
                    "echo"
                ]
            except UnknownResponse:
                echo = {**prepared.echo, "store": stores, "previous_response_id": None}
        body: dict[str, object] = {
            "echo": echo,
            "reasoning": extras.reasoning,
            "tools": extras.tools,
        }
        if layers := [*prepared.layers, *layers_in(items)]:
            body["layers"] = layers
        response = StoredResponse(
            id=response_id(run.id),
            run_id=run.id,
            principal_id=run.principal_id,
            agent_id=run.agent_id,
            session_key=run.session_key,
            created_at=run.accepted_at,
            body=body,
            input=items,
            turn_of=before if is_command else run.id,
            one_off=run.session_key.rest.endswith(own) if after is None else after.one_off,
            background=asked.background,
            conversation=prepared.conversation,
            settled=not prepared.conversation,
            hidden=not stores,
        )
        if stores or prepared.conversation:
            try:
                await self.responses.keep(response)
            except GatewayError:
                if idempotency_key_in(context.headers) is None:
                    await self.gateway.abort(context.principal, run.id, "It could not be stored.")
                raise
        return response

    # What is stored

    async def object_of(self, context: RequestContext, response: StoredResponse) -> Json:
        """The response object as it stands. Raises UnknownResponse where the answer of its run is
        no longer kept."""
        head = head_of_stored(response)
        record = await self._record(context.principal, response)
        if record is not None and record.status not in (*_ANSWERED, RunStatus.ABORTED):
            queued = record.status is RunStatus.QUEUED and response.background
            return response_object(head, "queued" if queued else "in_progress")
        try:
            ended = await self._ended(context, response, record)
        except RunAborted:
            return response_object(head, "cancelled")
        except (UnknownResponse, EventsExpired):
            raise _gone(response) from None
        except GatewayError as error:
            if record is None or record.status is RunStatus.FINISHED:
                raise
            return failed_object(head, problem_of(error), ())
        reasoning = response.body.get("reasoning") is True
        return answer_object(head, ended.answer, reasoning=reasoning, completed_at=int(ended.at))

    async def items_of(
        self, context: RequestContext, response: StoredResponse
    ) -> Sequence[Json] | None:
        """The items of the response, its input first; None while its run goes on, and empty where
        that has ended without an answer, or it is no longer kept."""
        record = await self._record(context.principal, response)
        if record is not None and not record.status.final:
            return None
        try:
            ended = await self._ended(context, response, record)
        except StoreFailed:
            raise
        except GatewayError:
            return ()
        reasoning = response.body.get("reasoning") is True
        output = answer_items(head_of_stored(response), ended.answer, reasoning=reasoning)
        return [*response.input, *(item for item in output if isinstance(item, dict))]

    async def _record(self, principal: Principal, response: StoredResponse) -> RunRecord | None:
        try:
            return await self.gateway.run(principal, response.run_id)
        except UnknownRun:
            return None

    async def _ended(
        self, context: RequestContext, response: StoredResponse, record: RunRecord | None
    ) -> _Ended:
        """The answer of a run that has ended: of its events, or of the stored turn. Raises the
        GatewayError that the run ended with, EventsExpired, UnknownResponse."""
        principal, gateway = context.principal, self.gateway
        has_format = _has_format(response)
        # The timings and the outcome of the request itself are others.
        context = RequestContext(context.request_id, context.client, authenticated=principal)
        if record is not None:
            following = gateway.follow(principal, record, kept=True, stops=False)
            async with following as events:
                current = CurrentEvents(gateway, context, record, events, has_format=has_format)
                answer = await collect(current, context)
            return _Ended(answer, record.ended_at or response.created_at)
        turn = await gateway.turn(principal, _finished(response))
        if turn is None:
            raise _gone(response)
        answer = await collect(_only(events_of_turn(turn, 0, has_format=has_format)), context)
        return _Ended(answer, turn.at)

    async def _settle(
        self, context: RequestContext, conversation_id: str
    ) -> Sequence[StoredResponse]:
        """Add the items of the responses that have ended to the conversation; returns those that go
        on still."""
        context = RequestContext(context.request_id, context.client, authenticated=_READER)
        left = []
        for response in await self.responses.unsettled(conversation_id):
            items = await self.items_of(context, response)
            if items is None:
                left.append(response)
            else:
                await self.responses.settle(response, items)
        return left

    async def settle(self, context: RequestContext, conversation_id: str) -> None:
        """Add what has ended to a conversation of the principal's. Raises UnknownConversation."""
        await self.responses.conversation(context.principal, conversation_id)
        await self._settle(context, conversation_id)

    async def check_outputs(
        self, context: RequestContext, items: Sequence[Json], conversation_id: str | None = None
    ) -> None:
        """Refuse the output of a call that is neither in the conversation nor before it among the
        items: each response in the conversation would be refused for it. Raises InvalidRequest,
        UnknownConversation."""
        if _stray_output((), items) is None:
            return
        before: Sequence[Json] = ()
        if conversation_id is not None:
            before = await self.responses.all_items(context.principal, conversation_id)
        place = await off_loop(len(before) * _BYTES_PER_ITEM, partial(_stray_output, before, items))
        if place is not None:
            raise InvalidRequest(
                f"`{place}.call_id`: no function_call before it has this id and waits for an "
                "output. Add the call first.",
                param=f"{place}.call_id",
            )

    async def _resolved(
        self, context: RequestContext, references: Mapping[str, str]
    ) -> dict[str, object]:
        """The items of stored responses that references stand for, by their ids. Raises
        UnknownResponse."""
        found: dict[str, object] = {}
        read: set[str] = set()
        for item_id, path in references.items():
            key = key_of_item(item_id)
            if key is not None and key not in read:
                read.add(key)
                for item in await self._items_by_key(context, key):
                    found[str(item["id"])] = item
            if item_id not in found:
                raise UnknownResponse(_NOT_STORED.format(item_id[:100]), param=path)
        return found

    async def _items_by_key(self, context: RequestContext, key: str) -> Sequence[Json]:
        try:
            response = await self.responses.find(context.principal, f"resp_{key}")
        except UnknownResponse:
            return ()
        return await self.items_of(context, response) or response.input


def head_of_stored(response: StoredResponse) -> Head:
    """The head of the objects of a stored response."""
    echo = response.body["echo"]
    return Head(response.id, int(response.created_at), echo if isinstance(echo, dict) else {})


def extras_of(response: StoredResponse) -> Extras:
    """What its stream has besides OpenAI's own events."""
    return Extras(response.body.get("reasoning") is True, response.body.get("tools") is True)


def frames_of(response: StoredResponse, *, clock: Callable[[], float]) -> Frames:
    """What writes its stream. `clock`: Unix seconds."""
    return Frames(
        head_of_stored(response),
        extras=extras_of(response),
        clock=clock,
        at_once=response.background,
    )


def _named_session(context: RequestContext, asked: ResponsesRequest) -> str | None:
    """The session key in the headers or the metadata of a request."""
    return session_key_in(context.headers) or asked.session_key


def _stray_output(before: Sequence[Json], items: Sequence[Json]) -> str | None:
    """The path of the first of the items that is the output of no call before it."""
    if not any(item["type"] == "function_call_output" for item in items):
        return None
    reader = InputReader(Ignored(), [], {})
    reader.read(before, "previous")
    reader.read(items, "items")
    messages, places = reader.messages, reader.places
    for number, message in enumerate(messages):
        # An answer behind it would only hide a stray one.
        if (
            message.role is Role.TOOL
            and places[number].startswith("items[")
            and number in stray_results(messages[: number + 1])
        ):
            return places[number]
    return None


async def _read_again(
    asked: ResponsesRequest, before: Sequence[object], resolved: Mapping[str, object]
) -> ResponsesRequest:
    """The request with the items before it, and those that its references stand for."""
    read = partial(read_request, asked.body, before=before, resolved=resolved)
    return await off_loop((len(before) + len(resolved)) * _BYTES_PER_ITEM, read)


def _has_format(response: StoredResponse) -> bool:
    """Whether the request required a format of the answer."""
    match response.body.get("echo"):
        case {"text": {"format": {"type": "json_object" | "json_schema"}}}:
            return True
    return False


def _finished(response: StoredResponse) -> RunRecord:
    """The record of a run that is no longer kept; its turn may be."""
    return RunRecord(
        response.run_id,
        response.session_key,
        response.agent_id,
        response.principal_id,
        "openai",
        status=RunStatus.FINISHED,
    )


async def _only(batch: EventBatch) -> AsyncGenerator[EventBatch]:
    yield batch


def _gone(response: StoredResponse) -> UnknownResponse:
    return UnknownResponse(f"Response with id '{response.id}' not found.")
