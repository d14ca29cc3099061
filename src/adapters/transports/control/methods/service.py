"""The base of the classes that answer methods."""

from __future__ import annotations

from ..broadcast import Hub
from ..dependencies import Dependencies
from .outcomes import Outcomes
from .rows import Rows


class ControlService:
    """What the classes that answer methods use."""

    def __init__(self, dependencies: Dependencies, hub: Hub) -> None:
        self.dependencies = dependencies
        self.gateway = dependencies.gateway
        self.session_service = dependencies.session_service
        self.clock = dependencies.clock
        self.hub = hub
        self.rows = Rows(self.gateway, self.session_service)
        self.outcomes = Outcomes(self.gateway, self.session_service, hub)
