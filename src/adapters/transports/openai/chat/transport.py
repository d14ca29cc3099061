"""`POST /v1/chat/completions` and `/v1/models`: the Gateway as OpenAI's clients know it."""

from __future__ import annotations

from quart import Response, request

from .....domain.access import Principal, Scope
from .....domain.agents import AgentDirectory
from .....domain.byte_budget import held_bytes
from .....domain.errors import Unsupported
from .....domain.runs import RunRequest
from .....domain.services import Gateway
from .....domain.settings import Settings
from ...http.bodies import read_object
from ...http.context import current
from ...http.json_text import dumps
from ...http.requests import Headers, family_header, unread_headers
from ...routes import Limits, Route, Switch, Transport, View
from .answers import collect, completion, head_of
from .feed import Feed
from .fields import plain
from .models import model_list, model_object
from .request import ChatRequest, read_request
from .sse import Frames
from .streams import streamed

_SETTING = "gateway.http.endpoints.chatCompletions"
_SWITCH = Switch(
    "The chat completions endpoint", f"{_SETTING}.enabled", lambda settings: settings.chat.enabled
)

_HEADERS = frozenset({"agent-id", "agent", "session-key", "model"})
"""Headers of the family that are read, without their prefix."""
_MOST_HEADERS = 20


def transport(gateway: Gateway, *, started_at: float) -> Transport:
    """The routes. `started_at`: Unix seconds, the creation time of every model."""
    endpoint = _Endpoint(gateway, int(started_at))

    def route(path: str, method: str, scope: Scope, view: View, summary: str) -> Route:
        return Route(path, method, scope, view, summary, _limits, _SWITCH)

    return Transport(
        "openai_chat",
        (
            route(
                "/v1/chat/completions",
                "POST",
                Scope.WRITE,
                endpoint.create,
                "An agent's answer to a conversation, whole or as a stream.",
            ),
            route("/v1/models", "GET", Scope.READ, endpoint.models, "The agents, as models."),
            route("/v1/models/<path:model_id>", "GET", Scope.READ, endpoint.model, "One agent."),
        ),
    )


def _limits(settings: Settings) -> Limits:
    chat = settings.chat
    return Limits(chat.max_body_bytes, chat.body_timeout, chat.write_timeout, _SETTING)


class _Endpoint:
    """The views. The settings are read for each request, so that a change is in force at once."""

    def __init__(self, gateway: Gateway, created: int) -> None:
        self._gateway = gateway
        self._created = created

    async def create(self) -> Response:
        context = current()
        body = await read_object(request.body, context, read_request)
        _refuse_model_header(context.headers)
        if ignored := _ignored(body, context.headers):
            context.response_headers["x-opensoul-ignored"] = ignored
        context.charge.raise_to(held_bytes(body.messages))
        principal = context.principal
        run_request = _run_request(body, context.headers)
        run = self._gateway.submit(principal, run_request, charge=context.charge)
        # Nothing may be awaited in between: a run that nobody follows is never left.
        events = await context.enter(self._gateway.follow(principal, run))
        context.adopt_task()
        context.began(run, body.model)
        context.log_fields["stream"] = body.stream
        head = head_of(run, body.model)
        if not body.stream:
            answer = await collect(events, context)
            return _json(completion(head, answer))
        frames = Frames(head, include_usage=body.include_usage)
        feed = Feed(events, frames, context, patience=self._gateway.settings.chat.keepalive)
        return await streamed(feed, context)

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


def _refuse_model_header(headers: Headers) -> None:
    """A request must not be answered by another model than it asks for. Raises Unsupported."""
    if model := family_header(headers, "model"):
        names = ("x-opensoul-model", "x-openclaw-model")
        name = next(name for name in names if name.encode() in headers)
        raise Unsupported(
            f"The header {name} ({model[:100]!r}) is not supported: an agent's model is configured "
            "(agents.list[].model). Leave the header out, or name an agent in x-opensoul-agent-id.",
            param=name,
        )


def _ignored(body: ChatRequest, headers: Headers) -> str:
    """The names of fields and headers that nobody here knows, as a header's value."""
    names = [plain(name) for name in unread_headers(headers, _HEADERS)]
    return ", ".join(filter(None, (body.ignored, *names[:_MOST_HEADERS])))


def _run_request(body: ChatRequest, headers: Headers) -> RunRequest:
    return RunRequest(
        messages=body.messages,
        model=body.model,
        agent_id=family_header(headers, "agent-id", "agent"),
        session_key=family_header(headers, "session-key"),
        user=body.user,
        params=body.params,
    )


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")
