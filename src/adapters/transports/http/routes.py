"""The route table: every HTTP route, its methods, and the Scope that it needs.

Authorization is driven by this table. A route that is served but not listed needs the most there
is, so that forgetting a line locks a door and never opens one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from quart import Blueprint, Response

from ....domain.auth import Scope

View = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One rule of the URL map. `scope` None: open to everybody."""

    rule: str
    methods: tuple[str, ...]
    scope: Scope | None

    def serve(self, blueprint: Blueprint, name: str, view: View) -> None:
        """Add the route to `blueprint`, answered by `view`."""
        # No automatic OPTIONS: it is a method like any other, and not ours.
        options: dict[str, Any] = {"provide_automatic_options": False}
        blueprint.add_url_rule(self.rule, name, view, methods=list(self.methods), **options)


CHAT_COMPLETIONS = Route("/v1/chat/completions", ("POST",), Scope.WRITE)
MODELS = Route("/v1/models", ("GET",), Scope.READ)
MODEL = Route("/v1/models/<path:model_id>", ("GET",), Scope.READ)
HEALTH = Route("/healthz", ("GET",), None)
READY = Route("/readyz", ("GET",), None)

ROUTES = (CHAT_COMPLETIONS, MODELS, MODEL, HEALTH, READY)
