"""A RunSpec as bytes, and back, so that another process can execute the Run."""

from __future__ import annotations

import json
from typing import Any

from ....domain.messages import Message
from ....domain.runs import OnLeave, RunSpec
from ....domain.sessions import SessionKey
from .codec import Undecodable, decode, encode

_VERSION = 1
_TEXTS = ("id", "agent_id", "principal_id", "generation", "source")


def encode_spec(spec: RunSpec) -> bytes:
    """The spec as JSON; texts with lone surrogates as in `codec.encode`."""
    body = {
        "version": _VERSION,
        **{name: getattr(spec, name) for name in _TEXTS},
        "session_key": [spec.session_key.agent_id, spec.session_key.rest],
        "messages": _texts(spec.messages),
        "instructions": _texts(spec.instructions),
        "params": dict(spec.params),
        "on_leave": spec.on_leave.value,
        "accepted_at": spec.accepted_at,
        "timeout": spec.timeout,
        "one_off": spec.one_off,
        "thinking": spec.thinking,
    }
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def decode_spec(data: bytes) -> RunSpec:
    """The spec that `encode_spec` made into `data`. Raises Undecodable."""
    try:
        body = json.loads(data.decode("utf-8", "surrogatepass"))
        if body["version"] != _VERSION:
            raise Undecodable(f"a stored run has the unknown version {body['version']!r}")
        texts = {name: _typed(body[name], str) for name in _TEXTS}
        agent_id, rest = body["session_key"]
        thinking, timeout = body["thinking"], body["timeout"]
        return RunSpec(
            **texts,
            session_key=SessionKey(_typed(agent_id, str), _typed(rest, str)),
            messages=_messages(body["messages"]),
            instructions=_messages(body["instructions"]),
            params=_typed(body["params"], dict),
            on_leave=OnLeave(body["on_leave"]),
            accepted_at=float(_typed(body["accepted_at"], (int, float))),
            timeout=None if timeout is None else float(_typed(timeout, (int, float))),
            one_off=_typed(body["one_off"], bool),
            thinking=None if thinking is None else _typed(thinking, str),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, Undecodable):
            raise
        raise Undecodable(f"a stored run cannot be read: {error!r}") from error


def _texts(messages: tuple[Message, ...]) -> list[str]:
    return [encode(message).decode("utf-8", "surrogatepass") for message in messages]


def _messages(texts: Any) -> tuple[Message, ...]:
    return tuple(decode(_typed(t, str).encode("utf-8", "surrogatepass")) for t in texts)


def _typed(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise Undecodable(f"a stored run has {value!r} where another type belongs")
    return value
