"""Definitions shared by the benchmarks: models, and the bytes of requests and responses."""

from __future__ import annotations

import orjson

TOKEN = b"tok "
"""The text of every chunk of a fast response; clients detect the first token by it."""

SHORT = "chunks-1"
FAST = "chunks-50"
PACED = "paced-50"
"""Models of the mock provider; see its docstring."""

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"

DONE = b"data: [DONE]\n\n"


def chunk(text: str | None, model: str, *, reason: str | None = None, first: bool = False) -> bytes:
    """One event of a streamed chat completion from a provider."""
    delta: dict[str, str] = {} if text is None else {"content": text}
    if first:
        delta = {"role": "assistant", "content": ""}
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    fields = {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": model,
        "choices": [choice],
    }
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def completion(text: str) -> bytes:
    """A provider's response that is not streamed."""
    message = {"role": "assistant", "content": text}
    fields = {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": SHORT,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    return orjson.dumps(fields)


def framed(piece: bytes) -> bytes:
    """The data as one chunk of HTTP's chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def question(
    model: str,
    *,
    stream: bool,
    user: str | None = None,
    text: str = "Hello!",
    path: str = CHAT,
) -> bytes:
    """The body of a request to `path` with one short message."""
    fields: dict[str, object] = {"model": model, "stream": stream}
    if path == RESPONSES:
        fields["input"] = text
    else:
        fields["messages"] = [{"role": "user", "content": text}]
    if user is not None:
        fields["user"] = user
    return orjson.dumps(fields)


def conversation(messages: int) -> list[dict[str, str]]:
    """So many messages."""
    return [
        {"role": ("user", "assistant")[i % 2], "content": f"Message {i} of a long conversation."}
        for i in range(messages)
    ]


def long_question(model: str, said: list[dict[str, str]], *, user: str | None = None) -> bytes:
    """The body of a request with a conversation and a new message."""
    fields: dict[str, object] = {
        "model": model,
        "stream": False,
        "messages": [*said, {"role": "user", "content": "Hello!"}],
    }
    if user is not None:
        fields["user"] = user
    return orjson.dumps(fields)
