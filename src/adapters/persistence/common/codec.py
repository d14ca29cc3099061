"""A Message as bytes, and back: one closed, tagged JSON form for every store that writes bytes.
A Session's settings too."""

from __future__ import annotations

import json
from typing import TypeVar

import orjson

from ....domain.messages import Image, Message, Part, Reasoning, Role, Text, ToolCall
from ....domain.models import StopReason
from ....domain.sessions import UNREADABLE, SessionSettingsMap

_Json = dict[str, object]
_T = TypeVar("_T")
MAX_INTEGER = 2**63 - 1
"""The largest integer that a column of SQLite holds."""
_ROLES = {role.value: role for role in Role}


class Undecodable(ValueError):
    """Bytes that `encode` did not write: damaged, or of a version that knows more than this one."""


def encode(message: Message) -> bytes:
    """The message as JSON. Every str is kept as it is, lone surrogates included.

    A text with lone surrogates (JSON lets a client send them) has no UTF-8: only then are the
    bytes not UTF-8 but Python's `surrogatepass` form of it. An escape would not do: two halves
    that stand side by side would come back as one character.
    """
    body: _Json = {"role": str(message.role), "parts": [_part(part) for part in message.parts]}
    if message.name is not None:
        body["name"] = message.name
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    if message.is_error:
        body["is_error"] = True
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        return _dumps(body)


def decode(data: bytes) -> Message:
    """The message that `encode` made into `data`. Raises Undecodable.

    Plain look-ups: a `match` on dicts takes several times as long, and histories are long.
    """
    body = _loads(data)
    if not isinstance(body, dict) or not isinstance(body.get("parts"), list):
        raise Undecodable("a stored message is not an object with a role and parts")
    role = body.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise Undecodable(f"a stored message has the unknown role {role!r}")
    name, tool_call_id = body.get("name"), body.get("tool_call_id")
    if not (name is None or isinstance(name, str)):
        raise Undecodable("a stored message has a name that is no text")
    if not (tool_call_id is None or isinstance(tool_call_id, str)):
        raise Undecodable("a stored message has a tool_call_id that is no text")
    parts = tuple([_decode_part(part) for part in body["parts"]])
    return Message(_ROLES[role], parts, name, tool_call_id, body.get("is_error") is True)


def encode_settings(settings: SessionSettingsMap) -> bytes:
    """The settings as JSON, each text and number as it is."""
    return _dumps(dict(settings))


def decode_settings(data: bytes | str | None) -> SessionSettingsMap:
    """What `encode_settings` made into `data`; None is none. Raises Undecodable."""
    settings = {} if data is None else _loads_slowly(data)
    if not isinstance(settings, dict):
        raise Undecodable("the stored settings of a session are no object")
    if not all(isinstance(value, (str, bool, int)) for value in settings.values()):
        raise Undecodable("a stored setting of a session is neither text nor number nor flag")
    return settings


def readable_settings(data: object) -> tuple[SessionSettingsMap, str]:
    """What can be read of settings that may be damaged, and a problem where not all can be.

    A `sendPolicy` that may have been lost is UNREADABLE, which blocks every send.
    """
    if data is None or isinstance(data, bytes | str):
        try:
            return decode_settings(data), ""
        except Undecodable as error:
            return _readable(data), str(error)
    return {"sendPolicy": UNREADABLE}, "the stored settings of a session are no JSON text"


def _readable(data: bytes | str | None) -> SessionSettingsMap:
    lost = {"sendPolicy": UNREADABLE}
    try:
        settings = {} if data is None else _loads_slowly(data)
    except Undecodable:
        return lost
    if not isinstance(settings, dict):
        return lost
    kept = {name: value for name, value in settings.items() if isinstance(value, (str, bool, int))}
    return {**lost, **kept} if "sendPolicy" in settings else kept


def encode_json(value: object) -> bytes:
    """Any JSON value; texts with lone surrogates as in `encode`."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return _dumps(value)


def decode_json(data: object, kind: type[_T]) -> _T:
    """The inverse, where the value is of that type. Raises Undecodable."""
    value = _loads(data) if isinstance(data, bytes) else _loads_slowly(data)
    if not isinstance(value, kind):
        raise Undecodable(f"a stored value is no {kind.__name__}")
    return value


def decode_stop(stored: object) -> StopReason | None:
    """Why an answer ended. A later version may have reasons that this one does not."""
    return next((reason for reason in StopReason if reason == stored), None)


def text(column: str | bytes) -> str:
    """A text stored as it is, or as bytes: UTF-8 with lone surrogates. Raises Undecodable."""
    if isinstance(column, str):
        return column
    try:
        return column.decode("utf-8", "surrogatepass")
    except (AttributeError, UnicodeDecodeError):
        raise Undecodable("a stored text is not UTF-8") from None


def _part(part: Part) -> _Json:
    match part:
        case Text(text=text):
            return {"t": "text", "text": text}
        case Reasoning(text=text, signature="", model=""):
            return {"t": "reasoning", "text": text}
        case Reasoning():
            return {
                "t": "reasoning",
                "text": part.text,
                "signature": part.signature,
                "model": part.model,
                "redacted": part.redacted,
            }
        case Image(data=data, mime=mime):
            image: _Json = {"t": "image", "mime": mime, "data": data}
            return {**image, "detail": part.detail} if part.detail else image
        case _:
            return {
                "t": "tool_call",
                "id": part.id,
                "name": part.name,
                "arguments": part.arguments,
            }


def _decode_part(part: _Json) -> Part:
    kind = part.get("t") if isinstance(part, dict) else None
    if kind == "text":
        return Text(_text_of(part, "text"))
    if kind == "reasoning":
        text = _text_of(part, "text")
        if "signature" not in part:
            return Reasoning(text)
        signature, model = _text_of(part, "signature"), _text_of(part, "model")
        return Reasoning(text, signature, model, part.get("redacted") is True)
    if kind == "tool_call":
        return ToolCall(_text_of(part, "id"), _text_of(part, "name"), _text_of(part, "arguments"))
    if kind == "image":
        detail = _text_of(part, "detail") if "detail" in part else ""
        return Image(_text_of(part, "data"), _text_of(part, "mime"), detail)
    raise Undecodable("a stored message has a part of an unknown kind")


def _text_of(part: _Json, field: str) -> str:
    value = part.get(field)
    if not isinstance(value, str):
        raise Undecodable(f"a part of a stored message has no text in its {field!r}")
    return value


def _loads(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _loads_slowly(data)  # Lone surrogates, or damage: the slow way finds out which.


def _loads_slowly(data: object) -> object:
    """SQLite gives back what is in the column, which need not be what was written."""
    if not isinstance(data, bytes | str):
        raise Undecodable("what is stored is neither text nor bytes")
    try:
        return json.loads(
            data.decode("utf-8", "surrogatepass") if isinstance(data, bytes) else data
        )
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"what is stored is not JSON: {error}") from error


def _dumps(body: object) -> bytes:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")
