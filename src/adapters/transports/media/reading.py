"""From the sources that a client sent to parts of messages."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import unquote
from weakref import WeakValueDictionary

from ....domain.byte_budget import Charge
from ....domain.concurrency import off_loop
from ....domain.errors import GatewayBusy, GatewayError, InvalidRequest, Unsupported
from ....domain.messages import Image, Message, Part, Role, Text
from ....domain.ports import WebClient, WebFailed, WebLimits
from ....domain.settings import ChatEndpointSettings, FileSettings, ImageSettings
from .files import PDF, BadFile, PdfTexts, decoded, framed, type_of
from .parts import MediaPart
from .pictures import BadPicture, picture_of

_SETTINGS = "gateway.http.endpoints.chatCompletions"
_DATA_URL = re.compile(r"\Adata:(?P<mime>[^;,]*)(?P<parameters>(?:;[^;,]*){0,16}),", re.IGNORECASE)
_HTTP = re.compile(r"https?://", re.IGNORECASE)
_FETCHES = 8
"""Pictures of one request that are fetched at the same time."""


class MediaReader:
    """Reads the pictures and files of requests.

    A picture that is sent again is the same object as before, as long as anything refers to that.
    """

    def __init__(self, web: WebClient) -> None:
        self._web = web
        self._pdfs = PdfTexts()
        self._known: WeakValueDictionary[tuple[str, str, str], Image] = WeakValueDictionary()

    async def read(
        self,
        messages: tuple[Message, ...],
        media: Sequence[MediaPart],
        settings: ChatEndpointSettings,
        charge: Charge,
    ) -> tuple[Message, ...]:
        """The messages with the content of `media` in its places. What is fetched is charged.

        Raises InvalidRequest with the path of the source, and GatewayBusy.
        """
        _check_number(media, settings)
        bodies = await self._fetched(messages, media, settings, charge)
        size = sum(len(part.source) for part in media)
        size += sum(len(body) for body in bodies.values() if isinstance(body, bytes))
        parts = await off_loop(size, partial(_read_all, media, bodies, settings))
        found: dict[tuple[int, int], Part] = {}
        for part, content in zip(media, parts, strict=True):
            if isinstance(content, Image):
                key = content.data, content.mime, content.detail
                content = self._known.setdefault(key, content)
            elif isinstance(content, bytes):
                content = await self._pdf(part, content, settings.files)
            found[part.message, part.part] = content
        return _with_parts(messages, found)

    async def _fetched(
        self,
        messages: tuple[Message, ...],
        media: Sequence[MediaPart],
        settings: ChatEndpointSettings,
        charge: Charge,
    ) -> Mapping[str, bytes | InvalidRequest]:
        """The pictures at URLs, or why there is none, by their URLs. Raises InvalidRequest,
        GatewayBusy."""
        wanted = {one.source: one for one in media if one.is_picture and _HTTP.match(one.source)}
        if not wanted:
            return {}
        if not settings.images.allow_url:
            raise _url_not_allowed(next(iter(wanted.values())))
        newest = max((i for i, m in enumerate(messages) if m.role is Role.USER), default=-1)
        free = asyncio.Semaphore(_FETCHES)
        found: dict[str, bytes | InvalidRequest] = {}
        errors: list[GatewayError] = []
        """After the first one nothing more is fetched."""
        size = 0

        async def fetch(part: MediaPart) -> None:
            nonlocal size
            async with free:
                if errors:
                    return
                found[part.source] = body = await self._fetch(part, settings.images)
            if isinstance(body, bytes):
                size += len(body)
                try:
                    charge.add(len(body))
                except GatewayBusy as error:
                    errors.append(error)
                if size > settings.max_image_bytes:
                    errors.append(_too_large_together(part, settings))
            elif part.message >= newest:
                errors.append(body)

        async with asyncio.TaskGroup() as group:
            for part in wanted.values():
                group.create_task(fetch(part))
        if errors:
            raise errors[0]
        return found

    async def _fetch(self, part: MediaPart, settings: ImageSettings) -> bytes | InvalidRequest:
        limits = WebLimits(
            settings.max_bytes, settings.max_redirects, settings.timeout, ", ".join(settings.types)
        )
        try:
            found = await self._web.get(part.source, limits, partial(_may_be_picture, settings))
        except WebFailed as error:
            return _bad(part, f"the picture cannot be fetched: {error}")
        except TimeoutError:
            return _bad(part, f"the picture was not there after {settings.timeout:g} s")
        if found.status != 200:
            return _bad(part, f"the server answered with the status {found.status}")
        if not found.is_whole:
            return _too_large(part, settings)
        return found.body

    async def _pdf(self, part: MediaPart, data: bytes, settings: FileSettings) -> Text:
        try:
            return Text(framed(await self._pdfs.read(data, settings), part.filename))
        except BadFile as error:
            raise _bad(part, f"the PDF file cannot be read: {error}") from None


def _check_number(media: Sequence[MediaPart], settings: ChatEndpointSettings) -> None:
    pictures = [part for part in media if part.is_picture]
    files = [part for part in media if not part.is_picture]
    for name, key, most, parts in (
        ("pictures", "maxImageParts", settings.max_images, pictures),
        ("files", "files.maxFiles", settings.files.max_files, files),
    ):
        if len(parts) > most:
            raise _bad(
                parts[most],
                f"the request has {len(parts)} {name}; the limit is {most} ({_SETTINGS}.{key})",
            )


def _read_all(
    media: Sequence[MediaPart],
    bodies: Mapping[str, bytes | InvalidRequest],
    settings: ChatEndpointSettings,
) -> list[Part | bytes]:
    """The parts; for a PDF file its bytes. Raises InvalidRequest."""
    parts: list[Part | bytes] = []
    total = 0
    for part in media:
        if not part.is_picture:
            parts.append(_file(part, settings.files))
            continue
        body = bodies.get(part.source)
        if isinstance(body, InvalidRequest):
            parts.append(Text("[A picture was here, and is no longer at its address.]"))
            continue
        picture, size = _picture(part, body, settings.images)
        total += size
        if total > settings.max_image_bytes:
            raise _too_large_together(part, settings)
        parts.append(picture)
    return parts


def _picture(part: MediaPart, body: bytes | None, settings: ImageSettings) -> tuple[Image, int]:
    if body is None:
        encoded, data = _picture_data(part, settings)
    else:
        encoded, data = base64.b64encode(body).decode(), body
    try:
        picture = picture_of(data)
    except BadPicture as error:
        raise _bad(part, f"the picture cannot be decoded: {error}") from None
    if picture.mime not in settings.types:
        allowed = ", ".join(settings.types)
        raise _bad(part, f"pictures of the type {picture.mime} are not allowed, only {allowed}")
    if picture.width * picture.height > settings.max_pixels:
        size = f"{picture.width} x {picture.height} pixels"
        limit = f"{settings.max_pixels} ({_SETTINGS}.images.maxPixels)"
        raise _bad(part, f"the picture has {size}; the limit is {limit}")
    return Image(encoded, picture.mime, part.detail), len(data)


def _picture_data(part: MediaPart, settings: ImageSettings) -> tuple[str, bytes]:
    url = _DATA_URL.match(part.source)
    if url is None:
        raise _bad(part, "a picture must be a data URL, or a URL with http:// or https://")
    if not url["parameters"].lower().endswith(";base64"):
        raise _bad(part, "the data URL of a picture must be in base64")
    encoded = part.source[url.end() :]
    return _base64(part, encoded, settings.max_bytes, lambda: _too_large(part, settings))


def _file(part: MediaPart, settings: FileSettings) -> Text | bytes:
    def too_large() -> InvalidRequest:
        limit = f"{settings.max_bytes} bytes ({_SETTINGS}.files.maxBytes)"
        return _bad(part, f"the file is larger than {limit}")

    url = _DATA_URL.match(part.source)
    parameters = url["parameters"].lower() if url else ";base64"
    declared = url["mime"].strip().lower() if url else ""
    encoded = part.source[url.end() :] if url else part.source
    if parameters.endswith(";base64"):
        _, data = _base64(part, encoded, settings.max_bytes, too_large)
    else:
        data = unquote(encoded[: 3 * settings.max_bytes + 3]).encode("utf-8", "replace")
        if len(data) > settings.max_bytes:
            raise too_large()
    kind = type_of(data, declared, part.filename)
    if kind not in settings.types:
        allowed = ", ".join(settings.types)
        shown = ascii(kind)[1:-1][:100]
        raise _bad(
            part, f"files of the type {shown} are not supported, only {allowed}", Unsupported
        )
    if kind == PDF:
        return data
    charset = re.search(r";charset=\"?([a-z0-9_.:-]{1,40})", parameters)
    try:
        text = decoded(data, charset[1] if charset else "", settings.max_chars)
    except BadFile as error:
        raise _bad(part, f"the file cannot be read: {error}") from None
    return Text(framed(text, part.filename))


def _base64(
    part: MediaPart, text: str, max_bytes: int, too_large: Callable[[], InvalidRequest]
) -> tuple[str, bytes]:
    """The base64 without white space, and its bytes."""
    if len(text) > max_bytes * 3 // 2 + 1_024:  # More than base64 with line breaks has.
        raise too_large()
    encoded = "".join(text.split())
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _bad(part, "this is no valid base64") from None
    if not data:
        raise _bad(part, "there is no content")
    if len(data) > max_bytes:
        raise too_large()
    return encoded, data


def _may_be_picture(settings: ImageSettings, content_type: str) -> bool:
    """Servers of files often send this other type; the bytes decide."""
    return content_type in settings.types or content_type == "application/octet-stream"


def _with_parts(
    messages: tuple[Message, ...], found: Mapping[tuple[int, int], Part]
) -> tuple[Message, ...]:
    changed = list(messages)
    for number in {message for message, _ in found}:
        message = messages[number]
        parts = (found.get((number, i), part) for i, part in enumerate(message.parts))
        changed[number] = replace(message, parts=tuple(parts))
    return tuple(changed)


def _url_not_allowed(part: MediaPart) -> InvalidRequest:
    problem = (
        "pictures are not fetched from URLs here. Send the picture as a data URL, or have the "
        f"operator set {_SETTINGS}.images.allowUrl"
    )
    return _bad(part, problem)


def _too_large(part: MediaPart, settings: ImageSettings) -> InvalidRequest:
    limit = f"{settings.max_bytes} bytes ({_SETTINGS}.images.maxBytes)"
    return _bad(part, f"the picture is larger than {limit}")


def _too_large_together(part: MediaPart, settings: ChatEndpointSettings) -> InvalidRequest:
    limit = f"{settings.max_image_bytes} bytes ({_SETTINGS}.maxTotalImageBytes)"
    return _bad(part, f"the pictures of the request are together larger than {limit}")


def _bad(
    part: MediaPart, problem: str, kind: type[InvalidRequest] = InvalidRequest
) -> InvalidRequest:
    return kind(f"`{part.param}`: {problem.removesuffix('.')}.", param=part.param)
