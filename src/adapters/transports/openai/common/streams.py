"""A run as a response that streams: when its head goes out, and how it ends."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

from quart import Response

from .....domain.concurrency import drop_tracebacks
from .....domain.errors import GatewayError
from ...http.context import RequestContext
from ...http.errors import INTERNAL_ERROR, problem_of
from .feed import Feed
from .sse import KEEPALIVE, error_frame

logger = logging.getLogger(__name__)

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""The second one keeps nginx from collecting the stream."""


async def streamed(feed: Feed, context: RequestContext) -> Response:
    """The response, once there is something to tell or the feed's patience is at its end.

    Raises the GatewayError of a run that fails before: its status can still be a true one.
    """
    first = await feed.take()
    context.streaming = True
    response = Response(
        _body(feed, first, context),
        headers=_HEADERS,
        content_type="text/event-stream; charset=utf-8",
    )
    response.timeout = None
    return response


async def _body(feed: Feed, first: bytes | None, context: RequestContext) -> AsyncGenerator[bytes]:
    frames = first
    while frames is None or frames:
        yield KEEPALIVE if frames is None else frames
        try:
            frames = await feed.take()
        except GatewayError as error:
            problem = problem_of(error)
            drop_tracebacks(error)
        except Exception as error:
            # The outermost edge of a stream: nobody behind it could still tell the client.
            logger.exception("a stream failed unexpectedly", extra={"request": context.request_id})
            problem = INTERNAL_ERROR
            drop_tracebacks(error)
        else:
            continue
        context.reported(problem)
        yield error_frame(problem)
        return
