"""From validated values to the domain's settings."""

from .agents import build_agents
from .auth import build_auth
from .built_in import BUILT_IN
from .gateway import build_chat, build_control, build_listen, build_proxies, build_runs, is_loopback
from .mcp import build_mcp_servers
from .sessions import build_lanes, build_logging, build_sessions, build_store

__all__ = [
    "BUILT_IN",
    "build_agents",
    "build_auth",
    "build_chat",
    "build_control",
    "build_lanes",
    "build_listen",
    "build_logging",
    "build_mcp_servers",
    "build_proxies",
    "build_runs",
    "build_sessions",
    "build_store",
    "is_loopback",
]
