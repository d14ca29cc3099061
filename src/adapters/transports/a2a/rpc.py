"""JSON-RPC requests and responses, in the two versions of A2A that the SDK has types for.

Requests of version 0.3 become those of version 1.0, and responses the other way: the rest of the
package has one version only. The name of the method tells the version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from a2a import types
from a2a.compat.v0_3 import conversions
from a2a.compat.v0_3 import types as legacy_types
from a2a.types import InvalidParamsError, InvalidRequestError, MethodNotFoundError
from a2a.utils.error_handlers import build_error_details
from a2a.utils.errors import JSON_RPC_ERROR_CODE_MAP, A2AError
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from pydantic import ValidationError

from ..http import Problem
from ..http.fields import Ignored
from ..http.json_text import dumps
from .failures import code_of, details_of

CallId = str | int | None
_MOST_EXACT = 2**53
"""Up to here floats and integers are the same."""


class Operation(StrEnum):
    """What a method does, in both versions."""

    SEND = "send"
    STREAM = "stream"
    GET = "get"
    LIST = "list"
    CANCEL = "cancel"
    SUBSCRIBE = "subscribe"
    CARD = "card"
    PUSH = "push"


@dataclass(frozen=True, slots=True)
class _Method:
    """`type`: of the parameters. `convert`: to the type of version 1.0; None: it is one."""

    operation: Operation
    type: Callable[..., Any]
    convert: Callable[[Any], Any] | None = None


_METHODS: Mapping[str, _Method] = {
    "SendMessage": _Method(Operation.SEND, types.SendMessageRequest),
    "SendStreamingMessage": _Method(Operation.STREAM, types.SendMessageRequest),
    "GetTask": _Method(Operation.GET, types.GetTaskRequest),
    "ListTasks": _Method(Operation.LIST, types.ListTasksRequest),
    "CancelTask": _Method(Operation.CANCEL, types.CancelTaskRequest),
    "SubscribeToTask": _Method(Operation.SUBSCRIBE, types.SubscribeToTaskRequest),
    "GetExtendedAgentCard": _Method(Operation.CARD, types.GetExtendedAgentCardRequest),
    "message/send": _Method(
        Operation.SEND,
        legacy_types.SendMessageRequest,
        conversions.to_core_send_message_request,
    ),
    "message/stream": _Method(
        Operation.STREAM,
        legacy_types.SendStreamingMessageRequest,
        conversions.to_core_send_message_request,
    ),
    "tasks/get": _Method(
        Operation.GET, legacy_types.GetTaskRequest, conversions.to_core_get_task_request
    ),
    "tasks/cancel": _Method(
        Operation.CANCEL, legacy_types.CancelTaskRequest, conversions.to_core_cancel_task_request
    ),
    "tasks/resubscribe": _Method(
        Operation.SUBSCRIBE,
        legacy_types.TaskResubscriptionRequest,
        conversions.to_core_subscribe_to_task_request,
    ),
    "agent/getAuthenticatedExtendedCard": _Method(
        Operation.CARD,
        legacy_types.GetAuthenticatedExtendedCardRequest,
        conversions.to_core_get_extended_agent_card_request,
    ),
}
_PUSH = (
    *(f"tasks/pushNotificationConfig/{verb}" for verb in ("set", "get", "list", "delete")),
    *(f"{verb}TaskPushNotificationConfig" for verb in ("Create", "Get", "Delete")),
    "ListTaskPushNotificationConfigs",
)
METHODS = (*_METHODS, *_PUSH)
_KNOWN: Mapping[Operation, frozenset[str]] = {
    Operation.SEND: frozenset({"message", "configuration"}),
    Operation.STREAM: frozenset({"message", "configuration"}),
    Operation.GET: frozenset({"id", "historyLength"}),
    Operation.LIST: frozenset(
        {
            *("contextId", "status", "pageSize", "pageToken", "historyLength"),
            *("statusTimestampAfter", "includeArtifacts"),
        }
    ),
    Operation.CANCEL: frozenset({"id"}),
    Operation.SUBSCRIBE: frozenset({"id"}),
    Operation.CARD: frozenset(),
}
"""The parameters of each operation that have an effect."""
_KNOWN_OF_MESSAGE = frozenset({"kind", "messageId", "contextId", "taskId", "role", "parts"})
_KNOWN_OF_CONFIGURATION = frozenset(
    {
        *("acceptedOutputModes", "historyLength", "blocking", "returnImmediately"),
        *("pushNotificationConfig", "taskPushNotificationConfig"),
    }
)
_KNOWN_OF_PART = frozenset(
    {"kind", "text", "raw", "url", "data", "filename", "mediaType", "file"},
)
_KNOWN_OF_FILE = frozenset({"bytes", "uri", "mimeType", "name"})
_VERSION = re.compile(r"\s*(?:0\.3|1)(?:\.[0-9.]*)?\s*")


@dataclass(frozen=True, slots=True)
class Call:
    """A request. `request`: the message of version 1.0. `ignored`: the names of fields without an
    effect. `error`: why it cannot be answered."""

    id: CallId = None
    legacy: bool = False
    operation: Operation | None = None
    request: Any = None
    ignored: Ignored = field(default_factory=Ignored)
    error: A2AError | None = None


def read_call(body: Mapping[str, Any]) -> Call:
    """The request in a body."""
    call_id = body.get("id")
    if isinstance(call_id, bool) or not isinstance(call_id, str | int | None):
        return Call(error=InvalidRequestError("`id` must be a string, an integer or null."))
    name = body.get("method")
    if body.get("jsonrpc") != "2.0" or not isinstance(name, str):
        message = '`jsonrpc` must be "2.0", and `method` the name of a method.'
        return Call(call_id, error=InvalidRequestError(message))
    if name in _PUSH:
        return Call(call_id, "/" in name, Operation.PUSH)
    method = _METHODS.get(name)
    if method is None:
        message = f"There is no method {name[:100]!r}. Methods: {', '.join(_METHODS)}."
        return Call(call_id, error=MethodNotFoundError(message))
    legacy, params = method.convert is not None, body.get("params")
    if params is None and method.operation in (Operation.CARD, Operation.LIST):
        params = {}
    if not isinstance(params, dict):
        error = InvalidParamsError("`params` must be an object.", data={"param": "params"})
        return Call(call_id, legacy, error=error)
    try:
        request = _parsed(method, {**body, "id": call_id or 0, "params": params})
    except (ParseError, ValidationError, ValueError, TypeError, RecursionError) as problem:
        return Call(call_id, legacy, error=InvalidParamsError(_why(problem)))
    ignored = _ignored(params, method.operation)
    return Call(call_id, legacy, method.operation, request, ignored)


def check_version(version: str) -> None:
    """Check the header `A2A-Version`. Raises VersionNotSupportedError."""
    if version.strip() and not _VERSION.fullmatch(version):
        message = f"Version {version.strip()[:40]!r} of A2A is not served, only 1.0 and 0.3."
        raise types.VersionNotSupportedError(message)


def _parsed(method: _Method, body: Mapping[str, Any]) -> Any:
    if method.convert is None:
        return ParseDict(body["params"], method.type(), ignore_unknown_fields=True)
    read: Any = method.type
    return method.convert(read.model_validate(body))


def _why(problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        return f"`{place}`: {first['msg']}."[:1_000]
    if isinstance(problem, RecursionError):
        return "`params` are nested too deep."
    return f"`params` are not valid: {problem}"[:1_000]


def _ignored(params: Mapping[str, Any], operation: Operation) -> Ignored:
    ignored = Ignored()
    ignored.note(_camel(params), _KNOWN[operation])
    if operation not in (Operation.SEND, Operation.STREAM):
        return ignored
    for name, known in (
        ("message", _KNOWN_OF_MESSAGE),
        ("configuration", _KNOWN_OF_CONFIGURATION),
    ):
        if isinstance(fields := params.get(name), dict):
            ignored.note(_camel(fields), known, f"{name}.")
    message = params.get("message")
    parts = message.get("parts") if isinstance(message, dict) else None
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict):
            ignored.note(_camel(part), _KNOWN_OF_PART, "message.parts.")
            if isinstance(file := part.get("file"), dict):
                ignored.note(_camel(file), _KNOWN_OF_FILE, "message.parts.file.")
    return ignored


def _camel(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields under the names of the specification; both versions read these in snake case,
    too."""
    if not any("_" in name for name in fields):
        return fields
    return {re.sub(r"_([a-z])", lambda m: m[1].upper(), name): fields[name] for name in fields}


