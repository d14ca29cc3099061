"""Builds the settings of sessions, lanes, the store and the log."""

from __future__ import annotations

from types import MappingProxyType

from ....domain.sessions import ResetMode, ResetRule, SendPolicy, SendRule, SessionSettings
from ....domain.settings import LaneSettings, LoggingSettings, StoreSettings
from ..read import Building
from ..schema.session import Reset, SendPolicyRule

_DEFAULT_IDLE_MINUTES = 60
_VERBOSE = ("debug", "trace")
_CHAT_TYPES = MappingProxyType({"dm": "direct", "channel": "group", "room": "group"})
MEMORY_STORE = ":memory:"


def build_sessions(building: Building) -> SessionSettings:
    """Keys of a kind take precedence over the general ones, these over the older `idleMinutes`."""
    session = building.config.session
    general = session.reset or Reset()
    if session.reset is None and session.idle_minutes is not None:
        general = Reset(mode="idle")
    kinds = {
        "dm": session.reset_by_type.dm or session.reset_by_type.direct,
        "group": session.reset_by_type.group,
        "thread": session.reset_by_type.thread,
    }
    legacy = session.idle_minutes
    days = session.one_off_retention_days
    return SessionSettings(
        reset=_rule(general, Reset(), legacy),
        reset_by_type={
            name: _rule(own, general, legacy) for name, own in kinds.items() if own is not None
        },
        reset_by_channel={
            name.lower(): _rule(own, general, legacy)
            for name, own in session.reset_by_channel.items()
        },
        send_policy=_send_policy(building),
        one_off_retention=days * 86_400.0 if days else None,
        one_off_max_bytes=session.one_off_max_bytes or None,
    )


def _send_policy(building: Building) -> SendPolicy:
    policy = building.config.session.send_policy
    return SendPolicy(tuple(map(_send_rule, policy.rules)), policy.default == "allow")


def _send_rule(rule: SendPolicyRule) -> SendRule:
    match = rule.match
    kind = match.chat_type
    return SendRule(
        allow=rule.action == "allow",
        channel=match.channel,
        chat_type=kind and _CHAT_TYPES.get(kind, kind),
        key_prefix=match.key_prefix,
        raw_key_prefix=match.raw_key_prefix,
    )


def _rule(own: Reset, general: Reset, legacy: int | None) -> ResetRule:
    mode = ResetMode(own.mode or general.mode or "daily")
    if mode is ResetMode.NONE:
        return ResetRule(mode)
    hour = next((hour for hour in (own.at_hour, general.at_hour) if hour is not None), 4)
    minutes = own.idle_minutes or general.idle_minutes or legacy
    if minutes is None and mode is ResetMode.IDLE:
        minutes = _DEFAULT_IDLE_MINUTES
    return ResetRule(mode, hour, None if minutes is None else minutes * 60.0)


def build_lanes(building: Building) -> LaneSettings:
    defaults = building.config.agents.defaults
    return LaneSettings(defaults.max_concurrent, defaults.max_waiting, defaults.max_queued)


def build_store(building: Building) -> StoreSettings:
    store = building.config.session.store
    path = str(building.locations.store_path)
    if store not in (None, MEMORY_STORE):
        building.note(
            f"session.store has no effect: sessions are kept in {path}; only "
            f'"{MEMORY_STORE}" has one.'
        )
    return StoreSettings(memory=store == MEMORY_STORE, path=path)


def build_logging(building: Building) -> LoggingSettings:
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
