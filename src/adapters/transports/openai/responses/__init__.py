"""OpenAI's Responses API over HTTP."""

from .objects import (
    Head,
    answer_items,
    answer_object,
    failed_object,
    head_of,
    response_id,
    response_object,
    run_of_response,
)
from .request import ResponsesRequest, read_request
from .transport import transport

__all__ = [
    "Head",
    "ResponsesRequest",
    "answer_items",
    "answer_object",
    "failed_object",
    "head_of",
    "read_request",
    "response_id",
    "response_object",
    "run_of_response",
    "transport",
]
