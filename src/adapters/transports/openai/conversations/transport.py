"""`/v1/conversations`: conversations and their items."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from quart import Response, request

from .....domain.access import Scope
from .....domain.errors import InvalidRequest
from .....domain.responses import Conversation, ItemPage, Json
from .....domain.services import Gateway, Responses
from ...answering import ignored_names, parameters, read_fields
from ...http.bodies import read_object
from ...http.context import RequestContext, current
from ...http.fields import Ignored, a_list
from ...http.json_text import dumps
from ...media import MediaPart
from ...routes import Route, Transport
from ...switches import RESPONSES_SWITCH, answer_limits
from ..responses import InputReader, ResponseState, item_query, kept_items, list_object
from . import operations

_ALL = "/v1/conversations"
_ONE = f"{_ALL}/<conversation_id>"
_ITEMS = f"{_ONE}/items"
_ITEM = f"{_ITEMS}/<item_id>"
MAX_ADDED = 20
"""Items that one request adds, as OpenAI has it."""


class Fields(parameters.Strict):
    """Fields of the bodies, besides the items."""

    metadata: parameters.Metadata = None


def transport(gateway: Gateway, responses: Responses, *, clock: Callable[[], float]) -> Transport:
    """The routes. `clock`: Unix seconds."""
    endpoint = _Endpoint(ResponseState(gateway, responses, clock))
    of = operations
    routes = (
        (_ALL, "POST", endpoint.create, of.create, "Begin a conversation."),
        (_ONE, "GET", endpoint.retrieve, of.retrieve, "One conversation."),
        (_ONE, "POST", endpoint.update, of.update, "Replace a conversation's metadata."),
        (_ONE, "DELETE", endpoint.delete, of.delete, "Delete a conversation."),
        (_ITEMS, "GET", endpoint.items, of.items, "The items of a conversation."),
        (_ITEMS, "POST", endpoint.add, of.add, "Add items to a conversation."),
        (_ITEM, "GET", endpoint.item, of.item, "One item of a conversation."),
        (_ITEM, "DELETE", endpoint.remove, of.remove, "Delete an item of a conversation."),
    )
    return Transport(
        "openai_conversations",
        tuple(
            Route(
                path,
                method,
                Scope.READ if method == "GET" else Scope.WRITE,
                view,
                summary,
                limits=answer_limits,
                switch=RESPONSES_SWITCH,
                operation=operation,
                errors=() if path == _ALL else (404,),
            )
            for path, method, view, operation, summary in routes
        ),
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """A body. `items`: with their ids; None where there is no such field."""

    items: Sequence[Json] | None
    metadata: Mapping[str, str] | None
    ignored: str


def _read(body: Mapping[str, Any], *, known: frozenset[str], most: int) -> _Read:
    """Raises InvalidRequest and Unsupported; `param` is the path of the field at fault."""
    ignored = Ignored()
    fields = read_fields(Fields, body)
    ignored.note(body, known)
    items: list[Json] | None = None
    if "items" in known and body.get("items") is not None:
        sent = a_list(body["items"], "items", most)
        media: list[MediaPart] = []
        reader = InputReader(ignored, media, {})
        reader.read(sent, "items")
        for item_id, path in reader.references.items():
            message = f"`{path}` refers to {item_id[:100]!r}. Send the item itself."
            raise InvalidRequest(message, param=path)
        items = kept_items(sent, uuid.uuid4().hex)
    return _Read(items, fields.metadata, ignored.header)


class _Endpoint:
    """The views."""

    def __init__(self, state: ResponseState) -> None:
        self._state = state
        self._responses = state.responses

    async def create(self) -> Response:
        context = current()
        await self._state.gateway.check_request(context.principal)
        asked = await _body(context, "items", "metadata")
        if asked.items:
            await self._state.check_outputs(context, asked.items)
        conversation = await self._responses.begin(
            context.principal, asked.items or (), asked.metadata or {}
        )
        return _json(_object(conversation))

    async def retrieve(self, conversation_id: str) -> Response:
        found = await self._responses.conversation(current().principal, conversation_id)
        return _json(_object(found))

    async def update(self, conversation_id: str) -> Response:
        context = current()
        asked = await _body(context, "metadata")
        if asked.metadata is None:
            raise InvalidRequest("`metadata` is missing; it must be an object.", param="metadata")
        return _json(
            _object(
                await self._responses.set_metadata(
                    context.principal, conversation_id, asked.metadata
                )
            )
        )

    async def delete(self, conversation_id: str) -> Response:
        await self._responses.end(current().principal, conversation_id)
        deleted = {"id": conversation_id, "object": "conversation.deleted", "deleted": True}
        return _json(deleted)

    async def items(self, conversation_id: str) -> Response:
        context, query = current(), item_query()
        await self._state.settle(context, conversation_id)
        page = await self._responses.items(context.principal, conversation_id, query)
        return _json(list_object(page))

    async def add(self, conversation_id: str) -> Response:
        context = current()
        await self._state.gateway.check_request(context.principal)
        asked = await _body(context, "items")
        if not asked.items:
            raise InvalidRequest("`items` must be a list of 1 to 20 items.", param="items")
        # What was answered before stands before them.
        await self._state.settle(context, conversation_id)
        await self._state.check_outputs(context, asked.items, conversation_id)
        added = await self._responses.add(context.principal, conversation_id, asked.items)
        return _json(list_object(ItemPage(added)))

    async def item(self, conversation_id: str, item_id: str) -> Response:
        context = current()
        await self._state.settle(context, conversation_id)
        return _json(await self._responses.item(context.principal, conversation_id, item_id))

    async def remove(self, conversation_id: str, item_id: str) -> Response:
        context = current()
        await self._state.settle(context, conversation_id)
        removed = await self._responses.remove(context.principal, conversation_id, item_id)
        return _json(_object(removed))


async def _body(context: RequestContext, *known: str) -> _Read:
    read = partial(_read, known=frozenset(known), most=MAX_ADDED)
    asked = await read_object(request.body, context, read)
    if ignored := ignored_names(asked.ignored, context.headers):
        context.response_headers["x-opensoul-ignored"] = ignored
    return asked


def _object(conversation: Conversation) -> dict[str, object]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": int(conversation.created_at),
        "metadata": dict(conversation.metadata),
    }


def _json(body: Mapping[str, object]) -> Response:
    return Response(dumps(body), content_type="application/json")
