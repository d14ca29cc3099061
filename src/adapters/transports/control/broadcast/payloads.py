"""Builds the payloads of `agent` and `chat` events from a Run's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from .....domain.errors import FailureKind
from .....domain.models import ReasoningDelta, TextDelta, Usage
from .....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    KINDS,
    TERMINAL,
    TOOL_EVENTS,
    Aborted,
    ClientCalls,
    CompactionEnded,
    CompactionStarted,
    Ending,
    Failed,
    Finished,
    Pruned,
    Resumed,
    RunEvent,
    RunRecord,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    consumes,
)
from .....domain.sessions import KeptMessage, SessionKey
from ...http.json_text import dumps

_ASSISTANT = "assistant"
_CUMULATIVE = 64 * 1024
"""Characters up to which an `assistant` event repeats the whole text so far. For longer texts this
would cost many times the answer itself; `delta` is always present."""

_ERROR_KINDS: Mapping[FailureKind, str] = {
    FailureKind.TIMEOUT: "timeout",
    FailureKind.RATE_LIMIT: "rate_limit",
    FailureKind.CONTEXT_TOO_LONG: "context_length",
}


@dataclass(slots=True)
class RunPayloads:
    """Builds the payloads of one Run's `agent` events.

    `cumulative`: repeat the whole text so far, which existing clients expect of a broadcast.
    Clients that follow a run join the deltas themselves.
    """

    record: RunRecord
    cumulative: bool = True
    _started_at: float | None = None
    _text: list[str] = field(default_factory=list)
    _length: int = 0
    _stored: str = ""
    """The text of the steps that are stored."""
    _head: bytes = b""
    _tail: bytes = b""

    def __post_init__(self) -> None:
        session = {"sessionKey": str(self.record.session_key), "agentId": self.record.agent_id}
        self._head = b'{"runId":' + dumps(self.record.id) + b',"seq":'
        self._tail = b"," + dumps(session)[1:]

    @property
    def text(self) -> str:
        """The text so far."""
        if len(self._text) > 1:
            self._text = ["".join(self._text)]
        return self._text[0] if self._text else ""

    def agent_event(self, seq: int, event: RunEvent, at: float) -> bytes:
        """Note the next event and return its payload. `at`: Unix seconds."""
        self.note(event, at)
        return self.payload(seq, event, at)

    @consumes(
        TextDelta,
        Started,
        StepDone,
        Resumed,
        ignores=(ReasoningDelta, Waiting, *TOOL_EVENTS, *CONTEXT_EVENTS, *TERMINAL),
    )
    def note(self, event: RunEvent, at: float) -> None:
        """Update the state with the next event; required even if its payload is not used."""
        if isinstance(event, TextDelta):
            self._text.append(event.text)
            self._length += len(event.text)
        elif isinstance(event, Started):
            self._started_at = at
        elif isinstance(event, StepDone):
            self._stored = self.text
        elif isinstance(event, Resumed) and event.void:
            self._text = [self._stored]  # What was said after the last step is void.
            self._length = len(self._stored)

    def payload(self, seq: int, event: RunEvent, at: float) -> bytes:
        """The payload of the event that was noted last. One of an unknown kind is sent without
        its content, since clients expect every number."""
        data = self._data(event, at)
        if data is None:
            return self._payload(seq, "unknown", b"{}", at)
        return self._payload(seq, KINDS.of(event).stream, dumps(data), at)

    def brief(self, seq: int, delta: str, at: float) -> bytes:
        """The payload of a delta without the text before it."""
        return self._payload(seq, _ASSISTANT, dumps({"delta": delta}), at)

    def _payload(self, seq: int, stream: str, data: bytes, at: float) -> bytes:
        return b'%b%d,"stream":"%b","data":%b,"ts":%d%b' % (
            self._head,
            seq,
            stream.encode(),
            data,
            int(at * 1_000),
            self._tail,
        )

    @consumes(
        Started, *DELTAS, *TOOL_EVENTS, *CONTEXT_EVENTS, StepDone, Waiting, Resumed, *TERMINAL
    )
    def _data(self, event: RunEvent, at: float) -> dict[str, object] | None:
        """None for an unknown kind."""
        started = self.record.started_at or self._started_at or self.record.accepted_at
        times: dict[str, object] = {"startedAt": _ms(started)}
        match event:
            case TextDelta(text=delta):
                if self.cumulative and self._length <= _CUMULATIVE:
                    return {"text": self.text, "delta": delta}
                return {"delta": delta}
            case ReasoningDelta(text=delta):
                return {"delta": delta}
            case Started():
                return {"phase": "start", **times}
            case ToolStarted(call_id=call_id, name=name, arguments=arguments):
                return {
                    "phase": "start",
                    "toolCallId": call_id,
                    "name": name,
                    "args": _arguments(arguments),
                }
            case ToolProgress(call_id=call_id, text=text):
                return {"phase": "update", "toolCallId": call_id, "partialResult": text}
            case ToolFinished(call_id=call_id, is_error=is_error, text=text):
                result = {"phase": "result", "toolCallId": call_id}
                return {**result, "isError": is_error, "result": text}
            case CompactionStarted():
                return {"phase": "start"}
            case CompactionEnded(before=before, after=after, failure=failure, retries=retries):
                failed = {"error": failure} if failure else {}
                tokens = {"tokensBefore": before, "tokensAfter": after}
                return {"phase": "end", "willRetry": retries, **tokens, **failed}
            case Pruned(results=results, tokens=tokens_saved):
                return {"phase": "end", "results": results, "tokensSaved": tokens_saved}
            case ClientCalls(calls=calls):
                handed = [
                    {"toolCallId": call.id, "name": call.name, "args": _arguments(call.arguments)}
                    for call in calls
                ]
                return {"phase": "client", "calls": handed}
            case StepDone(number=number):
                return {"phase": "step", **times, "step": number}
            case Waiting(what=what, approval_id=approval_id):
                approval = {} if approval_id is None else {"approvalId": approval_id}
                return {"phase": "waiting", **times, "reason": what, **approval}
            case Resumed(attempt=attempt, void=void, why=why):
                return {
                    "phase": "resumed",
                    **times,
                    "attempt": attempt,
                    "void": void,
                    "reason": why,
                }
            case Finished() | Failed() | Aborted():
                phase, more = _ending(event)
                ended = {"endedAt": _ms(self.record.ended_at or at)}
                return {"phase": phase, **times, **ended, **more}
        return None


def _arguments(text: str) -> object:
    """What the model wrote, as JSON where it is JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _ending(event: Ending) -> tuple[str, dict[str, object]]:
    match event:
        case Finished(stop=stop, usage=usage, model=model):
            return "end", {"stopReason": stop.value, "model": model, "usage": usage_of(usage)}
        case Aborted(reason=reason):
            return "end", {"aborted": True, "stopReason": "aborted", "reason": reason}
        case Failed(message=message, code=code):
            return "error", {"error": message, "code": code}


