"""Reads a provider's error object, in the shapes that providers use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import json as openai_json
from .retry import advice

_MAX_LENGTH = 600
_STATUSES = range(100, 600)
_SUCCESS_STATUSES = range(300)
"""Codes of a document that mean success."""
_SUCCESS_WORDS = frozenset({"", "0", "200", "none", "null", "ok", "success", "no error"})
_CODES = ("code", "type", "status", "error_code", "errcode", "status_code", "statusCode")
_MESSAGES = ("message", "msg", "error_msg", "errmsg", "error_message", "status_msg", "detail")
_SIGNS = frozenset({"error", "errors", "x_groq", "base_resp", "type", *_MESSAGES})
"""Every document with an error has one of these fields, or its `object` is "error"."""
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
"""The equivalent HTTP statuses of MiniMax's codes."""


@dataclass(frozen=True, slots=True)
class ProviderError:
    """An error as the provider wrote it; the texts may contain secrets."""

    message: str = ""
    codes: str = ""
    """The codes and types in the error object, in lower case."""
    param: str | None = None
    status: int | None = None
    """The HTTP status in the error object; errors within a stream have no other."""
    retry_after: float | None = None
    """Seconds to wait, from the error object or its message."""


def read_error(document: object, *, named: bool = False) -> ProviderError | None:
    """The error in a decoded body or chunk, or None.

    `named`: the event or line was named "error", so that a bare error object counts.

    Shapes: OpenAI's `{"error": {...}}`, the same in a list (Gemini), `{"error": "text"}` (Ollama),
    `{"errors": [{...}]}` (Cloudflare), `{"object": "error", ...}` (vLLM, Mistral),
    `{"code": 400, "msg": ...}`, and the `base_resp` of MiniMax. An `error`
    without content, and a code that means success, do not count.
    """
    if isinstance(document, list) and document:
        document = document[0]
    if named and isinstance(document, str) and not _means_no_error(document):
        return ProviderError(message=_words(document))
    if not isinstance(document, dict):
        return None
    if _SIGNS.isdisjoint(document) and document.get("object") != "error" and not named:
        return None
    for holder in (document, document.get("x_groq")):
        error = holder.get("error") if isinstance(holder, dict) else None
        if not _means_no_error(error):
            return _from_object(error if isinstance(error, dict) else _flat(document, error))
    errors = document.get("errors")
    if not _means_no_error(errors) and not document.get("choices"):
        return read_error({"error": errors[0] if isinstance(errors, list) else errors})
    base = document.get("base_resp")
    if isinstance(base, dict) and not _means_no_error(base.get("status_code")):
        return _from_minimax(base)
    return _from_object(document) if _is_bare_error(document, named) else None


def read_body(body: bytes) -> ProviderError:
    """The error in the body of an error response."""
    document = openai_json.loads(body)
    if document is None:
        text = body.decode("utf-8", "replace").strip()
        return (
            ProviderError()
            if text.startswith("<") or text == "null"
            else ProviderError(message=_words(text))
        )
    error_object = read_error(document)
    if error_object is None and isinstance(document, dict):
        error_object = _from_object(document)
    return error_object or ProviderError()


def read_remark(document: dict[str, Any]) -> ProviderError | None:
    """The message of a document that is neither an answer nor an error."""
    if any(isinstance(text := document.get(name), str | list) and text for name in _MESSAGES):
        return _from_object(document)
    return None


def _means_no_error(value: object) -> bool:
    """Whether a value of an error field, or of its code, means that there is no error."""
    if isinstance(value, dict):
        return all(map(_means_no_error, value.values()))
    if isinstance(value, str):
        return value.strip().rstrip(".!").lower() in _SUCCESS_WORDS
    return not value or value == 200


def _is_bare_error(document: dict[str, Any], named: bool) -> bool:
    """Whether the document itself is an error object."""
    if named:
        return not _means_no_error(document)
    kind = document.get("type")
    if document.get("object") == "error" or str(kind).lower().endswith("error"):
        return True
    if all(_means_no_error(document.get(name)) for name in _MESSAGES):
        return False
    codes = [document.get(name) for name in _CODES if name != "type"]
    if document.get("choices"):
        return any((_status(code) or 0) >= 400 for code in codes)
    return any(map(_is_error_code, codes[:1] + codes[2:])) or (_status(codes[1]) or 0) >= 400


def _is_error_code(code: object) -> bool:
    if isinstance(code, str) and code.strip().isdecimal():
        code = int(code.strip()[:9])
    if isinstance(code, int):
        return code not in _SUCCESS_STATUSES
    return isinstance(code, str) and not _means_no_error(code)


def _from_object(error: dict[str, Any]) -> ProviderError:
    codes = [error.get(name) for name in _CODES]
    param = error.get("param")
    return ProviderError(
        message=_message(error),
        codes=" ".join(str(code) for code in codes if isinstance(code, str | int)).lower(),
        param=openai_json.repaired(param) if isinstance(param, str) and param else None,
        status=next((number for code in codes if (number := _status(code))), None),
        retry_after=advice(error, _message(error)),
    )


def _flat(document: dict[str, Any], error: object) -> dict[str, Any]:
    """An error object made of a document whose `error` is a text, a number or true."""
    if any(document.get(name) for name in _MESSAGES):
        fields = {name: document.get(name) for name in (*_CODES, *_MESSAGES)}
        return {**fields, "type": error, "error_code": document.get("error_code") or error}
    return {**document, "message": error}


def _from_minimax(base: dict[str, Any]) -> ProviderError:
    error_object = _from_object(base)
    code = base.get("status_code")
    number = int(code) if isinstance(code, str) and code.isdecimal() else code
    status = _STATUS_OF_MINIMAX.get(number) if isinstance(number, int) else None
    return replace(error_object, status=status or error_object.status)


def _message(error: dict[str, Any]) -> str:
    values = (error.get(name) for name in _MESSAGES)
    words = _words(next((value for value in values if value not in (None, "")), None))
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str) and raw:  # OpenRouter: the message of the provider behind it.
        return f"{words}: {_words(raw)}" if words else _words(raw)
    return words


def _words(value: object) -> str:
    if value is None:
        return ""
    text = openai_json.repaired(value) if isinstance(value, str) else openai_json.shown(value)
    return " ".join(text.split())


def shorten(text: str) -> str:
    """`text`, cut to a readable length."""
    return text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + "..."


def _status(code: object) -> int | None:
    if isinstance(code, str) and code.isdecimal():
        code = int(code[:4])
    return code if isinstance(code, int) and code in _STATUSES else None
