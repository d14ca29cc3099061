"""Gives a Quart application what every HTTP route shares: guard, errors, middleware."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from quart import Quart, Response, request
from quart.typing import BeforeRequestCallable
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing.exceptions import WebsocketMismatch

from ....domain.access import Scope, authorize
from ....domain.concurrency import drop_tracebacks
from ....domain.errors import GatewayError
from ....domain.services import Gateway
from ....domain.settings import AuthMode
from ..routes import ROUTES, Route, by_method
from .context import current
from .errors import INTERNAL_ERROR, HttpRejection, Problem, answer, problem_of
from .hints import hint_for, hint_for_method, speaks_anthropic
from .middleware import Middleware
from .pages import check_page
from .requests import credential_of

logger = logging.getLogger(__name__)


def install(app: Quart, gateway: Gateway, routes: Iterable[Route] = ROUTES) -> None:
    """Prepare `app` to serve `routes`; they may be registered before or after.

    The limits of the body and of writing are ours and follow the settings, so Quart's are off.
    """
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
    # A merged slash is answered with a redirect, which would go past the guard.
    app.url_map.merge_slashes = False
    guard = _guard(gateway, by_method(routes))
    # In front of what blueprints ask for: authentication comes first.
    app.before_request_funcs[None].insert(0, guard)
    app.register_error_handler(GatewayError, _tell_gateway_error)
    app.register_error_handler(HttpRejection, _tell_refusal)
    app.register_error_handler(HTTPException, _tell_http_exception)
    app.register_error_handler(Exception, _tell_internal_error)
    app.asgi_app = Middleware(app.asgi_app, gateway)  # type: ignore[method-assign]


def _guard(gateway: Gateway, routes: Mapping[tuple[str, str], Route]) -> BeforeRequestCallable:
    """Refuses a stranger, and a client without the scope, before anything else is looked at."""

    async def guard() -> None:
        exchange = current()
        if gateway.settings.auth.mode is AuthMode.NONE:
            check_page(exchange.given, exchange.client, gateway.settings)
        matched = request.url_rule
        rule = None if matched is None else matched.rule
        if rule is None and not _under_v1(request.path):
            return  # No such route: nothing to guard.
        route = None if rule is None else routes.get((rule, request.method))
        if route is not None and route.scope is None:
            return
        before = exchange.elapsed
        exchange.authenticated = await gateway.authenticate(
            credential_of(exchange.given, exchange.client)
        )
        exchange.timings["auth"] = exchange.elapsed - before
        if rule is not None:
            needed = None if route is None else route.scope
            authorize(exchange.principal, needed or Scope.ADMIN)

    return guard


def _under_v1(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


async def _tell_gateway_error(error: GatewayError) -> Response:
    drop_tracebacks(error)
    return _tell(problem_of(error))


async def _tell_refusal(error: HttpRejection) -> Response:
    drop_tracebacks(error)
    return _tell(error.problem)


async def _tell_http_exception(error: HTTPException) -> Response:
    """What the framework refuses: unknown paths and methods."""
    drop_tracebacks(error)
    # A path that only a WebSocket upgrade is answered on is nothing to plain HTTP.
    status = 404 if isinstance(error, WebsocketMismatch) else error.code or 500
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        allowed = ", ".join(sorted(error.valid_methods))
        message = f"{request.method} is not allowed here. Allowed: {allowed}."
        message = f"{message} {hint_for_method(request.path)}".rstrip()
        return _tell(Problem(405, message, "method_not_allowed", headers={"Allow": allowed}))
    if status == 404:
        path = _path_as_sent()
        message = f"There is nothing at {path[:200]!r}. {hint_for(path)}".rstrip()
        return _tell(Problem(404, message, "not_found"))
    if status >= 500:
        return _tell(INTERNAL_ERROR)
    return _tell(Problem(status, f"{error.name}.", error.name.lower().replace(" ", "_")))


def _path_as_sent() -> str:
    """With all its slashes, of which the framework's own has lost some."""
    path: str = request.scope["path"]
    return path


async def _tell_internal_error(error: Exception) -> Response:
    """The outermost edge of a request: the log gets the error, the client learns no internals."""
    logger.error(
        "a request failed unexpectedly", exc_info=error, extra={"request": current().request_id}
    )
    drop_tracebacks(error)
    return _tell(INTERNAL_ERROR)


def _tell(problem: Problem) -> Response:
    exchange = current()
    exchange.told(problem)
    exchange.discarding = True
    request.body.clear()
    return answer(problem, anthropic=speaks_anthropic(request.path))
