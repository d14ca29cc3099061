"""One call's failures as the domain knows them: a kind, a sentence for the client, no secret.

The client is told what the provider said where that helps it (its request is wrong, too long or
too early), and nothing of it where it is about the Gateway's own account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from ....domain.errors import FailureKind, ModelFailed
from ....domain.models import ModelTarget, Provider
from . import json as openai_json
from . import proxy as openai_proxy
from .error_kinds import kind_of, names_unknown_model
from .errors import Said, read_body, shorten
from .retry import retry_after

_HIDDEN = "***"
_VERSION = re.compile(r"/v\d")
"""A base URL that has its version, such as `/v1` or `/v1beta/openai`."""
_SHORTEST_SECRET_HEADER = 4
"""Shorter header values ("1", "on") are no secrets, and hiding them would garble every text."""


class FailureFactory:
    """Makes the ModelFailed of one call. Its methods return the error for the caller to raise.

    Raise it outside of `except`: the exceptions of the HTTP library hold the request's headers,
    and an error must not carry them along as its context.
    """

    def __init__(self, target: ModelTarget) -> None:
        self._ref = target.ref
        self._model = target.model
        self._provider = target.provider

    def refused(
        self, status: int, body: bytes, headers: Mapping[str, str], now: float
    ) -> ModelFailed:
        """The provider answered with a status that is no success. `now` is Unix time."""
        said = read_body(body)
        excerpt = body.decode("utf-8", "replace")
        if 300 <= status < 400:
            excerpt = f"to {headers.get('location', '')} {excerpt}"
        wait = retry_after({name.lower(): value for name, value in headers.items()}, now)
        return self._told(said, status, wait, excerpt)

    def told(self, said: Said, document: object, wait: float | None = None) -> ModelFailed:
        """An answer with a status of success holds an error. `wait`: what its headers advise."""
        return self._told(said, None, wait, openai_json.shown(document))

    def unusable(self, problem: str, detail: str = "") -> ModelFailed:
        """The provider answered with something that is no answer; `problem` is a clause."""
        return self._make(
            FailureKind.BAD_RESPONSE,
            f"The provider of {self._ref} gave an unusable answer: {self._scrub(problem)}.",
            detail=detail,
        )

    def too_long(self) -> ModelFailed:
        """The answer has more bytes than the provider may send."""
        limit = self._provider.max_answer_bytes
        setting = f"models.providers.{self._provider.id}.maxAnswerBytes"
        return self.unusable(f"it is longer than {limit} bytes ({setting})")

    def unreachable(self, problem: str, detail: str) -> ModelFailed:
        """There was no connection, or it ended before any answer; `problem` is a clause."""
        return self._make(
            FailureKind.UNREACHABLE,
            f"The provider of {self._ref} could not be reached: {problem}.",
            detail=detail,
        )

    def bad_address(self) -> ModelFailed:
        """The provider's base URL is none. It is not shown, since it may hold a password."""
        return self.unreachable("its base URL is not an http or https address", "")

    def silent(self, seconds: float) -> ModelFailed:
        """Nothing was heard from the provider for that long."""
        return self._make(
            FailureKind.TIMEOUT,
            f"The provider of {self._ref} was silent for more than {seconds:g} s.",
        )

    def unsendable(self, problem: str, param: str | None = None) -> ModelFailed:
        """The request cannot be put into this provider's words; `problem` is a sentence."""
        return self._make(FailureKind.BAD_REQUEST, problem, param=param)

    def bad_credentials(self, detail: str) -> ModelFailed:
        """The Gateway's own credentials are wrong, which is not the client's business."""
        return self._make(FailureKind.AUTH, self._sentence(FailureKind.AUTH, ""), detail=detail)

    def _told(self, said: Said, status: int | None, wait: float | None, raw: str) -> ModelFailed:
        kind = kind_of(said, status)
        words = shorten(self._scrub(said.message))
        wait = said.retry_after if wait is None else wait
        status = status or said.status
        reason = ""
        if names_unknown_model(said, status) and kind is FailureKind.BAD_RESPONSE:
            message = f"The provider of {self._ref} does not know the model {self._model!r}."
        elif kind is FailureKind.BAD_RESPONSE:
            quote = "" if status else _quote(words)
            failed = f"The provider of {self._ref} gave an unusable answer: {self._meaning(status)}"
            message, reason = f"{failed}{quote or '.'}", f"{failed}."
        else:
            message = self._sentence(kind, words)
            reason = self._sentence(kind, "")
        param = said.param if kind is FailureKind.BAD_REQUEST else None
        detail = f"status {status}: {raw}" if status else raw
        return self._make(
            kind, message, status=status, wait=wait, param=param, reason=reason, detail=detail
        )

    def _meaning(self, status: int | None) -> str:
        match status:
            case None:
                return "an error without a known meaning"
            case 404 | 405:
                return f"status {status}, {self._misdirected()}"
            case 407:
                return openai_proxy.refusal(status)
            case _ if 300 <= status < 400:
                return f"status {status}, a redirect, which is not followed"
            case _:
                return f"status {status}"

    def _misdirected(self) -> str:
        """Where nothing was found, and what to do about it."""
        setting = f"models.providers.{self._provider.id}.baseUrl"
        try:
            url = urlsplit(self._provider.base_url)
        except ValueError:
            return f"so its base URL may be wrong: check {setting}"
        host, path = url.netloc.rpartition("@")[2], url.path.rstrip("/")
        asked = self._scrub(f"{url.scheme}://{host}{path}/chat/completions")
        if _VERSION.search(path):
            return f"so there is no chat completions API at {asked}: check {setting}"
        return f"so there is no chat completions API at {asked}: try adding /v1 to {setting}"

    def _sentence(self, kind: FailureKind, words: str) -> str:
        quote = _quote(words) or "."
        who = f"The provider of {self._ref}"
        match kind:
            case FailureKind.AUTH:
                return f"{who} refused the Gateway's credentials."
            case FailureKind.BILLING:
                return f"{who} refused the Gateway's account for lack of credit."
            case FailureKind.RATE_LIMIT:
                return f"{who} limits the rate of calls{quote}"
            case FailureKind.CONTEXT_TOO_LONG:
                return f"The conversation is too long for {self._ref}{quote}"
            case FailureKind.BAD_REQUEST:
                return f"{who} refused the request{quote}"
            case FailureKind.TIMEOUT:
                return f"{who} reported a timeout{quote}"
            case _:
                return f"{who} is overloaded or failing{quote}"

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
            param=None if param is None else self._scrub(param)[:100],
            reason=reason,
            # Scrubbed before it is cut: half a secret would not be found.
            detail=shorten(self._scrub(detail)),
        )

    def _scrub(self, text: str) -> str:
        for secret in _secrets(self._provider):
            text = text.replace(secret, _HIDDEN)
        return text


def _quote(words: str) -> str:
    return f": {words}" if words else ""


def _secrets(provider: Provider) -> tuple[str, ...]:
    """What no text may show: longest first, so that no part of one stays behind."""
    found = {provider.api_key.reveal()} if provider.api_key else set()
    for _, secret in provider.headers:
        value = secret.reveal()
        found.update(
            part
            for part in (value, *value.split())
            if len(part) >= _SHORTEST_SECRET_HEADER and part.lower() not in ("basic", "bearer")
        )
    found.update(_in_address(provider.base_url))
    if provider.proxy is not None:
        found.update(_in_address(provider.proxy.reveal()))
    found = {form for secret in found for form in (secret, _in_json(secret), secret.strip())}
    return tuple(sorted(found - {""}, key=len, reverse=True))


def _in_json(text: str) -> str:
    return orjson.dumps(text.encode("utf-8", "replace").decode())[1:-1].decode()


def _in_address(base_url: str) -> set[str]:
    """The passwords of a base URL: its user information and the values of its query."""
    try:
        url = urlsplit(base_url)
    except ValueError:
        return {base_url}
    values = (value for _, value in parse_qsl(url.query))
    return {url.password or "", unquote(url.password or ""), *values}
