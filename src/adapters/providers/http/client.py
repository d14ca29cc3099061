"""The ModelClient of an Api."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from functools import partial

from ....domain.concurrency import image_bytes
from ....domain.models import ModelEvent, ModelRequest
from ....domain.ports import Clock
from .api import Api
from .body import Body
from .calls import HttpCaller, release
from .failures import FailureFactory, undecodable_reason

_END_TIMEOUT = 2.0
"""Seconds to wait for usage and [DONE] after the finish reason."""


class HttpModelClient(HttpCaller[Api]):
    """Calls the models of one Api over pooled connections.

    The client is shared by all providers; each request names its own. `end_timeout`: seconds to
    wait for the end of an answer after its finish reason.
    """

    def __init__(
        self, api: Api, *, now: Clock = time.time, end_timeout: float | None = None
    ) -> None:
        super().__init__(api, now=now)
        self._end_timeout = _END_TIMEOUT if end_timeout is None else end_timeout

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        """Implements ModelClient."""
        failures = FailureFactory(request.target, self._api.description)
        encode = partial(self._api.body, request, failures)
        size = image_bytes(request.messages)
        response = await self._post(request.target.provider, failures, size, encode)
        self._open.add(response)
        complete = False
        try:
            if not 200 <= response.status < 300:
                raise await self._error_response(response, failures)
            if problem := undecodable_reason(response.headers.get("Content-Encoding", "")):
                raise failures.unusable(problem)
            max_bytes = request.target.provider.max_answer_bytes
            body = Body(response, failures, max_bytes, self._end_timeout, self._api.is_complete)
            answer = self._api.answer(failures, body.content_type, self._wait(response))
            if await body.is_json():
                events = answer.whole(await body.read_all(), body.failure)
                if events:
                    yield events
                answer.check()
            while not answer.done:
                piece = await body.read()
                events = answer.feed(piece) if piece else answer.end(body.failure)
                if events:
                    yield events
                answer.check()
                if answer.has_finished:
                    body.expect_end(again=bool(events))
            complete = not body.abandoned
            yield (answer.finished(),)
        finally:
            self._open.discard(response)
            await release(response, complete=complete)
