"""Run events as the frames of a streamed chat completion.

Shape: https://platform.openai.com/docs/api-reference/chat-streaming. The token path joins three
byte strings; everything else about a chunk is written once per run.
"""

from __future__ import annotations

from ....domain.model_calls import ReasoningDelta, TextDelta, Usage
from ....domain.runs import Aborted, Failed, Finished, RunEvent, Started, error_of
from ..http.errors import Problem
from ..http.json_text import dumps
from .answers import Head, usage_object

KEEPALIVE = b": keepalive\n\n"
_DONE = b"data: [DONE]\n\n"


class Frames:
    """Writes the frames of one run."""

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        fields = {
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
        }
        self._include_usage = include_usage
        self._head = b"data: " + dumps(fields)[:-1]
        start = self._head + b',"choices":[{"index":0,"delta":'
        tail = (b',"usage":null' if include_usage else b"") + b"}\n\n"
        self._text = start + b'{"content":'
        self._reasoning = start + b'{"reasoning_content":'
        self._delta_end = b'},"finish_reason":null}]' + tail
        self._role = start + b'{"role":"assistant","content":""' + self._delta_end
        self._last = start + b'{},"finish_reason":'
        self._last_end = b"}]" + tail
        self._begun = False

    def of(self, event: RunEvent) -> bytes:
        """The frames that tell of `event`, empty where a client need not know.

        Raises the GatewayError that a failed or aborted run ended with.
        """
        match event:
            case TextDelta(text=text):
                return self._begin() + self._text + dumps(text) + self._delta_end
            case ReasoningDelta(text=text):
                return self._begin() + self._reasoning + dumps(text) + self._delta_end
            case Started():
                return b""
            case Finished(stop=stop, usage=usage):
                last = self._last + dumps(stop.value) + self._last_end
                return self._begin() + last + self._usage(usage) + _DONE
            case Failed() | Aborted():
                raise error_of(event)

    def _begin(self) -> bytes:
        """The role chunk, before anything else and once."""
        if self._begun:
            return b""
        self._begun = True
        return self._role

    def _usage(self, usage: Usage) -> bytes:
        if not self._include_usage:
            return b""
        return self._head + b',"choices":[],"usage":' + dumps(usage_object(usage)) + b"}\n\n"


def error_frame(problem: Problem) -> bytes:
    """The last frame of a stream that failed: no `[DONE]` follows it."""
    return b"data: " + dumps(problem.envelope) + b"\n\n"
