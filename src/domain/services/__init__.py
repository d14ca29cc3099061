"""The application services that transports call."""

from .devices import EXPIRY_SECONDS, Devices
from .gateway import MAX_RUNS_LISTED, Events, Gateway
from .sessions import SessionService

__all__ = ["EXPIRY_SECONDS", "MAX_RUNS_LISTED", "Devices", "Events", "Gateway", "SessionService"]
