"""The control protocol as a reference: Markdown for people, JSON Schema for programs.

Both are made from what the Gateway runs on: frames, methods, parameters, transports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from opensoul.adapters.transports.control.broadcast import TICK_SECONDS
from opensoul.adapters.transports.control.connection import (
    MAX_BUFFERED,
    MAX_HALF_OPEN,
    MAX_PER_ADDRESS,
    MAX_VALUES,
    Handlers,
)
from opensoul.adapters.transports.control.handshake import MAX_PAYLOAD
from opensoul.adapters.transports.control.protocol import (
    EVENTS,
    FRAME_BURST,
    FRAME_RATE,
    MAX_FRAMES_BEFORE_HELLO,
    METHODS,
    NEWEST_PROTOCOL,
    OLDEST_PROTOCOL,
    SMALL_FRAME,
    Challenge,
    ConnectParams,
    Method,
    RequestFrame,
)
from opensoul.adapters.transports.control.protocol.frames import EventFrame, HelloOk, ResponseFrame
from opensoul.adapters.transports.control.transport import (
    CONNECT_SECONDS,
    HANDSHAKE_SECONDS,
    MAX_PREAUTH_BYTES,
)
from opensoul.adapters.transports.http.json_text import MAX_KEYS
from opensoul.adapters.transports.routes import Route

_FRAMES: tuple[type[BaseModel], ...] = (
    RequestFrame,
    ResponseFrame,
    EventFrame,
    Challenge,
    ConnectParams,
    HelloOk,
)
_INTRODUCTION = f"""# The control protocol

Each text message of a WebSocket is one JSON object. The WebSocket is on the port that serves HTTP,
at any path. Versions {OLDEST_PROTOCOL} to {NEWEST_PROTOCOL} are supported; the highest that both
sides support is used. This page and [protocol.schema.json](protocol.schema.json) are made from the
code by `make docs`.

## A connection

1. The Gateway sends the event `connect.challenge` with a `nonce`.
2. The client requests `connect` within {CONNECT_SECONDS:g} seconds, with its description, the
   scopes it wants, and a secret or a device's signature over the nonce. A client that sends the
   Gateway's secret with the upgrade, too, as `Authorization: Bearer <secret>` or `x-api-key`, has
   {HANDSHAKE_SECONDS:g} seconds, and is not replaced (see below). A wrong secret there counts
   towards the lockout.
3. The Gateway answers `hello-ok`. `auth.scopes` are the requested scopes that the credential holds;
   a client that requests none is granted none. Or the Gateway answers with an error and closes the
   connection; both give the reason.
4. From then on requests may be sent at any time; their answers may overtake one another.

| limit | value |
|---|---|
| a message before `hello-ok` | {MAX_PREAUTH_BYTES:,} bytes |
| a message after it | {MAX_PAYLOAD:,} bytes |
| keys and values in a message, of which a text is one | {MAX_VALUES:,} |
| keys of one object | {MAX_KEYS:,} |
| what is in work of all clients | `gateway.http.maxBytesInFlight`; beyond it `UNAVAILABLE` |
| what waits for a client that reads slowly | {MAX_BUFFERED:,} bytes, then it is closed |
| frames before `hello-ok`, also pings | {MAX_FRAMES_BEFORE_HELLO}, then it is closed with 1008 |
| pings, pongs and small fragments after it | {FRAME_BURST:,}, and {FRAME_RATE:g} more a second |
| connections without `connect` from an address | {MAX_PER_ADDRESS}; a new one replaces the oldest |
| connections without `connect` from all addresses | {MAX_HALF_OPEN} |
| `tick` | every {TICK_SECONDS:g} s |

A fragment is small below {SMALL_FRAME} bytes, and counts at least 64 bytes of its message. A
connection that is replaced is closed with 1013. Where all addresses together have too many, the
oldest of the address with the most is replaced.

## Runs

`agent` is answered twice under one id: `accepted` at once, and the result when the run has ended.
`idempotencyKey` becomes the run's id. It is reserved on the disk before anything happens and known
for a day, so the same request may be sent again after a lost connection or a restart: it gets the
same run. The events of every run, by whichever transport, are numbered from 1 and kept;
`runs.follow {{runId, afterSeq}}` sends those above `afterSeq`, each once and in order, and then the
new ones, also after the Gateway was killed.

Two requests are the same when all of this is equal: source, session, messages with their
pictures, parameters, `thinking` and the time limit. Anything else under a used key is refused. Keys
that another version of the Gateway kept get their run without that comparison.

`timeout` (`agent`, in seconds, also fractions) and `timeoutMs` (`chat.send`, `sessions.send`) give
a run less time than the agent's `timeoutSeconds`, never more; 0 sets no limit of the client's own.
A negative number is an error. `agent.wait` bounds the waiting with its `timeoutMs`, not the run.

`sessions.compact` with `maxLines` and `chat.inject` take place behind the runs that the session
has, and before those that come later; `sessions.reset` and `sessions.delete` first stop those that
it has. When the session is still busy after 15 seconds, nothing is changed and the error is
retryable. `sessions.compact` without `maxLines` has the session's model write a summary: it takes
as long as a model call, and waits for nothing.
`sessions.patch` waits for nothing.