def chat_event(run_id: str, key: SessionKey, seq: int, state: str, **more: object) -> bytes:
    """The payload of a `chat` event."""
    return dumps(
        {
            "runId": run_id,
            "sessionKey": str(key),
            "agentId": key.agent_id,
            "seq": seq,
            "state": state,
            **more,
        }
    )


def chat_end(
    record: RunRecord,
    seq: int,
    event: Ending,
    text: str,
    at: float,
    *,
    stored: KeptMessage | None = None,
) -> bytes:
    """The payload of the last `chat` event of a Run. `stored`: the answer in the Session."""
    ids = {} if stored is None else message_ids(stored)
    message = {"message": {**message_of(text, at), **ids}} if text else {}
    match event:
        case Finished(stop=stop, usage=usage):
            end = {"stopReason": stop.value, "usage": usage_of(usage)}
            return chat_event(record.id, record.session_key, seq, "final", **message, **end)
        case Aborted():
            return chat_event(
                record.id, record.session_key, seq, "aborted", **message, stopReason="rpc"
            )
        case Failed(message=error, kind=kind):
            error_kind = "unknown" if kind is None else _ERROR_KINDS.get(kind, "unknown")
            end = {"errorMessage": error or "The run failed.", "errorKind": error_kind}
            return chat_event(record.id, record.session_key, seq, "error", **message, **end)


def message_of(text: str, at: float) -> dict[str, object]:
    """An assistant message with one text."""
    return {
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
        "timestamp": _ms(at),
    }


def message_ids(kept: KeptMessage) -> dict[str, object]:
    """The identifiers of a message, in the history and in the last event of its Run. Clients
    recognise equal messages by `__openclaw`."""
    message_id = f"{kept.run_id}:{kept.number}"
    return {
        "messageId": message_id,
        "__openclaw": {"id": message_id, "seq": kept.number},
    }


def sender_key(run_id: str) -> str:
    """The identifier by which clients find a message that they sent in the history."""
    return f"{run_id}:user"


def usage_of(usage: Usage) -> dict[str, object]:
    payload: dict[str, object] = {
        "input": usage.input,
        "output": usage.output,
        "cacheRead": usage.cached,
        "total": usage.total,
    }
    if usage.estimated:
        payload["estimated"] = True
    return payload


def _ms(seconds: float) -> int:
    return int(seconds * 1_000)
