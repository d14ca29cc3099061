"""Converts the failures of a call into ModelFailed, without secrets.

The message quotes the provider where that helps the client (the request is invalid, too long or
too early), and not where the error concerns the Gateway's account.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

import aiohttp
import orjson

from ....domain.errors import FailureKind, ModelFailed
from ....domain.models import ModelTarget, Provider
from . import json as json_text
from .connections import LONGEST_HEADER
from .errors import (
    ProviderError,
    kind_of,
    names_unknown_model,
    read_body,
    retry_after,
    shorten,
)
from .protocol import EXCESS_BEFORE_HEAD, MAX_HEAD_BYTES, MAX_INTERIM, EmptyFraming

_MASK = "***"
_VERSION = re.compile(r"/v\d")
"""The path of a base URL with a version, such as `/v1` or `/v1beta/openai`."""
_SHORTEST_SECRET = 4
"""Shorter keys and values ("1", "on") are not masked: they occur in every text."""
_SHORTEST_IN_WORDS = 8
"""Shorter secrets are masked as separate words only: a key such as `none` is a part of others."""
_FAULTS = (
    (
        re.compile(r"Can not decode content-encoding: .*\((br|zstd)\)"),
        "it is compressed with {0}, which was not requested and is not supported",
    ),
    (
        re.compile("can't be present with Content-Length"),
        "it has both a Content-Length and a chunked body, so its length is ambiguous",
    ),
    (
        re.compile("Got more than"),
        f"one of its headers, or its status line, is longer than {LONGEST_HEADER // 1024} kB",
    ),
    (
        re.compile(EXCESS_BEFORE_HEAD),
        f"more than {MAX_HEAD_BYTES // 1024} kB or {MAX_INTERIM} interim responses came before it",
    ),
    (re.compile("Too many headers"), "it has too many headers"),
    (
        re.compile(r"Bad status line.*b'\\x15\\x03", re.DOTALL),
        "it expects TLS: its base URL should begin with https://",
    ),
    (re.compile("Bad status line"), "it does not speak HTTP"),
)
_NOT_DECODED = frozenset({"x-gzip", "compress", "x-compress"})
"""Registered encodings that aiohttp does not decode. Other unknown names are usually character sets
in the wrong header, and the body is then not encoded."""

_SENTENCES = {
    FailureKind.AUTH: "The provider of {ref} refused the Gateway's credentials.",
    FailureKind.BILLING: "The provider of {ref} refused the Gateway's account for lack of credit.",
    FailureKind.RATE_LIMIT: "The provider of {ref} limits the rate of calls{quote}",
    FailureKind.CONTEXT_TOO_LONG: "The conversation is too long for {ref}{quote}",
    FailureKind.BAD_REQUEST: "The provider of {ref} refused the request{quote}",
    FailureKind.TIMEOUT: "The provider of {ref} reported a timeout{quote}",
}


@dataclass(frozen=True, slots=True)
class ApiDescription:
    """An API in error messages. `answer`: what a response is; `path`: of calls, from that of a base
    URL without a slash at its end."""

    name: str
    answer: str
    path: Callable[[str], str]


class FailureFactory:
    """Creates the ModelFailed of one call; the caller raises it.

    Raise it outside of `except` blocks: aiohttp's exceptions refer to the request's headers, which
    must not become reachable through the error's context.
    """

    def __init__(self, target: ModelTarget, api: ApiDescription) -> None:
        self.api = api
        self._ref = target.ref
        self._model = target.model
        self._provider = target.provider

    def refused(
        self, status: int, body: bytes, headers: Mapping[str, str], now: float
    ) -> ModelFailed:
        """The response has an error status. `now` is Unix time."""
        error = read_body(body)
        excerpt = body.decode("utf-8", "replace")
        if 300 <= status < 400:
            excerpt = f"to {headers.get('location', '')} {excerpt}"
        wait = retry_after({name.lower(): value for name, value in headers.items()}, now)
        return self._from_error(error, status, wait, excerpt)

    def reported(
        self, error: ProviderError, document: object, wait: float | None = None
    ) -> ModelFailed:
        """A response with a success status contains an error. `wait`: its `Retry-After`."""
        return self._from_error(error, None, wait, json_text.shown(document))

    def unusable(self, problem: str, detail: str = "") -> ModelFailed:
        """The response is not a valid answer; `problem` is a clause."""
        return self._make(
            FailureKind.BAD_RESPONSE,
            f"The provider of {self._ref} gave an unusable answer: {self._mask(problem)}.",
            detail=detail,
        )

    def too_long(self) -> ModelFailed:
        """The answer exceeds the provider's size limit."""
        limit = self._provider.max_answer_bytes
        setting = f"models.providers.{self._provider.id}.maxAnswerBytes"
        return self.unusable(f"it is longer than {limit} bytes ({setting})")

    def of_call(self, error: Exception) -> ModelFailed:
        """No response, because of this error of the connection."""
        match error:
            case aiohttp.ClientHttpProxyError(status=status, message=message):
                return self.unreachable(_proxy_refusal_reason(status), message)
            case aiohttp.ClientResponseError(message=message):
                return self.unusable(_unreadable_reason(message), message)
            case aiohttp.InvalidURL():
                return self.bad_address()
            case aiohttp.ClientProxyConnectionError():
                return self.unreachable("its proxy could not be reached", str(error))
            case aiohttp.ConnectionTimeoutError() | aiohttp.ClientConnectorError():
                return self.unreachable("no connection", str(error))
            case TimeoutError():
                return self.silent()
            case aiohttp.ClientError() | OSError():
                problem = "it closed the connection without an answer"
                return self.unreachable(problem, str(error))
            case _:
                return self.bad_credentials("a key or header holds a control character")

    def of_body(self, error: Exception) -> ModelFailed:
        """The body ended early, because of this error of the connection."""
        if isinstance(error, TimeoutError):
            return self.silent()
        return self.unusable(_broken_reason(error), str(error))

    def unreachable(self, problem: str, detail: str = "") -> ModelFailed:
        """No connection, or it ended before a response; `problem` is a clause."""
        return self._make(
            FailureKind.UNREACHABLE,
            f"The provider of {self._ref} could not be reached: {problem}.",
            detail=detail,
        )

    def bad_address(self) -> ModelFailed:
        """The base URL is invalid. The message omits it, because it may contain a password."""
        return self.unreachable("its base URL is not an http or https address")

    def silent(self) -> ModelFailed:
        """The provider sent nothing for its idle timeout."""
        seconds = self._provider.idle_timeout
        return self._make(
            FailureKind.TIMEOUT,
            f"The provider of {self._ref} sent nothing for more than {seconds:g} s.",
        )

    def unsendable(self, problem: str, param: str | None = None) -> ModelFailed:
        """The request cannot be expressed in this API; `problem` is a sentence."""
        return self._make(FailureKind.BAD_REQUEST, problem, param=param)

    def bad_credentials(self, detail: str) -> ModelFailed:
        """The Gateway's credentials are invalid. The client's message has no details."""
        return self._make(FailureKind.AUTH, self._sentence(FailureKind.AUTH, ""), detail=detail)

    def _from_error(
        self, error: ProviderError, status: int | None, wait: float | None, raw: str
    ) -> ModelFailed:
        kind = kind_of(error, status)
        words = shorten(self._mask(error.message))
        wait = error.retry_after if wait is None else wait
        status = status or error.status
        reason = ""
        if names_unknown_model(error, status) and kind is FailureKind.BAD_RESPONSE:
            message = f"The provider of {self._ref} does not know the model {self._model!r}."
        elif kind is FailureKind.BAD_RESPONSE:
            quote = "" if status else _quote(words)
            failed = f"The provider of {self._ref} gave an unusable answer: {self._meaning(status)}"
            message, reason = f"{failed}{quote or '.'}", f"{failed}."
        else:
            message = self._sentence(kind, words)
            reason = self._sentence(kind, "")
        param = error.param if kind is FailureKind.BAD_REQUEST else None
        detail = f"status {status}: {raw}" if status else raw
        return self._make(
            kind, message, status=status, wait=wait, param=param, reason=reason, detail=detail
        )

    def _meaning(self, status: int | None) -> str:
        match status:
            case None:
                return "an unknown error"
            case 404 | 405:
                return f"status {status}, {self._misdirected()}"
            case 407:
                return _proxy_refusal_reason(status)
            case _ if 300 <= status < 400:
                return f"status {status}, a redirect, which is not followed"
            case _:
                return f"status {status}"

    def _misdirected(self) -> str:
        """The URL that was not found, and what to do."""
        setting = f"models.providers.{self._provider.id}.baseUrl"
        try:
            url = urlsplit(self._provider.base_url)
        except ValueError:
            return f"so its base URL may be wrong: check {setting}"
        host, path = url.netloc.rpartition("@")[2], url.path.rstrip("/")
        path = self.api.path(path)
        missing = f"so there is no {self.api.name} API at " + self._mask(
            f"{url.scheme}://{host}{path}"
        )
        if _VERSION.search(path):
            return f"{missing}: check {setting}"
        return f"{missing}: try adding /v1 to {setting}"

    def _sentence(self, kind: FailureKind, words: str) -> str:
        sentence = _SENTENCES.get(kind, "The provider of {ref} is overloaded or failing{quote}")
        return sentence.format(ref=self._ref, quote=_quote(words) or ".")

    def _make(
        self,
        kind: FailureKind,
        message: str,
        *,
        status: int | None = None,
        wait: float | None = None,
        param: str | None = None,
        reason: str = "",
        detail: str = "",
    ) -> ModelFailed:
        return ModelFailed(
            kind,
            message,
            status=status,
            retry_after=wait,
            param=None if param is None else self._mask(param)[:100],
            reason=reason,
            # Mask before cutting: a part of a secret would not be found.
            detail=shorten(self._mask(detail)),
        )

    def _mask(self, text: str) -> str:
        for secret in _secrets(self._provider):
            if len(secret) >= _SHORTEST_IN_WORDS:
                text = text.replace(secret, _MASK)
            elif secret in text:
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", _MASK, text)
        return text


