"""Builds the settings of sessions."""

from __future__ import annotations

from types import MappingProxyType

from ....domain.sessions import (
    BindSettings,
    ResetMode,
    ResetRule,
    SendPolicy,
    SendRule,
    SessionSettings,
)
from ..schema.session import Reset, SendPolicyRule, SessionSection

_DEFAULT_IDLE_MINUTES = 60
_CHAT_TYPES = MappingProxyType({"dm": "direct", "channel": "group", "room": "group"})


def build_sessions(session: SessionSection) -> SessionSettings:
    """Keys of a kind take precedence over the general ones, these over the older `idleMinutes`."""
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
        send_policy=SendPolicy(
            tuple(map(_send_rule, session.send_policy.rules)),
            session.send_policy.default == "allow",
        ),
        one_off_retention=days * 86_400.0 if days else None,
        one_off_max_bytes=session.one_off_max_bytes or None,
        max_hops=session.agent_to_agent.max_ping_pong_turns,
        bind=BindSettings(
            headers=tuple(dict.fromkeys(name.lower() for name in session.bind.headers)),
            user=session.bind.user == "session",
            temporary=tuple(session.bind.temporary),
        ),
        side_task_patterns=tuple(session.side_task_patterns),
    )


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
