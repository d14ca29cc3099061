"""What the clients of providers share: connections, bodies, server-sent events, failures."""

from . import json as json_text
from .answer_format import instructed, negotiated
from .api import Answer, Api
from .client import HttpModelClient
from .errors import ProviderError, read_error, read_remark
from .failures import ApiDescription, FailureFactory
from .json import PairJoiner
from .per_message import PerMessage
from .sse import DONE, ErrorEvent, EventStream, EventTooLong, StrayLine

__all__ = [
    "DONE",
    "Answer",
    "Api",
    "ApiDescription",
    "ErrorEvent",
    "EventStream",
    "EventTooLong",
    "FailureFactory",
    "HttpModelClient",
    "PairJoiner",
    "PerMessage",
    "ProviderError",
    "StrayLine",
    "instructed",
    "json_text",
    "negotiated",
    "read_error",
    "read_remark",
]
