"""`POST /v1/responses/compact`: a conversation as its questions and a summary of all of it.

A run of the agent's model writes the summary, under the same keys and limits as an answer. It is a
side task: without the agent's tools and instructions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from pydantic import StringConstraints
from quart import Response, request

from .....domain.access import Scope
from .....domain.concurrency import off_loop
from .....domain.errors import InvalidRequest
from .....domain.messages import Image, Message, Role, Text
from .....domain.responses import Json
from .....domain.sessions import estimate_all, whole_summary_prompt
from ...answering import collect, ignored_names, parameters, read_fields, run_request_of, start_run
from ...http.bodies import read_object
from ...http.context import current
from ...http.fields import Ignored
from ...http.json_text import dumps
from ...media import MediaPart
from ...routes import Route
from ...switches import RESPONSES_SWITCH, answer_limits
from ..common import DEFAULT_MODEL
from . import operations_of_stored as operations
from .input import InputReader, input_items
from .items import kept_items
from .objects import response_id, usage_object
from .request import SOURCE
from .state import ResponseState
from .summaries import content_of

_TASK = "compaction"
_BYTES_PER_TOKEN = 3
_KNOWN = frozenset({"model", "input", "instructions", "previous_response_id"})


class Fields(parameters.Strict):
    """The fields of a body, besides the items."""

    model: parameters.Model | None = None
    instructions: str | None = None
    previous_response_id: Annotated[str, StringConstraints(max_length=512)] | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    fields: Fields
    items: Sequence[object]
    messages: tuple[Message, ...]
    ignored: str


def _read(body: Mapping[str, Any]) -> _Read:
    """Raises InvalidRequest and Unsupported; `param` is the path of the field at fault."""
    ignored = Ignored()
    fields = read_fields(Fields, body)
    ignored.note(body, _KNOWN)
    if body.get("input") is None and fields.previous_response_id is not None:
        return _Read(fields, (), (), ignored.header)
    items = input_items(body.get("input"))
    media: list[MediaPart] = []
    reader = InputReader(ignored, media, {})
    reader.read(items)
    for item_id, path in reader.references.items():
        message = f"`{path}` refers to {item_id[:100]!r}. Send the item itself."
        raise InvalidRequest(message, param=path)
    return _Read(fields, items, reader.messages, ignored.header)


def route(state: ResponseState) -> Route:
    """The route."""
    return Route(
        "/v1/responses/compact",
        "POST",
        Scope.WRITE,
        partial(_compact, state),
        "A summary of a conversation, to go on with.",
        limits=answer_limits,
        switch=RESPONSES_SWITCH,
        operation=operations.compact,
        errors=(404, 409, 502, 504),
    )


async def _compact(state: ResponseState) -> Response:
    context, settings = current(), state.gateway.settings
    asked = await read_object(request.body, context, _read)
    if ignored := ignored_names(asked.ignored, context.headers):
        context.response_headers["x-opensoul-ignored"] = ignored
    fields, before = asked.fields, tuple[Message, ...]()
    if fields.previous_response_id is not None:
        before = await state.responses.history(context.principal, fields.previous_response_id)
    messages = (*before, *asked.messages)
    prompt = partial(whole_summary_prompt, messages, instructions=fields.instructions or "")
    asks = run_request_of(
        context.headers,
        settings,
        messages=await off_loop(estimate_all(messages) * _BYTES_PER_TOKEN, prompt),
        model=DEFAULT_MODEL if fields.model is None else fields.model,
        params={},
    )
    asks = replace(asks, source=SOURCE, side_task=_TASK, commands=False)
    run, events = await start_run(state.gateway, context, asks)
    answer = await collect(events, context)
    key = response_id(run.id).partition("_")[2]
    summary = {
        "id": f"cmp_{key}",
        "type": "compaction",
        "encrypted_content": content_of(answer.text),
    }
    body = {
        "id": response_id(run.id),
        "object": "response.compaction",
        "created_at": int(run.accepted_at),
        "output": [*_questions(before, key), *_own_questions(asked.items, key), summary],
        "usage": usage_object(answer.finished.usage),
    }
    return Response(dumps(body), content_type="application/json")


def _own_questions(items: Sequence[object], key: str) -> list[Json]:
    return [item for item in kept_items(items, key) if item.get("role") == "user"]


def _questions(messages: Sequence[Message], key: str) -> list[Json]:
    """The messages of the user as items."""
    return [
        {
            "id": f"msg_{key}_{number}",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [_part(part) for part in message.parts if isinstance(part, Text | Image)],
        }
        for number, message in enumerate(messages)
        if message.role is Role.USER
    ]


def _part(part: Text | Image) -> Json:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    return {
        "type": "input_image",
        "detail": part.detail or "auto",
        "image_url": f"data:{part.mime};base64,{part.data}",
    }