def failure(call_id: CallId, code: int, message: str, details: object = None) -> bytes:
    """The response that reports an error."""
    error: dict[str, object] = {"code": code, "message": message}
    if details is not None:
        error["data"] = details
    return dumps({"jsonrpc": "2.0", "id": call_id, "error": error})


def failure_of(call_id: CallId, error: A2AError) -> bytes:
    """The response that reports an error of the protocol."""
    code = JSON_RPC_ERROR_CODE_MAP[type(error)]
    return failure(call_id, code, error.message, build_error_details(error))


def failure_of_problem(call_id: CallId, problem: Problem) -> bytes:
    """The response that reports a problem of the Gateway."""
    return failure(call_id, code_of(problem), problem.message, details_of(problem))


@dataclass(frozen=True, slots=True)
class Results:
    """Writes the results of a call in its version."""

    call_id: CallId
    legacy: bool

    def sent(self, task: types.Task) -> bytes:
        """Of a message that was sent."""
        if self.legacy:
            return self.task(task)
        return self._result(MessageToDict(types.SendMessageResponse(task=task)))

    def task(self, task: types.Task) -> bytes:
        if self.legacy:
            return self._result(_dumped(conversions.to_compat_task(task)))
        return self._result(MessageToDict(task))

    def tasks(self, page: types.ListTasksResponse) -> bytes:
        empty = {"tasks": [], "nextPageToken": "", "pageSize": 0, "totalSize": 0}
        return self._result(empty | MessageToDict(page))

    def card(self, card: types.AgentCard) -> bytes:
        if self.legacy:
            return self._result(_dumped(conversions.to_compat_agent_card(card)))
        return self._result(MessageToDict(card))

    def opening(self, task: types.Task) -> bytes:
        """The first event of a stream."""
        return self.frame(types.StreamResponse(task=task))

    def frame(self, event: types.StreamResponse) -> bytes:
        """One event of a stream."""
        if not self.legacy:
            return b"data: " + self._result(MessageToDict(event)) + b"\n\n"
        result = conversions.to_compat_stream_response(event).result
        if isinstance(result, legacy_types.TaskStatusUpdateEvent):
            waits = event.status_update.status.state == types.TaskState.TASK_STATE_INPUT_REQUIRED
            result.final = result.final or waits  # The stream ends with it.
        return b"data: " + self._result(_dumped(result)) + b"\n\n"

    def failure_frame(self, problem: Problem) -> bytes:
        """The last frame of a stream that fails."""
        error = failure_of_problem(self.call_id, problem)
        return (b"" if self.legacy else b"event: error\n") + b"data: " + error + b"\n\n"

    def _result(self, result: object) -> bytes:
        return dumps({"jsonrpc": "2.0", "id": self.call_id, "result": with_integers(result)})


def with_integers(value: Any) -> Any:
    """A value of a protocol buffer, where all numbers of free-form JSON are floats."""
    match value:
        case dict():
            return {name: with_integers(item) for name, item in value.items()}
        case list():
            return [with_integers(item) for item in value]
        case float() if value.is_integer() and abs(value) <= _MOST_EXACT:
            return int(value)
    return value


def _dumped(model: Any) -> object:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
