"""What a provider says in a refusal, or in an error within an answer, whatever its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import json as openai_json
from .retry import advice

_MAX_WORDS = 600
_STATUSES = range(100, 600)
_NO_ERROR_STATUSES = range(300)
"""Numbers that mean success as the code of a document."""
_NO_ERROR_WORDS = frozenset({"", "0", "200", "none", "null", "ok", "success", "no error"})
_CODES = ("code", "type", "status", "error_code", "errcode", "status_code", "statusCode")
_MESSAGES = ("message", "msg", "error_msg", "errmsg", "error_message", "status_msg", "detail")
_SIGNS = frozenset({"error", "errors", "x_groq", "base_resp", "type", *_MESSAGES})
"""Fields of which each document with an error has one, unless its `object` is "error"."""
_STATUS_OF_MINIMAX: Mapping[int, int] = {
    1000: 500,
    1001: 504,
    1002: 429,
    1004: 401,
    1008: 402,
    1013: 500,
    1024: 500,
    1026: 400,
    1027: 400,
    1033: 500,
    1039: 429,
    1041: 429,
    2013: 400,
    2049: 401,
    2056: 429,
}
"""The HTTP statuses that the codes of MiniMax correspond to."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a provider said in an error; every field as it stands there, possibly with secrets."""

    message: str = ""
    slugs: str = ""
    """The codes and types it gave, in lower case."""
    param: str | None = None
    status: int | None = None
    """An HTTP status named inside the error object (errors within a stream have no other)."""
    retry_after: float | None = None
    """Seconds to wait, as the error object or its message says."""


def read_error(document: object, *, named: bool = False) -> Said | None:
    """The error in a decoded body or chunk; None when there is none.

    `named`: the event or the line was called an error, so that a bare error object counts.

    Shapes: OpenAI's `{"error": {...}}`, the same in a list (Gemini), `{"error": "text"}` (Ollama),
    `{"errors": [{...}]}` (Cloudflare), `{"object": "error", ...}` (vLLM, Mistral),
    `{"code": 400, "msg": ...}`, and the `base_resp` of MiniMax. An `error`
    without content, and a code that means success, are no error.
    """
    if isinstance(document, list) and document:
        document = document[0]
    if named and isinstance(document, str) and not _is_quiet(document):
        return Said(message=_words(document))
    if not isinstance(document, dict):
        return None
    if _SIGNS.isdisjoint(document) and document.get("object") != "error" and not named:
        return None
    for holder in (document, document.get("x_groq")):
        error = holder.get("error") if isinstance(holder, dict) else None
        if not _is_quiet(error):
            return _from_object(error if isinstance(error, dict) else _flat(document, error))
    errors = document.get("errors")
    if not _is_quiet(errors) and not document.get("choices"):
        return read_error({"error": errors[0] if isinstance(errors, list) else errors})
    base = document.get("base_resp")
    if isinstance(base, dict) and not _is_quiet(base.get("status_code")):
        return _from_minimax(base)
    return _from_object(document) if _is_bare_error(document, named) else None


def read_body(body: bytes) -> Said:
    """The error in the body of a refusal, whatever its shape."""
    document = openai_json.loads(body)
    if document is None:
        text = body.decode("utf-8", "replace").strip()
        return Said() if text.startswith("<") or text == "null" else Said(message=_words(text))
    said = read_error(document)
    if said is None and isinstance(document, dict):
        said = _from_object(document)
    return said or Said()


def read_remark(document: dict[str, Any]) -> Said | None:
    """What a document says that is no answer, and that names no error either."""
    if any(isinstance(text := document.get(name), str | list) and text for name in _MESSAGES):
        return _from_object(document)
    return None


def _is_quiet(value: object) -> bool:
    """Whether a value in the place of an error or of its code says that there is no error."""
    if isinstance(value, dict):
        return all(map(_is_quiet, value.values()))
    if isinstance(value, str):
        return value.strip().rstrip(".!").lower() in _NO_ERROR_WORDS
    return not value or value == 200


def _is_bare_error(document: dict[str, Any], named: bool) -> bool:
    """Whether the document itself is an error object."""
    if named:
        return not _is_quiet(document)
    kind = document.get("type")
    if document.get("object") == "error" or str(kind).lower().endswith("error"):
        return True
    if all(_is_quiet(document.get(name)) for name in _MESSAGES):
        return False
    codes = [document.get(name) for name in _CODES if name != "type"]
    if document.get("choices"):
        return any((_status(code) or 0) >= 400 for code in codes)
    return any(map(_is_error_code, codes[:1] + codes[2:])) or (_status(codes[1]) or 0) >= 400


def _is_error_code(code: object) -> bool:
    if isinstance(code, str) and code.strip().isdecimal():
        code = int(code.strip()[:9])
    if isinstance(code, int):
        return code not in _NO_ERROR_STATUSES
    return isinstance(code, str) and not _is_quiet(code)


def _from_object(error: dict[str, Any]) -> Said:
    slugs = [error.get(name) for name in _CODES]
    param = error.get("param")
    return Said(
        message=_message(error),
        slugs=" ".join(str(slug) for slug in slugs if isinstance(slug, str | int)).lower(),
        param=openai_json.repaired(param) if isinstance(param, str) and param else None,
        status=next((number for slug in slugs if (number := _status(slug))), None),
        retry_after=advice(error, _message(error)),
    )


def _flat(document: dict[str, Any], error: object) -> dict[str, Any]:
    """An error object of a document whose `error` is a text, a number or true."""
    if any(document.get(name) for name in _MESSAGES):
        fields = {name: document.get(name) for name in (*_CODES, *_MESSAGES)}
        return {**fields, "type": error, "error_code": document.get("error_code") or error}
    return {**document, "message": error}


def _from_minimax(base: dict[str, Any]) -> Said:
    said = _from_object(base)
    code = base.get("status_code")
    number = int(code) if isinstance(code, str) and code.isdecimal() else code
    status = _STATUS_OF_MINIMAX.get(number) if isinstance(number, int) else None
    return replace(said, status=status or said.status)


def _message(error: dict[str, Any]) -> str:
    values = (error.get(name) for name in _MESSAGES)
    words = _words(next((value for value in values if value not in (None, "")), None))
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str) and raw:  # OpenRouter: the words of the provider behind it.
        return f"{words}: {_words(raw)}" if words else _words(raw)
    return words


def _words(value: object) -> str:
    if value is None:
        return ""
    text = openai_json.repaired(value) if isinstance(value, str) else openai_json.shown(value)
    return " ".join(text.split())


def shorten(text: str) -> str:
    """`text`, cut where it is too long to be shown to a person."""
    return text if len(text) <= _MAX_WORDS else text[:_MAX_WORDS] + "..."


def _status(slug: object) -> int | None:
    if isinstance(slug, str) and slug.isdecimal():
        slug = int(slug[:4])
    return slug if isinstance(slug, int) and slug in _STATUSES else None
