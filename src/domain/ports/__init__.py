"""What the domain needs from outside, as Protocols. Each docstring is the promise of an adapter."""

from ..sessions import Transcript
from .access import Authenticator, DeviceBook
from .clock import Clock, NewId
from .configuration import ConfigFile
from .models import ModelClient
from .runners import AgentRunner
from .runs import RunDispatcher, RunLog
from .sessions import SessionCatalog, SessionStore, StoredSession, Turn
from .settings import CurrentSettings
from .workspaces import Workspaces

__all__ = [
    "AgentRunner",
    "Authenticator",
    "Clock",
    "ConfigFile",
    "CurrentSettings",
    "DeviceBook",
    "ModelClient",
    "NewId",
    "RunDispatcher",
    "RunLog",
    "SessionCatalog",
    "SessionStore",
    "StoredSession",
    "Transcript",
    "Turn",
    "Workspaces",
]
