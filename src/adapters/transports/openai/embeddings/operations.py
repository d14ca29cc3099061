"""What the OpenAPI document says of the requests and responses, with examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...routes import SCHEMA_REF, json_content, object_schema
from .request import INPUT_SCHEMA, Fields

_STRING, _INTEGER = {"type": "string"}, {"type": "integer"}
_EMBEDDING = object_schema(
    {},
    object={"const": "embedding"},
    index=_INTEGER,
    embedding={
        "oneOf": [
            {"type": "array", "items": {"type": "number"}},
            {**_STRING, "contentEncoding": "base64"},
        ],
        "description": "Numbers, or with `encoding_format: base64` their 32-bit floats, "
        "little-endian.",
    },
)
_LIST = object_schema(
    {},
    object={"const": "list"},
    data={"type": "array", "items": _EMBEDDING},
    model={**_STRING, "description": "The model that made them, as `provider/model`."},
    usage=object_schema(
        {"estimated": {"type": "boolean"}}, prompt_tokens=_INTEGER, total_tokens=_INTEGER
    ),
)
_REQUESTS = {
    "one": {"model": "opensoul", "input": "The cat sat on the mat."},
    "several": {
        "model": "opensoul",
        "input": ["The cat sat on the mat.", "A dog barked."],
        "encoding_format": "base64",
    },
}
_ANSWER = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 0.125]}],
    "model": "openai/text-embedding-3-small",
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
}
_CHOICE = {
    "name": "x-opensoul-model",
    "in": "header",
    "description": "The embedding model, in place of the body's.",
    "schema": _STRING,
}
_IGNORED = {
    "description": "Fields and headers of the request that have no effect.",
    "schema": _STRING,
}


def create() -> Mapping[str, Any]:
    """`POST /v1/embeddings`."""
    fields = Fields.model_json_schema(ref_template=SCHEMA_REF)
    request = object_schema(fields["properties"], input=INPUT_SCHEMA)
    return {
        "parameters": [_CHOICE],
        "requestBody": {"required": True, "content": json_content(request, **_REQUESTS)},
        "responses": {
            "200": {
                "description": "The vectors, in the order of the texts.",
                "headers": {"x-opensoul-ignored": _IGNORED},
                "content": json_content(_LIST, answer=_ANSWER),
            }
        },
    }
