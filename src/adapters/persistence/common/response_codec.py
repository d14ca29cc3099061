"""A StoredResponse as bytes, and back."""

from __future__ import annotations

from dataclasses import replace

from ....domain.responses import StoredResponse
from ....domain.sessions import SessionKey
from .codec import Undecodable, decode_json, encode_json
from .journal_codec import typed

_TEXTS = ("id", "run_id", "principal_id", "agent_id", "turn_of", "conversation")
_FLAGS = ("one_off", "background", "hidden")


def encode_response(response: StoredResponse) -> bytes:
    """All of it but `settled`, which changes."""
    return encode_json(
        {
            **{name: getattr(response, name) for name in (*_TEXTS, *_FLAGS)},
            "session_key": list(response.session_key),
            "created_at": response.created_at,
            "body": dict(response.body),
            "input": [dict(item) for item in response.input],
        }
    )


def decode_response(data: object, *, settled: bool) -> StoredResponse:
    """Raises Undecodable."""
    fields = decode_json(data, dict)
    try:
        agent_id, rest = fields["session_key"]
        made = StoredResponse(
            **{name: typed(fields[name], str) for name in _TEXTS},
            **{name: typed(fields[name], bool) for name in _FLAGS},
            session_key=SessionKey(typed(agent_id, str), typed(rest, str)),
            created_at=float(typed(fields["created_at"], (int, float))),
            body=typed(fields["body"], dict),
            input=tuple(typed(item, dict) for item in typed(fields["input"], list)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Undecodable(f"a stored response cannot be read: {error!r}") from error
    return replace(made, settled=settled)
