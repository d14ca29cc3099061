"""The models of the Gateway for the code of agents: chat completions on a port of the loopback
interface, each agent with a key of its own.

It is no part of the Gateway's API: the port is any that is free, the keys are new with each start,
and the names of models are those of the configuration.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

from aiohttp import web

from ...domain.byte_budget import NO_CHARGE
from ...domain.concurrency import off_loop
from ...domain.errors import GatewayError, InvalidRequest, Unauthenticated
from ...domain.messages import ToolCall
from ...domain.models import ReasoningDelta, TextDelta
from ...domain.ports import CurrentSettings
from ...domain.runs import (
    CONTEXT_EVENTS,
    TERMINAL,
    ClientCalls,
    Finished,
    Resumed,
    RunEvent,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    consumes,
)
from ...domain.services import ModelCalls
from .answering import Answer
from .http import Problem
from .http.errors import INTERNAL_ERROR, problem_of
from .http.json_text import dumps, read_bounded
from .media import MediaReader
from .openai.chat import ChatRequest, Frames, Head, completion, read_request

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"


class ModelServer:
    """Serves once `start` was called."""

    def __init__(self, calls: ModelCalls, media: MediaReader, settings: CurrentSettings) -> None:
        self._calls = calls
        self._media = media
        self._settings = settings
        self._secret = secrets.token_bytes(32)
        self._runner: web.AppRunner | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> str:
        """Serve, and return the base URL for OpenAI's clients. Raises OSError."""
        async with self._starting:
            if self._runner is None:
                app = web.Application(client_max_size=self._settings().chat.max_body_bytes)
                app.router.add_post("/v1/chat/completions", self._answer)
                # A client that leaves cancels its handler, which closes the provider's connection.
                runner = web.AppRunner(
                    app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0
                )
                try:
                    await runner.setup()
                    await web.TCPSite(runner, _HOST, 0).start()
                except BaseException:  # Of a cancelled load, too: others start it again.
                    await runner.cleanup()
                    raise
                self._runner = runner
            return f"http://{_HOST}:{self._runner.addresses[0][1]}/v1"

    async def close(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def key_of(self, agent_id: str) -> str:
        """The key of an agent, which names it."""
        proof = hmac.digest(self._secret, _bytes(agent_id), "sha256").hex()
        return f"agent-{agent_id}-{proof}"

    def _agent_of(self, request: web.Request) -> str:
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        agent_id = key.removeprefix("agent-").rpartition("-")[0]
        expected = self.key_of(agent_id)
        if kind.lower() != "bearer" or not hmac.compare_digest(_bytes(key), _bytes(expected)):
            raise Unauthenticated("The key is not that of an agent of this Gateway.")
        return agent_id

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            agent_id = self._agent_of(request)
            body = await request.read()
            chat = await off_loop(len(body), partial(_read, body))
            messages = chat.messages
            if chat.media:
                settings = self._settings().chat
                messages = await self._media.read(messages, chat.media, settings, NO_CHARGE)
            client = chat.tools.client
            events = self._calls.call(
                agent_id,
                chat.model,
                messages,
                chat.params,
                () if client is None else client.tools,
            )
            async with aclosing(events):
                if chat.stream:
                    return await _streamed(request, chat, events)
                return _json(await _whole(chat, events))
        except GatewayError as error:
            return _refusal(problem_of(error))
        except web.HTTPException:
            raise
        except Exception:
            logger.exception("a model call of an agent failed unexpectedly")
            return _refusal(INTERNAL_ERROR)


def _bytes(text: str) -> bytes:
    """As they were sent: headers need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _read(body: bytes) -> ChatRequest:
    value = read_bounded(body)
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return read_request(value)


@consumes(
    TextDelta,
    ReasoningDelta,
    ClientCalls,
    *TERMINAL,
    ignores=(
        *(Started, Waiting, Resumed, ToolStarted, ToolProgress, ToolFinished, StepDone),
        *CONTEXT_EVENTS,
    ),
)
async def _whole(chat: ChatRequest, events: AsyncGenerator[Sequence[RunEvent]]) -> bytes:
    text: list[str] = []
    reasoning: list[str] = []
    calls: tuple[ToolCall, ...] = ()
    async for batch in events:
        for event in batch:
            match event:
                case TextDelta(text=piece):
                    text.append(piece)
                case ReasoningDelta(text=piece):
                    reasoning.append(piece)
                case ClientCalls():
                    calls = event.calls
                case Finished():
                    answer = Answer("".join(text), "".join(reasoning), event, calls)
                    return completion(_head(chat), answer)
    raise RuntimeError("the model's answer has no end")


async def _streamed(
    request: web.Request, chat: ChatRequest, events: AsyncGenerator[Sequence[RunEvent]]
) -> web.StreamResponse:
    """Begins with the first event, so that a refusal before that has a status of its own."""
    frames = Frames(_head(chat), include_usage=True)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    number = 1
    try:
        async for batch in events:
            data = frames.of(batch, number)
            number += len(batch)
            if not response.prepared:
                await response.prepare(request)
            if data:
                await response.write(data)
    except GatewayError as error:
        if not response.prepared:
            raise
        await response.write(frames.failure(problem_of(error)))
    await response.write_eof()
    return response


def _head(chat: ChatRequest) -> Head:
    return Head(f"chatcmpl_{secrets.token_hex(12)}", 0, chat.model)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _refusal(problem: Problem) -> web.Response:
    return web.Response(
        body=dumps(problem.envelope), status=problem.status, content_type="application/json"
    )
