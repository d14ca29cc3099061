"""Reads the message that a client sends."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from a2a.types import (
    ContentTypeNotSupportedError,
    InvalidParamsError,
    PushNotificationNotSupportedError,
    Role,
    SendMessageRequest,
)
from a2a.types import Part as SentPart
from google.protobuf.json_format import MessageToDict

from ....domain import messages
from ....domain.messages import Message, Part, Text
from ..media import UNREAD, MediaPart
from .rpc import with_integers

_TEXT_MODES = frozenset({"text", "text/plain", "text/*", "*/*", "text/markdown"})
_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+*-]{1,127}(?:;[^,;]{0,100}){0,4}"
)
_MOST_PARTS = 2_000
_WEB = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class Question:
    """What a client sends. `history_length`: None: all of the history."""

    message: Message
    media: Sequence[MediaPart]
    id: str
    task_id: str
    context_id: str
    blocking: bool
    history_length: int | None


def read_question(request: SendMessageRequest, *, legacy: bool) -> Question:
    """The message of a request. Raises A2AError."""
    configuration, sent = request.configuration, request.message
    if configuration.HasField("task_push_notification_config"):
        raise PushNotificationNotSupportedError(
            "Push notifications are not supported; stream the task, or ask for it again."
        )
    modes = configuration.accepted_output_modes
    if modes and not any(mode.strip().lower() in _TEXT_MODES for mode in modes):
        raise ContentTypeNotSupportedError(
            "Answers are text: `configuration.acceptedOutputModes` must name text/plain."
        )
    if sent.role != Role.ROLE_USER:
        raise _invalid("`message.role` must be that of the user.", "message.role")
    if not sent.message_id.strip():
        raise _invalid("`message.messageId` is missing.", "message.messageId")
    if not sent.parts:
        raise _invalid("`message.parts` must have one part at least.", "message.parts")
    if len(sent.parts) > _MOST_PARTS:
        message = f"`message.parts` has {len(sent.parts)} parts; the limit is {_MOST_PARTS}."
        raise _invalid(message, "message.parts")
    parts: list[Part] = []
    media: list[MediaPart] = []
    for number, part in enumerate(sent.parts):
        read = _part(part, number, legacy)
        if isinstance(read, MediaPart):
            media.append(read)
            read = UNREAD
        parts.append(read)
    return Question(
        Message(messages.Role.USER, tuple(parts)),
        media,
        sent.message_id,
        sent.task_id,
        sent.context_id,
        not configuration.return_immediately,
        length_in(configuration),
    )


def length_in(request: object) -> int | None:
    """The `historyLength` of a request. Raises InvalidParamsError."""
    if not request.HasField("history_length"):  # type: ignore[attr-defined]
        return None
    length: int = request.history_length  # type: ignore[attr-defined]
    if length < 0:
        raise _invalid("`historyLength` must be a whole number from 0.", "historyLength")
    return length


def _part(part: SentPart, number: int, legacy: bool) -> Part | MediaPart:
    path = f"message.parts[{number}]"
    match part.WhichOneof("content"):
        case "text":
            return Text(part.text)
        case "data":
            return Text(json.dumps(with_integers(MessageToDict(part.data)), ensure_ascii=False))
        case "raw":
            path += ".file.bytes" if legacy else ".raw"
            kind = _media_type(part, path)
            encoded = base64.b64encode(part.raw).decode()
            return _media(number, kind, f"data:{kind};base64,{encoded}", path, part.filename)
        case "url":
            path += ".file.uri" if legacy else ".url"
            kind = _media_type(part, path)
            is_picture = kind.lower().startswith("image/")
            if part.url.lower().startswith(_WEB) and not is_picture:
                raise _invalid(
                    f"`{path}`: only pictures, with a media type such as image/png, are fetched. "
                    "Send the bytes of other files.",
                    path,
                )
            return _media(number, kind, part.url, path, part.filename)
        case _:
            raise _invalid(f"`{path}` has no content: text, a file or data.", path)


def _media(number: int, kind: str, source: str, path: str, filename: str) -> MediaPart:
    is_picture = kind.lower().startswith("image/")
    return MediaPart(0, number, is_picture, source, path, filename=filename)


def _media_type(part: SentPart, path: str) -> str:
    kind: str = part.media_type.replace(" ", "")
    if kind and not _MEDIA_TYPE.fullmatch(kind):
        raise _invalid(f"`{path}`: {kind[:100]!r} is no media type.", path)
    return kind


def _invalid(message: str, param: str) -> InvalidParamsError:
    return InvalidParamsError(message, data={"param": param})