A run that is aborted, or has used up its time, is waited for 10 seconds: then its runner is
abandoned, the run ends as aborted or failed and says so, and the session goes on.

## Properties that the Gateway does not know

Methods that only read ignore them, at any depth, so that a newer client gets an answer; each is
named once in the log. Methods that change something refuse them, so that no part of a request is
ignored in silence.

## Chats of the family's clients

Entries of `chat.history` and the message in the last `chat` event of a run carry the same
`messageId` and `__openclaw: {{id, seq}}`, by which a client knows them as one message. With
`inputRunIds`, the answer's `inputReceipts` and `inputConsumptions` name the runs that were
accepted, also those that were aborted or failed.

A message that is nothing but a command such as `/status` is answered by a run of the Gateway's
own, which is not stored; `docs/commands.md` lists them. Without the scope that a command needs, the
request is answered with an error. `suppressCommandInterpretation` sends the text to the model.
`chat.send` answers `/stop` with `{{ok, aborted, runIds}}`: the runs that it stops.

## Numbers of events

An event's outer `seq` counts what this connection was sent; a missing number is an event that was
dropped because the client read too slowly. The inner `seq` of `agent` and `chat` is the run's.
"""


def render_protocol(handlers: Handlers, routes: Iterable[Route]) -> str:
    """The reference, as Markdown."""
    return "\n".join(
        (
            _INTRODUCTION,
            *_frames(),
            *_methods(handlers),
            *_without_meaning(),
            *_events(),
            *_routes(routes),
        )
    )


def protocol_schema(handlers: Handlers) -> dict[str, Any]:
    """The JSON Schema of the frames and of every method's parameters."""
    named: dict[str, type[BaseModel]] = {model.__name__: model for model in _FRAMES}
    named |= {name: handlers[name].params for name in sorted(handlers)}
    models = list(dict.fromkeys(named.values()))
    refs, whole = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/$defs/{model}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The control protocol of OpenSoul Gateway",
        "frames": {model.__name__: refs[(model, "validation")] for model in _FRAMES},
        "methods": {
            name: {"params": refs[(handlers[name].params, "validation")]}
            for name in sorted(handlers)
        },
        "$defs": whole.get("$defs", {}),
    }


def _frames() -> Iterator[str]:
    yield "## Frames\n"
    for model in _FRAMES:
        yield f"### {model.__name__}\n\n{_prose(model)}\n"
        yield from _fields(model)


def _methods(handlers: Handlers) -> Iterator[str]:
    yield "## Methods\n"
    for name in sorted(handlers):
        method = METHODS[name]
        yield f"### `{name}`\n\n{method.summary} Needs {_scope(method)}.\n"
        params = handlers[name].params
        if params.model_fields:
            yield from _fields(params)


def _fields(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema(by_alias=True)
    required = set(schema.get("required", ()))
    yield "| field | type | |\n|---|---|---|"
    for name, field in schema.get("properties", {}).items():
        must = "required" if name in required else ""
        yield f"| `{name}` | {_type(field)} | {must} |"
    yield ""


def _without_meaning() -> Iterator[str]:
    yield "## Methods without a meaning here\n"
    yield "They answer `UNAVAILABLE` with the sentence beside them.\n"
    yield from _by_reason(method for method in METHODS.values() if method.missing is not None)
    yield "These answer an empty list. An answer that clients read as an open object has the"
    yield "sentence as its `note`.\n"
    yield from _by_reason(method for method in METHODS.values() if method.empty is not None)


def _by_reason(methods: Iterable[Method]) -> Iterator[str]:
    yield "| methods | why |\n|---|---|"
    reasons: dict[str, list[str]] = {}
    for method in methods:
        reasons.setdefault(method.summary, []).append(f"`{method.name}`")
    for why, names in reasons.items():
        yield f"| {' '.join(names)} | {why} |"
    yield ""


def _events() -> Iterator[str]:
    yield "## Events\n"
    yield "| event | scope | may be dropped | |\n|---|---|---|---|"
    for kind in EVENTS.values():
        scope = "none" if kind.scope is None else f"`{kind.scope.value}`"
        yield f"| `{kind.name}` | {scope} | {'yes' if kind.lossy else ''} | {kind.summary} |"
    yield ""


def _routes(routes: Iterable[Route]) -> Iterator[str]:
    yield "## HTTP routes\n"
    yield "The scopes are the same. [openapi.json](openapi.json), which the Gateway serves at"
    yield "`/openapi.json`, describes requests and answers.\n"
    yield "| route | method | needs | setting that turns it on |\n|---|---|---|---|"
    for route in routes:
        need = "nothing" if route.scope is None else f"`{route.scope.value}`"
        switch = "" if route.switch is None else f"`{route.switch.key}`"
        yield f"| `{route.path}` | {route.method} | {need} | {switch} |"
    yield ""


def _scope(method: Method) -> str:
    need = "nothing" if method.scope is None else f"`{method.scope.value}`"
    return f"{need}, for some parameters `operator.admin`" if method.harder else need


def _prose(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        kinds = (_type(kind) for kind in field["anyOf"] if kind.get("type") != "null")
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    return str(field.get("type", "anything"))
