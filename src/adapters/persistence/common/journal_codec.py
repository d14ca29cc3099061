"""Open turns, their steps and approvals as bytes, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ....domain.messages import Message, ToolCall
from ....domain.models import Usage
from ....domain.ports import OpenTurn
from ....domain.runs import Step
from ....domain.sessions import SessionKey, Span
from ....domain.tools import Approval, Repeat
from .codec import Undecodable, decode, encode

_VERSION = 1


def encode_open_turn(turn: OpenTurn) -> bytes:
    """The turn as JSON, without its steps and its attempt, which change."""
    span = turn.history
    return _dumps(
        {
            "key": [turn.key.agent_id, turn.key.rest],
            "session_id": turn.session_id,
            "at": turn.at,
            "one_off": turn.one_off,
            "question": dump_messages(turn.question),
            "history": span and [span.session_id, span.start, span.through, span.exact],
        }
    )


def decode_open_turn(
    data: bytes, run_id: str, attempt: int, steps: tuple[Step, ...] = ()
) -> OpenTurn:
    """The turn that `encode_open_turn` made into `data`. Raises Undecodable."""
    body = _loads(data)
    try:
        typed(attempt, int)
        agent_id, rest = body["key"]
        span = body.get("history")
        return OpenTurn(
            key=SessionKey(typed(agent_id, str), typed(rest, str)),
            session_id=typed(body["session_id"], str),
            run_id=run_id,
            at=float(typed(body["at"], (int, float))),
            question=load_messages(body["question"]),
            attempt=attempt,
            one_off=typed(body["one_off"], bool),
            steps=steps,
            history=None if span is None else _span(*span),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _unreadable(error) from error


def _span(session_id: Any, start: Any, through: Any, exact: Any = False) -> Span:
    return Span(typed(session_id, str), typed(start, int), typed(through, int), typed(exact, bool))


def encode_step(step: Step) -> bytes:
    """The step as JSON."""
    usage = step.usage
    return _dumps(
        {
            "message": dump_messages([step.message])[0],
            "results": dump_messages(step.results),
            "begun": {call: repeat.value for call, repeat in step.begun.items()},
            "undecided": sorted(step.undecided),
            "handed": sorted(step.handed),
            "injected": dump_messages(step.injected),
            "usage": usage
            and [
                *(usage.input, usage.output, usage.reasoning, usage.cached, usage.estimated),
                *((usage.cache_writes,) if usage.cache_writes else ()),
            ],
            "model": step.model,
            "seconds": step.seconds,
            **({"state": step.state} if step.state else {}),
        }
    )


def decode_step(data: bytes) -> Step:
    """The step that `encode_step` made into `data`. Raises Undecodable."""
    body = _loads(data)
    try:
        (message,) = load_messages([body["message"]])
        usage = body["usage"]
        return Step(
            message,
            load_messages(body["results"]),
            begun={call: Repeat(repeat) for call, repeat in body["begun"].items()},
            undecided=frozenset(typed(call, str) for call in body["undecided"]),
            handed=frozenset(typed(call, str) for call in body.get("handed", ())),
            injected=load_messages(body["injected"]),
            usage=None if usage is None else Usage(*(typed(n, int) for n in usage)),
            model=typed(body["model"], str),
            seconds=float(typed(body.get("seconds", 0.0), (int, float))),
            state=typed(body.get("state", ""), str),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(error) from error


def encode_approval(approval: Approval) -> bytes:
    """The approval as JSON, without its decision, which changes."""
    call = approval.call
    return _dumps(
        {
            "principal": approval.principal_id,
            "agent": approval.agent_id,
            "session": approval.session_key,
            "call": [call.id, call.name, call.arguments],
            "code": approval.code,
        }
    )


def decode_approval(
    data: bytes, approval_id: str, run_id: str, created_at: float, expires_at: float
) -> Approval:
    """The approval that `encode_approval` made into `data`. Raises Undecodable."""
    body = _loads(data)
    try:
        call_id, name, arguments = body["call"]
        return Approval(
            id=approval_id,
            run_id=run_id,
            principal_id=typed(body["principal"], str),
            call=ToolCall(typed(call_id, str), typed(name, str), typed(arguments, str)),
            created_at=typed(created_at, (int, float)),
            expires_at=typed(expires_at, (int, float)),
            agent_id=typed(body["agent"], str),
            session_key=typed(body["session"], str),
            code=typed(body.get("code", ""), str),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(error) from error


def dump_messages(messages: Sequence[Message]) -> list[str]:
    """The messages as texts within JSON, each as `codec.encode` has it."""
    return [encode(message).decode("utf-8", "surrogatepass") for message in messages]


def load_messages(texts: Any) -> tuple[Message, ...]:
    """The messages of `dump_messages`. Raises Undecodable."""
    return tuple(decode(typed(text, str).encode("utf-8", "surrogatepass")) for text in texts)


def typed(value: Any, kind: type | tuple[type, ...]) -> Any:
    """The value. Raises Undecodable where it is of another type."""
    if not isinstance(value, kind):
        raise Undecodable(f"a stored run has {value!r} where another type belongs")
    return value


def _dumps(body: dict[str, object]) -> bytes:
    text = json.dumps({"version": _VERSION, **body}, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def _loads(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError, AttributeError) as error:
        raise _unreadable(error) from error
    if not isinstance(body, dict) or body.get("version") != _VERSION:
        raise Undecodable("a part of a stored run is of an unknown version")
    return body


def _unreadable(error: Exception) -> Undecodable:
    if isinstance(error, Undecodable):
        return error
    return Undecodable(f"a part of a stored run cannot be read: {error!r}")
