"""Roughly how many tokens a request takes, without a Run."""

from __future__ import annotations

from typing import Protocol

from ..access import Principal
from ..ports import RunContext
from ..runs import RunRequest
from ..sessions import estimate_all
from .gateway import Gateway

_NATIVE = "native"


class Measures(Protocol):
    """The runner that calls models itself."""

    async def size(self, context: RunContext) -> int:
        """Roughly the tokens of the first model call of the Run."""
        ...


class TokenCounts:
    """Estimates what the model of an agent would get: its system prompt, its tools and the
    request's, and the messages of the request. What is stored of a Session does not count."""

    def __init__(self, *, gateway: Gateway, native: Measures) -> None:
        self._gateway = gateway
        self._native = native

    async def count(self, principal: Principal, request: RunRequest) -> int:
        """The estimate. Raises as `Gateway.submit` does for a request that it refuses."""
        planned = await self._gateway.plan(principal, request)
        if planned.agent.runner != _NATIVE:  # It is not known what such a runner sends.
            return estimate_all((*planned.spec.instructions, *planned.spec.messages))
        return await self._native.size(RunContext(planned.spec, planned.agent))
