"""Builds the settings of the Gateway; each part reports its own errors."""

from __future__ import annotations

from ....domain.settings import (
    ChatEndpointSettings,
    EndpointSettings,
    FileSettings,
    ImageSettings,
    LaneSettings,
    LoggingSettings,
    RunLogSettings,
    Settings,
)
from ..read import Building
from .agents import build_agents
from .auth import build_auth
from .gateway import build_control, build_cors, build_listen, build_proxies
from .keys import build_keys
from .mcp import build_mcp_servers
from .sessions import build_sessions
from .store import build_node, build_store
from .tools import build_direct_tools

_VERBOSE = ("debug", "trace")


def build_settings(building: Building, generation: str, *, exists: bool) -> Settings:
    """The settings of a validated configuration. `exists`: whether there is a file."""
    gateway, defaults = building.config.gateway, building.config.agents.defaults
    if not exists:
        building.note(
            f"There is no configuration file at {building.locations.config_path}. The agent `main` "
            "is served with defaults, and the chat endpoint is off."
        )
    for note in building.checked.notes:
        building.note(note)
    if gateway.mode == "remote":
        building.note("gateway.mode `remote` has no effect: this machine serves.")
    listen = build_listen(building)
    agents, models, embedding_models = build_agents(building)
    store = build_store(building)
    proxies = build_proxies(building)
    endpoints = gateway.http.endpoints
    chat = endpoints.chat_completions
    return Settings(
        agents=agents,
        auth=build_auth(building, listen, store, build_keys(building, agents)),
        generation=generation,
        chat=ChatEndpointSettings(
            enabled=chat.enabled,
            max_images=chat.max_image_parts,
            max_image_bytes=chat.max_total_image_bytes,
            images=ImageSettings(
                allow_url=chat.images.allow_url,
                types=tuple(chat.images.allowed_mimes),
                max_bytes=chat.images.max_bytes,
                max_pixels=chat.images.max_pixels,
                max_redirects=chat.images.max_redirects,
                timeout=chat.images.timeout_ms / 1000,
            ),
            files=FileSettings(
                types=tuple(chat.files.allowed_mimes),
                max_files=chat.files.max_files,
                max_bytes=chat.files.max_bytes,
                max_chars=chat.files.max_chars,
                max_pages=chat.files.pdf.max_pages,
                timeout=chat.files.timeout_ms / 1000,
            ),
            max_body_bytes=chat.max_body_bytes,
            body_timeout=chat.body_timeout_ms / 1000,
            keepalive=chat.keepalive_ms / 1000,
            write_timeout=chat.write_timeout_ms / 1000,
            reasoning=chat.reasoning == "include",
        ),
        endpoints=EndpointSettings(
            responses=endpoints.responses.enabled,
            messages=endpoints.messages.enabled,
            completions=endpoints.completions.enabled,
            embeddings=endpoints.embeddings.enabled,
            mcp=endpoints.mcp.enabled,
            a2a=endpoints.a2a.enabled,
        ),
        models=models,
        embedding_models=embedding_models,
        sessions=build_sessions(building.config.session),
        lanes=LaneSettings(
            defaults.max_concurrent,
            defaults.max_waiting,
            defaults.max_queued,
            defaults.subagents.max_concurrent,
        ),
        runs=RunLogSettings(
            gateway.runs.keep_hours * 3_600.0, gateway.runs.keep_megabytes * 1024 * 1024
        ),
        logging=_logging(building),
        listen=listen,
        store=store,
        node=build_node(building, store, listen, agents),
        control=build_control(building),
        text_commands=building.config.commands.text,
        transports=tuple(gateway.transports),
        authenticators=tuple(gateway.auth.authenticators),
        mcp_servers=build_mcp_servers(building),
        direct_tools=build_direct_tools(building),
        cors_origins=build_cors(building),
        trusted_proxies=proxies,
        max_bytes_in_flight=gateway.http.max_bytes_in_flight,
        max_connections_per_address=gateway.max_connections_per_address,
        shutdown_linger=float(gateway.shutdown.linger_seconds),
        shutdown_grace=float(gateway.shutdown.grace_seconds),
        notes=tuple(building.notes),
    )


def _logging(building: Building) -> LoggingSettings:
    log = building.config.logging
    level: str = log.level
    console: str | None = log.console_level
    if building.inputs.overrides.verbose:
        level = level if level in _VERBOSE else "debug"
        console = console if console is None or console in _VERBOSE else "debug"
    return LoggingSettings(
        level=level,
        console_level=console,
        style=log.console_style,
        file=None if log.file is None else building.path(log.file),
        content=log.content,
        max_file_bytes=log.max_file_bytes,
        keep_files=log.keep_files,
    )
