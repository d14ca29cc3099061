"""Gives a Quart application what every HTTP route shares: guard, errors, middleware."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

from quart import Quart, Request, Response, request
from quart.globals import request_ctx
from quart.routing import QuartRule
from quart.typing import BeforeRequestCallable
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing.exceptions import WebsocketMismatch

from ....domain.access import Scope, authorize
from ....domain.concurrency import drop_tracebacks
from ....domain.errors import GatewayError
from ....domain.services import Gateway
from ....domain.settings import AuthMode, NodeRole
from ..routes import RouteTable, Switch, Transport
from . import cors
from .bodies import BoundedBody
from .context import current
from .errors import (
    INTERNAL_ERROR,
    HttpRejection,
    Problem,
    answer,
    anthropic_answer,
    problem_of,
)
from .hints import (
    WORKER,
    expects_anthropic,
    hint_for,
    hint_for_method,
    hint_for_route,
    hint_for_switched_off,
)
from .hosts import check_page
from .middleware import Middleware
from .requests import credential_of, narrowed

logger = logging.getLogger(__name__)


def install(app: Quart, gateway: Gateway, transports: Iterable[Transport]) -> None:
    """Have `app` serve the transports. Raises ValueError where two of them collide.

    The limits of the body and of writing belong to the routes, so Quart's are off.
    """
    table = RouteTable(transports)
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
    # A merged slash is answered with a redirect, which would go past the guard.
    app.url_map.merge_slashes = False
    app.request_class = _Request
    app.url_rule_class = _Rule
    for transport in table.transports:
        _serve(app, transport)
    # In front of what others have registered: authentication comes first.
    app.before_request_funcs[None].insert(0, _guard(gateway, table))
    app.register_error_handler(GatewayError, _answer_refusal)
    app.register_error_handler(HttpRejection, _answer_refusal)
    app.register_error_handler(HTTPException, partial(_answer_http_exception, gateway, table))
    app.register_error_handler(Exception, _answer_internal_error)
    app.asgi_app = Middleware(app.asgi_app, gateway, table)  # type: ignore[method-assign]


class _Request(Request):
    body_class = BoundedBody


class _Rule(QuartRule):
    """Without the functions that build URLs: the Gateway builds none, and to compile them takes a
    third of the time that it takes to make the application."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _build


def _build(*_: object, **values: object) -> tuple[str, str]:
    raise LookupError(f"The Gateway does not build the URLs of its routes (values: {values}).")


def _serve(app: Quart, transport: Transport) -> None:
    for number, route in enumerate(transport.routes):
        endpoint = f"{transport.name}-{number}"
        app.add_url_rule(
            route.path,
            endpoint,
            route.view,
            methods=[route.method],
            # OPTIONS is a method like any other, and no route of ours.
            provide_automatic_options=False,
        )
        if not route.head:  # The framework lets each GET answer HEAD.
            for added in app.url_map.iter_rules(endpoint):
                added.methods = set(route.methods)
    if transport.upgrade is None:
        return
    # The rules name no method: with GET, which Quart would put in, plain HTTP would get
    # a 405 that allows GET where there is nothing at all.
    everywhere = ("/", "/<path:path>")
    rules = (transport.upgrade_path,) if transport.upgrade_path else everywhere
    for number, rule in enumerate(rules):
        endpoint = f"{transport.name}-upgrade-{number}"
        app.url_map.add(app.url_rule_class(rule, endpoint=endpoint, websocket=True))
        # Quart takes None, too: the connection was upgraded, and has ended.
        app.view_functions[endpoint] = transport.upgrade  # type: ignore[assignment]


