"""The Embedder for providers with OpenAI's embeddings API."""

from __future__ import annotations

import sys
import time
from array import array
from base64 import b64decode
from binascii import Error as NotBase64
from functools import partial
from math import isfinite
from typing import Any

import orjson

from ....domain.concurrency import LARGE, off_loop
from ....domain.models import EmbeddingRequest, Embeddings, Provider, Usage
from ....domain.ports import Clock
from ..http import (
    ApiDescription,
    Body,
    FailureFactory,
    HttpCaller,
    json_text,
    read_error,
    release,
    undecodable_reason,
)
from .client import authorization

_FLOAT_BYTES = 4
_END_TIMEOUT = 2.0
"""Seconds in which a body is expected to end once it may be complete."""
_MOST_TOKENS = 10**12
"""Larger counts are treated as errors of the provider."""


class _EmbeddingsApi:
    description = ApiDescription(
        "embeddings", "a list of embeddings", lambda path: path + "/embeddings"
    )

    def headers(self, provider: Provider) -> dict[str, str]:
        return authorization(provider)


class OpenAIEmbeddings(HttpCaller[_EmbeddingsApi]):
    """Requests vectors as lists of numbers, the format that every provider has."""

    def __init__(self, *, now: Clock = time.time) -> None:
        super().__init__(_EmbeddingsApi(), now=now)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Implements Embedder."""
        provider = request.target.provider
        failures = FailureFactory(request.target, self._api.description)
        size = sum(map(len, request.texts))
        response = await self._post(provider, failures, size, partial(_body, request))
        self._open.add(response)
        complete = False
        try:
            if not 200 <= response.status < 300:
                raise await self._error_response(response, failures)
            if problem := undecodable_reason(response.headers.get("Content-Encoding", "")):
                raise failures.unusable(problem)
            limit = provider.max_answer_bytes
            body = Body(response, failures, limit, _END_TIMEOUT, _is_complete)
            if not await body.is_json():
                raise failures.unusable("it is not a list of embeddings")
            answer = await body.read_all()
            if body.failure is not None:
                raise body.failure
            complete = not body.abandoned
            wait = self._wait(response)
        finally:
            self._open.discard(response)
            await release(response, complete=complete)
        read = partial(_read, answer, len(request.texts), failures, wait)
        return await off_loop(len(answer), read)


def _body(request: EmbeddingRequest) -> bytes:
    texts = [json_text.repaired(text) for text in request.texts]
    body: dict[str, Any] = {**dict(request.target.params), "model": request.target.model}
    body |= {"input": texts, "encoding_format": "float"}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.input_type is not None:
        body["input_type"] = request.input_type
    return orjson.dumps(body)


def _is_complete(body: bytes) -> bool:
    if len(body) > LARGE:  # Rare: a provider that leaves a long body open.
        return body.rstrip().endswith(b"}")
    return json_text.loads(body) is not None


def _read(answer: bytes, number: int, failures: FailureFactory, wait: float | None) -> Embeddings:
    """The vectors in an answer. Raises ModelFailed."""
    document = _document(answer)
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        if (error := read_error(document)) is not None:
            raise failures.reported(error, document, wait)
        raise failures.unusable("it has no list `data`")
    if len(data) != number:
        raise failures.unusable(f"it has {len(data)} embeddings for {number} texts")
    vectors: list[bytes] = [b""] * number
    for place, item in enumerate(data):
        if not isinstance(item, dict):
            raise failures.unusable(f"`data[{place}]` is not an object")
        index = item.get("index", place)
        vector = _vector(item.get("embedding"))
        if not isinstance(index, int) or not 0 <= index < number or vectors[index]:
            raise failures.unusable(f"`data[{place}].index` is wrong")
        if not vector:
            raise failures.unusable(f"`data[{place}].embedding` is not a list of numbers")
        vectors[index] = vector
    if len({len(vector) for vector in vectors}) != 1:
        raise failures.unusable("its embeddings differ in their number of dimensions")
    return Embeddings(tuple(vectors), _usage(document.get("usage")))


def _document(answer: bytes) -> Any:
    """The value of the JSON text, whose size is limited; None where it is none."""
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None


def _vector(value: object) -> bytes:
    """The 32-bit floats of an embedding; empty where it is none."""
    if isinstance(value, str):  # Some providers always answer with base64.
        try:
            found = b64decode(value, validate=True)
        except NotBase64:
            return b""
        numbers = array("f")
        if len(found) % _FLOAT_BYTES:
            return b""
        numbers.frombytes(found)
        if sys.byteorder == "big":
            numbers.byteswap()
    elif isinstance(value, list) and all(type(n) in (int, float) for n in value):
        try:
            numbers = array("f", value)
        except OverflowError:
            return b""
    else:
        return b""
    if not all(map(isfinite, numbers)):
        return b""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    for name in ("prompt_tokens", "total_tokens", "input_tokens"):
        count = value.get(name)
        if isinstance(count, int) and not isinstance(count, bool) and 0 < count <= _MOST_TOKENS:
            return Usage(count, 0)
    return None