def _quote(words: str) -> str:
    return f": {words}" if words else ""


def _secrets(provider: Provider) -> tuple[str, ...]:
    """The secrets to mask, longest first: masking a substring first would leave the rest."""
    found = {provider.api_key.reveal()} if provider.api_key else set()
    for _, secret in provider.headers:
        value = secret.reveal()
        found.update(
            part for part in (value, *value.split()) if part.lower() not in ("basic", "bearer")
        )
    found.update(_in_address(provider.base_url))
    if provider.proxy is not None:
        found.update(_in_address(provider.proxy.reveal()))
    found = {form for secret in found for form in (secret, _in_json(secret), secret.strip())}
    long = (secret for secret in found if len(secret) >= _SHORTEST_SECRET)
    return tuple(sorted(long, key=len, reverse=True))


def _in_json(text: str) -> str:
    return orjson.dumps(text.encode("utf-8", "replace").decode())[1:-1].decode()


def _in_address(base_url: str) -> set[str]:
    """The secrets in a URL: the password and the values of its query."""
    try:
        url = urlsplit(base_url)
    except ValueError:
        return {base_url}
    values = (value for _, value in parse_qsl(url.query))
    return {url.password or "", unquote(url.password or ""), *values}


def _unreadable_reason(message: str) -> str:
    """Why the headers of the answer could not be read; `message` is aiohttp's."""
    for pattern, fault in _FAULTS:
        if found := pattern.search(message):
            return fault.format(*found.groups())
    return "its HTTP headers are malformed"


def undecodable_reason(content_encoding: str) -> str:
    """Why the body cannot be decoded; empty if it can."""
    names = [name.strip().lower() for name in content_encoding.split(",")]
    if len(names) > 1 or names[0] in _NOT_DECODED:
        shown = content_encoding[:40]
        return f"it is compressed as {shown!r}, which was not requested and is not supported"
    return ""


def _broken_reason(error: Exception) -> str:
    """Why the body could not be read to its end."""
    if isinstance(error, EmptyFraming):
        return "it consists almost entirely of chunk framing"
    if encoding := re.search("Can not decode content-encoding: ([a-z]+)", str(error)):
        return f"its {encoding[1]} compression is damaged"
    return "its connection broke within the answer"


def _proxy_refusal_reason(status: int) -> str:
    """Why a proxy opened no tunnel, by its status."""
    if status == 407:
        return "its proxy does not accept the user name and password for it (status 407)"
    return f"its proxy refused the connection (status {status})"
