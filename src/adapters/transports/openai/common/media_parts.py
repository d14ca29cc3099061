"""Content parts with pictures and files, as OpenAI's formats write them.

https://platform.openai.com/docs/api-reference/chat/create and its `image_url` and `file` parts;
clients of the Responses API write `input_image` and `input_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .....domain.errors import InvalidRequest, Unsupported
from ...http.fields import Ignored, a_string, an_object, optional_string, wrong
from ...media import MediaPart

MEDIA_KINDS = frozenset(
    ["image_url", "input_image", "image", "input_audio", "audio", "video_url", "file", "input_file"]
)
_MAX_DETAIL = 32
_MAX_FILE_NAME = 255


def read_media_part(
    fields: dict[str, Any],
    kind: str,
    path: str,
    place: tuple[int, int],
    ignored: Ignored,
    parts: str = "messages[].content[].",
) -> MediaPart:
    """The part at `path`, of a type in MEDIA_KINDS. Unknown fields are noted as fields of `parts`.
    Raises InvalidRequest, Unsupported."""
    if kind in ("image_url", "input_image"):
        return _picture(fields, path, place, ignored, parts)
    if kind in ("file", "input_file"):
        return _file(fields, kind, path, place, ignored, parts)
    if kind in ("input_audio", "audio"):
        problem = "audio is not supported: no model of this Gateway gets it. Send its transcript"
    else:
        problem = f"{kind} parts are not supported; send text, image_url or file parts"
    raise Unsupported(f"`{path}`: {problem}.", param=path)


def _picture(
    fields: dict[str, Any], path: str, place: tuple[int, int], ignored: Ignored, parts: str
) -> MediaPart:
    value, param = fields.get("image_url"), f"{path}.image_url"
    detail = optional_string(fields, "detail", path)
    ignored.note(fields, frozenset({"type", "image_url", "detail"}), parts)
    if isinstance(value, str):
        source = value
    elif value is None and isinstance(fields.get("file_id"), str):
        raise _no_stored_files(f"{path}.file_id")
    else:
        value = an_object(value, param)
        source = a_string(value, "url", param)
        detail = optional_string(value, "detail", param) or detail
        known = frozenset({"url", "detail"})
        ignored.note(value, known, f"{parts}image_url.")
        param += ".url"
    if detail is not None and len(detail) > _MAX_DETAIL:
        raise InvalidRequest(f"`{path}`: the detail is too long.", param=path)
    return MediaPart(*place, True, source, param, detail=detail or "")


def _file(
    fields: dict[str, Any],
    kind: str,
    path: str,
    place: tuple[int, int],
    ignored: Ignored,
    parts: str,
) -> MediaPart:
    value: Mapping[str, Any] = fields
    if kind == "file" or "file" in fields:
        path += ".file"
        value = an_object(fields.get("file"), path)
    for name in ("file_id", "file_url"):
        if value.get(name) is not None and value.get("file_data") is None:
            raise _no_stored_files(f"{path}.{name}")
    source = a_string(value, "file_data", path)
    filename = optional_string(value, "filename", path) or ""
    if len(filename) > _MAX_FILE_NAME:
        raise wrong(f"{path}.filename", f"at most {_MAX_FILE_NAME} characters", filename)
    known = frozenset({"type", "file_data", "filename"})
    ignored.note(value, known, parts)
    return MediaPart(*place, False, source, f"{path}.file_data", filename=filename)


def _no_stored_files(param: str) -> Unsupported:
    return Unsupported(
        f"`{param}` is not supported: no files are stored here. Send the content of the file.",
        param=param,
    )
