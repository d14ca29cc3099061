"""The wiring: one function for each part of the container, in modules by subject.

Here, the type checker compares what a part needs with what is passed to it. The container calls
each function with the providers that have the names of its parameters; tests/app/test_container.py
compares their types.
"""

from .agents import (
    commands,
    knowledge,
    native,
    python,
    python_agents,
    runners,
    system_prompts,
)
from .authorization import access, devices, keys, limits, quotas
from .configuration import config_file, inputs, locations, settings, source, token_file
from .endpoints import control, transports
from .execution import (
    agent_sessions,
    approval_book,
    approvals,
    executor,
    gateway,
    generations,
    lanes,
    local_queue,
    queue,
    session_service,
    signals,
    token_counts,
)
from .persistence import (
    catalog,
    device_book,
    key_book,
    lock,
    run_events,
    run_log,
    store,
    stored_approvals,
    workspaces,
)
from .process import configure_logging, facts, lifecycle, log_bounds, readiness, stop_process
from .providers import cooldowns, local, models, prepare, router
from .tooling import all_tools, builtin_tools, mcp, sandbox, session_tools, tool_service, toolbox

__all__ = [
    "access",
    "agent_sessions",
    "all_tools",
    "approval_book",
    "approvals",
    "builtin_tools",
    "catalog",
    "commands",
    "config_file",
    "configure_logging",
    "control",
    "cooldowns",
    "device_book",
    "devices",
    "executor",
    "facts",
    "gateway",
    "generations",
    "inputs",
    "key_book",
    "keys",
    "knowledge",
    "lanes",
    "lifecycle",
    "limits",
    "local",
    "local_queue",
    "locations",
    "lock",
    "log_bounds",
    "mcp",
    "models",
    "native",
    "prepare",
    "python",
    "python_agents",
    "queue",
    "quotas",
    "readiness",
    "router",
    "run_events",
    "run_log",
    "runners",
    "sandbox",
    "session_service",
    "session_tools",
    "settings",
    "signals",
    "source",
    "stop_process",
    "store",
    "stored_approvals",
    "system_prompts",
    "token_counts",
    "token_file",
    "tool_service",
    "toolbox",
    "transports",
    "workspaces",
]
