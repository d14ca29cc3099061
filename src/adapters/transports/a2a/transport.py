"""`/a2a` and the agent cards."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from quart import Response

from ....domain.access import Scope
from ....domain.errors import Unavailable
from ....domain.ports import WebClient
from ....domain.services import Approvals, Gateway
from ..routes import Route, Transport
from ..switches import A2A_SWITCH, answer_limits
from . import operations
from .extra import ADVICE, PROBLEM, is_installed

if TYPE_CHECKING:
    from .calls import Calls

logger = logging.getLogger(__name__)

_CARD = "/.well-known/agent-card.json"
_CALLS = "/a2a"


def transport(gateway: Gateway, approvals: Approvals, web: WebClient) -> Transport:
    """The routes. Methods need scopes of their own beyond that of the route."""
    endpoint = _Endpoint(gateway, approvals, web)
    route = partial(Route, limits=answer_limits, switch=A2A_SWITCH)
    card = "The public card of the default agent."
    own = "The public card of an agent's endpoint."
    called, called_own = "A2A: JSON-RPC, with the default agent.", "A2A: JSON-RPC, with one agent."
    one = f"{_CALLS}/<agent_id>"
    of, failures = operations, (501,)
    return Transport(
        "a2a",
        (
            route(_CARD, "GET", None, endpoint.card, card, operation=of.card, errors=(501,)),
            route(
                f"{one}{_CARD}", "GET", None, endpoint.card, own, operation=of.card, errors=(501,)
            ),
            route(
                *(_CALLS, "POST", Scope.READ, endpoint.call, called),
                operation=of.call,
                errors=failures,
            ),
            route(
                *(one, "POST", Scope.READ, endpoint.call, called_own),
                operation=of.call,
                errors=failures,
            ),
        ),
        start=endpoint.start,
    )


class _Endpoint:
    """The views."""

    def __init__(self, gateway: Gateway, approvals: Approvals, web: WebClient) -> None:
        self._gateway = gateway
        self._approvals = approvals
        self._web = web
        self._calls: Calls | None = None

    async def start(self) -> None:
        """Import the SDK before the first request, where the endpoint is on."""
        if not self._gateway.settings.endpoints.a2a:
            return
        if is_installed():
            await self._loaded()
        else:
            logger.error("%s %s", PROBLEM, ADVICE)

    async def card(self, agent_id: str = "") -> Response:
        body = (await self._loaded()).card(agent_id)
        return Response(body, content_type="application/json")

    async def call(self, agent_id: str = "") -> Response:
        return await (await self._loaded()).answer(agent_id)

    async def _loaded(self) -> Calls:
        """Raises Unavailable without the SDK. It is imported in a thread, as that takes half a
        second."""
        if self._calls is None:
            if not is_installed():
                raise Unavailable(f"{PROBLEM} {ADVICE}.")
            made = (await asyncio.to_thread(_imported))(self._gateway, self._approvals, self._web)
            self._calls = self._calls or made
        return self._calls


def _imported() -> type[Calls]:
    from .calls import Calls

    return Calls
