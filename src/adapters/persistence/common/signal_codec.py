"""A signal for a Run as bytes, and back."""

from __future__ import annotations

import json

from ....domain.runs import ApprovalDecided, MessageInjected, Signal
from .codec import Undecodable
from .journal_codec import dump_messages, load_messages, typed


def encode_signal(signal: Signal) -> bytes:
    """The signal as JSON; texts with lone surrogates as in `codec.encode`."""
    match signal:
        case ApprovalDecided(approval_id, decision):
            body: list[object] = ["approval", approval_id, decision]
        case MessageInjected(message):
            body = ["message", dump_messages((message,))]
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def decode_signal(data: bytes) -> Signal:
    """The signal that `encode_signal` made into `data`. Raises Undecodable."""
    try:
        match json.loads(data.decode("utf-8", "surrogatepass")):
            case ["approval", approval_id, decision]:
                return ApprovalDecided(typed(approval_id, str), typed(decision, str))
            case ["message", messages]:
                (message,) = load_messages(messages)
                return MessageInjected(message)
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise Undecodable(f"a stored signal cannot be read: {error!r}") from error
    raise Undecodable("a stored signal is of an unknown kind")
