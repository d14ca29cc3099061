"""OpenAI's Responses API over HTTP."""

from .input import INPUT_ITEM, InputReader
from .items import item_query, kept_items, list_object
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
from .operations_of_stored import ITEM as ITEM_EXAMPLE
from .operations_of_stored import PAGE, PAGE_EXAMPLE, PAGE_PARAMETERS
from .request import ResponsesRequest, read_request
from .state import ResponseState
from .transport import transport

__all__ = [
    "INPUT_ITEM",
    "ITEM_EXAMPLE",
    "PAGE",
    "PAGE_EXAMPLE",
    "PAGE_PARAMETERS",
    "Head",
    "InputReader",
    "ResponseState",
    "ResponsesRequest",
    "answer_items",
    "answer_object",
    "failed_object",
    "head_of",
    "item_query",
    "kept_items",
    "list_object",
    "read_request",
    "response_id",
    "response_object",
    "run_of_response",
    "transport",
]
