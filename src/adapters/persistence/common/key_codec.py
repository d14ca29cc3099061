"""An API key as bytes, and back."""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter, ValidationError

from ....domain.api_keys import ApiKey
from .codec import Undecodable


def encode_key(key: ApiKey) -> bytes:
    """The key's record as JSON: with the digest of the key, not with the key."""
    return _shape().dump_json(key)


def decode_key(data: bytes) -> ApiKey:
    """The record that `encode_key` made into `data`. Raises Undecodable."""
    try:
        return _shape().validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise Undecodable(problem) from None


@cache
def _shape() -> TypeAdapter[ApiKey]:
    return TypeAdapter(ApiKey)
