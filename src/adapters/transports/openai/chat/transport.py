"""`POST /v1/chat/completions` and `/v1/models`: the Gateway as OpenAI's clients know it."""

from __future__ import annotations

from quart import Blueprint, Response, request

from .....domain.access import Principal
from .....domain.agents import AgentDirectory
from .....domain.byte_budget import held_bytes
from .....domain.errors import Unsupported
from .....domain.runs import RunRequest
from .....domain.services import Gateway
from ...http.bodies import read_object
from ...http.context import current
from ...http.errors import HttpRejection, Problem
from ...http.json_text import dumps
from ...http.requests import Given, family_header, unread_headers
from ...routes import CHAT_COMPLETIONS, MODEL, MODELS
from .answers import collect, completion, head_of
from .feed import Feed
from .fields import plain
from .models import model_list, model_object
from .request import ChatRequest, read_asked
from .sse import Frames
from .streams import streamed

_OFF = (
    "The chat completions endpoint is switched off. To switch it on, set "
    "gateway.http.endpoints.chatCompletions.enabled to true in the configuration."
)


_HEADERS = frozenset({"agent-id", "agent", "session-key", "model"})
"""Headers of the family that are read, without their prefix."""
_MOST_HEADERS = 20


def transport(gateway: Gateway, *, started_at: float) -> Blueprint:
    """The routes. `started_at`: Unix seconds, told as the creation time of every model."""
    endpoint = _Endpoint(gateway, int(started_at))
    blueprint = Blueprint("openai_chat", __name__)
    blueprint.before_app_request(endpoint.refuse_when_off)
    CHAT_COMPLETIONS.serve(blueprint, "create", endpoint.create)
    MODELS.serve(blueprint, "models", endpoint.models)
    MODEL.serve(blueprint, "model", endpoint.model)
    return blueprint


class _Endpoint:
    """The views. The settings are asked for each request: a change is in force at once."""

    def __init__(self, gateway: Gateway, created: int) -> None:
        self._gateway = gateway
        self._created = created

    async def refuse_when_off(self) -> None:
        """For every method, and so before any route is chosen."""
        if _ours(request.path) and not self._gateway.settings.chat.enabled:
            raise HttpRejection(Problem(404, _OFF, "endpoint_disabled"))

    async def create(self) -> Response:
        exchange = current()
        settings = self._gateway.settings.chat
        asked = await read_object(request.body, exchange, settings, read_asked)
        _refuse_model_header(exchange.given)
        if ignored := _ignored(asked, exchange.given):
            exchange.headers["x-opensoul-ignored"] = ignored
        exchange.charge.raise_to(held_bytes(asked.messages))
        principal = exchange.principal
        run_request = _run_request(asked, exchange.given)
        run = await self._gateway.submit(principal, run_request, charge=exchange.charge)
        events = await exchange.enter(self._gateway.follow(principal, run))
        exchange.adopt_task()
        exchange.began(run, asked.model)
        exchange.facts["stream"] = asked.stream
        head = head_of(run, asked.model)
        if not asked.stream:
            answer = await collect(events, exchange)
            return _json(completion(head, answer))
        frames = Frames(head, include_usage=asked.include_usage)
        feed = Feed(events, frames, exchange, patience=settings.keepalive)
        return await streamed(feed, exchange)

    async def models(self) -> Response:
        directory = self._directory(current().principal)
        return _json(dumps(model_list(directory, self._created)))

    async def model(self, model_id: str) -> Response:
        directory = self._directory(current().principal)
        agent = directory.named_by_model(model_id) or directory.default
        return _json(dumps(model_object(model_id, agent, self._created)))

    def _directory(self, principal: Principal) -> AgentDirectory:
        """The agents that the principal may use."""
        default = self._gateway.settings.agents.default
        return AgentDirectory(self._gateway.agents(principal), default.id)


def _ours(path: str) -> bool:
    return path in (CHAT_COMPLETIONS.rule, MODELS.rule) or path.startswith(MODELS.rule + "/")


def _refuse_model_header(given: Given) -> None:
    """A request must not be answered by another model than it asks for. Raises Unsupported."""
    if model := family_header(given, "model"):
        names = ("x-opensoul-model", "x-openclaw-model")
        name = next(name for name in names if name.encode() in given)
        raise Unsupported(
            f"The header {name} ({model[:100]!r}) is not supported: an agent's model is configured "
            "(agents.list[].model). Leave the header out, or name an agent in x-opensoul-agent-id.",
            param=name,
        )


def _ignored(asked: ChatRequest, given: Given) -> str:
    """The names of fields and headers that nobody here knows, as a header's value."""
    names = [plain(name) for name in unread_headers(given, _HEADERS)]
    return ", ".join(filter(None, (asked.ignored, *names[:_MOST_HEADERS])))


def _run_request(asked: ChatRequest, given: Given) -> RunRequest:
    return RunRequest(
        messages=asked.messages,
        model=asked.model,
        agent_id=family_header(given, "agent-id", "agent"),
        session_key=family_header(given, "session-key"),
        user=asked.user,
        params=asked.params,
    )


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")