def _guard(gateway: Gateway, table: RouteTable) -> BeforeRequestCallable:
    """Rejects unauthenticated clients and those without the scope before any other check; then
    applies the limits and the switch of the route. Preflights, which browsers send without the
    credential of their page, are answered here."""

    async def guard() -> Response | None:
        # Resolved once: each use of the proxy `request` costs as much as several calls.
        asked, context, settings = request_ctx.request, current(), gateway.settings
        if settings.auth.mode is AuthMode.NONE:
            check_page(context.headers, context.client, settings)
        if asked.method == "OPTIONS" and (answer := cors.preflight(context, table.methods)):
            return answer
        matched = asked.url_rule
        rule = None if matched is None else matched.rule
        route = None if rule is None else table.find(rule, asked.method)
        if rule is None and not _under_v1(asked.path):
            pass  # No such route: nothing to guard.
        elif route is None or route.scope is not None:
            before = context.elapsed
            principal = await gateway.authenticate(credential_of(context.headers, context.client))
            context.authenticated = narrowed(principal, context.headers)
            context.timings["auth"] = context.elapsed - before
            if rule is not None:
                needed = None if route is None else route.scope
                authorize(context.principal, needed or Scope.ADMIN)
        if route is not None:
            context.limits = table.limits(route, settings)
            # For views that read the body through Quart, which accepts fractions of a second.
            asked.body_timeout = context.limits.body_timeout  # type: ignore[assignment]
        switch = table.switch_at(asked.path) if route is None else route.switch
        if switch is not None and not switch.is_on(settings):
            raise HttpRejection(_switched_off(switch, asked.path))
        return None

    return guard


def _switched_off(switch: Switch, path: str) -> Problem:
    message = (
        f"{switch.subject} is switched off. To switch it on, set {switch.key} to true in the "
        "configuration."
    )
    if "chatCompletions" not in switch.key:
        message += f" {hint_for_switched_off(path)}"
    return Problem(404, message, "endpoint_disabled")


def _under_v1(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


async def _answer_refusal(error: GatewayError | HttpRejection) -> Response:
    drop_tracebacks(error)
    return _answer(error.problem if isinstance(error, HttpRejection) else problem_of(error))


async def _answer_http_exception(
    gateway: Gateway, table: RouteTable, error: HTTPException
) -> Response:
    """What the framework refuses: unknown paths and methods."""
    drop_tracebacks(error)
    # A path that only a WebSocket upgrade is answered on is nothing to plain HTTP.
    status = 404 if isinstance(error, WebsocketMismatch) else error.code or 500
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        allowed = ", ".join(sorted(error.valid_methods))
        if request.method == "OPTIONS":
            return _options(allowed)
        message = f"{request.method} is not allowed here. Allowed: {allowed}."
        message = f"{message} {hint_for_method(request.path)}".rstrip()
        return _answer(Problem(405, message, "method_not_allowed", headers={"Allow": allowed}))
    if status == 404:
        path: str = request.scope["path"]  # As sent: the framework merges its slashes.
        if gateway.settings.node.role is NodeRole.WORKER:
            hint = WORKER
        else:
            hint = hint_for(path) or hint_for_route(table.near(path))
        message = f"There is nothing at {path[:200]!r}. {hint}".rstrip()
        return _answer(Problem(404, message, "not_found"))
    if status >= 500:
        return _answer(INTERNAL_ERROR)
    return _answer(Problem(status, f"{error.name}.", error.name.lower().replace(" ", "_")))


def _options(allowed: str) -> Response:
    """https://www.rfc-editor.org/rfc/rfc9110#section-9.3.7"""
    response = Response("", 204, {"Allow": f"{allowed}, OPTIONS"})
    del response.headers["content-type"], response.headers["content-length"]
    return response


async def _answer_internal_error(error: Exception) -> Response:
    """The outermost handler of a request: the error is logged, and its text is not sent."""
    logger.error(
        "a request failed unexpectedly", exc_info=error, extra={"request": current().request_id}
    )
    drop_tracebacks(error)
    return _answer(INTERNAL_ERROR)


def _answer(problem: Problem) -> Response:
    context = current()
    context.reported(problem)
    context.discarding = True
    request.body.clear()
    versioned = b"anthropic-version" in context.headers
    if expects_anthropic(request.path, versioned=versioned):
        context.response_headers["request-id"] = context.request_id
        return anthropic_answer(problem, context.request_id)
    return answer(problem)
