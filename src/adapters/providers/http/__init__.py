"""What the clients of providers share: connections, bodies, server-sent events, failures."""

from . import json as json_text
from .answer_format import instructed, negotiated
from .api import Answer, Api
from .body import Body
from .calls import HttpCaller, release
from .client import HttpModelClient
from .errors import ProviderError, read_error, read_remark
from .failures import ApiDescription, FailureFactory, undecodable_reason
from .json import PairJoiner
from .per_message import PerMessage
from .sse import DONE, ErrorEvent, EventStream, EventTooLong, StrayLine

__all__ = [
    "DONE",
    "Answer",
    "Api",
    "ApiDescription",
    "Body",
    "ErrorEvent",
    "EventStream",
    "EventTooLong",
    "FailureFactory",
    "HttpCaller",
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
    "release",
    "undecodable_reason",
]
