"""Every method of the control protocol, with the Scope that it needs.

Authorization, `features.methods` of `hello-ok` and docs/protocol.md are made from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .....domain.access import Scope
from .....domain.sessions import HARMLESS
from .meaningless import WITHOUT_MEANING
from .method import Method


def _patch_scope(params: Mapping[str, Any]) -> Scope | None:
    changed = {name for name in params if name not in ("key", "agentId", "expectedSessionId")}
    return None if changed <= HARMLESS else Scope.ADMIN


def _agent_scope(params: Mapping[str, Any]) -> Scope | None:
    text = str(params.get("message", "")).strip().lower()
    overrides = params.get("model") is not None or params.get("provider") is not None
    starts_over = text.partition(" ")[0] in ("/new", "/reset")
    return Scope.ADMIN if overrides or starts_over else None


def _send_scope(params: Mapping[str, Any]) -> Scope | None:
    text = str(params.get("message", "")).strip().lower()
    return Scope.ADMIN if text.partition(" ")[0] in ("/new", "/reset", "/compact") else None


_READ, _WRITE, _ADMIN = Scope.READ, Scope.WRITE, Scope.ADMIN
_PAIRING, _APPROVALS = Scope.PAIRING, Scope.APPROVALS

_IMPLEMENTED = (
    Method(
        "agent",
        _WRITE,
        "Run a turn. Answered when it is accepted and when it has ended.",
        _agent_scope,
    ),
    Method("agent.wait", _WRITE, "Wait until a run has ended.", looks=True),
    Method("agent.identity.get", _READ, "An agent's name, picture and emoji."),
    Method(
        "chat.send", _WRITE, "Send a message to a session; events carry the answer.", _send_scope
    ),
    Method("chat.startup", _READ, "A session's newest messages, commands and models."),
    Method("chat.metadata", _READ, "The commands and models of a chat."),
    Method("chat.history", _READ, "A session's newest messages."),
    Method("chat.message.get", _READ, "One message of a session, not shortened."),
    Method("chat.abort", _WRITE, "Abort every run of a session, or one."),
    Method("chat.inject", _ADMIN, "Add an assistant's message to a session."),
    Method("runs.list", _READ, "Runs of all transports, the newest first."),
    Method("runs.get", _READ, "One run."),
    Method("runs.follow", _READ, "A run's events from a number on: those kept, then new ones."),
    Method("runs.abort", _WRITE, "Abort a run."),
    Method("sessions.list", _READ, "Sessions, the most recently used first."),
    Method(
        "sessions.listTranscripts", _READ, "A session's transcripts, also those before a reset."
    ),
    Method("sessions.describe", _READ, "One session."),
    Method("sessions.preview", _READ, "The last messages of several sessions, shortened."),
    Method("sessions.resolve", _READ, "The canonical key of a key, an id or a label."),
    Method("sessions.search", _READ, "Messages that contain some words."),
    Method("sessions.subscribe", _READ, "Subscribe to changes of all sessions."),
    Method("sessions.unsubscribe", _READ, "End that subscription."),
    Method("sessions.messages.subscribe", _READ, "Subscribe to messages of one session."),
    Method("sessions.messages.unsubscribe", _READ, "End that subscription."),
    Method("sessions.create", _WRITE, "Create a session, with or without a first message."),
    Method("sessions.send", _WRITE, "The same as chat.send, by key.", _send_scope),
    Method("sessions.abort", _WRITE, "Abort the runs of a session."),
    Method("sessions.patch", _WRITE, "Change a session's settings.", _patch_scope),
    Method("sessions.reset", _ADMIN, "Begin a new transcript; the old one is kept."),
    Method("sessions.delete", _ADMIN, "Delete a session."),
    Method("sessions.compact", _ADMIN, "Continue with a session's newest messages only."),
    Method("sessions.usage", _READ, "Tokens by session."),
    Method("agents.list", _READ, "The agents."),
    Method("agents.create", _ADMIN, "Add an agent to the configuration."),
    Method("agents.update", _ADMIN, "Change an agent's entry."),
    Method("agents.delete", _ADMIN, "Remove an agent from the configuration."),
    Method("agents.files.list", _READ, "The files in an agent's workspace that prompts use."),
    Method("agents.files.get", _READ, "One of these files."),
    Method("agents.files.set", _ADMIN, "Write one of these files."),
    Method("agents.workspace.ensure", _ADMIN, "Create an agent's workspace directory."),
    Method("models.list", _READ, "The configured models."),
    Method("models.authStatus", _READ, "How providers are authenticated."),
    Method("commands.list", _READ, "The slash commands."),
    Method("config.get", _READ, "The configuration, secrets hidden."),
    Method("config.schema", _READ, "The configuration's JSON Schema."),
    Method("config.schema.lookup", _READ, "The configuration's schema at one path."),
    Method("config.set", _ADMIN, "Replace the configuration file."),
    Method("config.apply", _ADMIN, "Replace the configuration file and apply it."),
    Method("config.patch", _ADMIN, "Merge values into the configuration file."),
    Method("status", _READ, "A summary of sessions, agents and runs."),
    Method("health", _READ, "Whether every part is fit to serve."),
    Method("system.info", _READ, "The machine that the Gateway runs on."),
    Method("diagnostics.lanes", _READ, "How many runs are running and queued."),
    Method("system-presence", _READ, "The connected clients."),
    Method("system-event", _ADMIN, "Send a system event, or one's own presence, to all clients."),
    Method("last-heartbeat", _READ, "The last heartbeat, null before the first."),
    Method("set-heartbeats", _ADMIN, "Turn heartbeats on or off."),
    Method("wake", _WRITE, "Start a turn of the default agent."),
    Method("logs.tail", _READ, "The newest lines of the log."),
    Method("usage.status", _READ, "Tokens of the last day and month."),
    Method("usage.cost", _READ, "Tokens and cost by day."),
    Method("channels.status", _READ, "The chat channels: none."),
    Method("gateway.stop", _ADMIN, "Let runs finish, then end the process."),
    Method(
        "device.pair.list", _PAIRING, "Paired devices and pending pairing requests.", looks=True
    ),
    Method("device.pair.approve", _PAIRING, "Approve a pairing request."),
    Method("device.pair.reject", _PAIRING, "Reject a pairing request."),
    Method("device.pair.remove", _PAIRING, "Remove a device and close its connections."),
    Method("device.token.rotate", _PAIRING, "Issue a new token to a device."),
    Method("device.token.revoke", _PAIRING, "Revoke a device's token."),
)

FOR_AGENTS = frozenset(
    {
        "agent",
        "agent.wait",
        "agents.list",
        "chat.abort",
        "chat.history",
        "chat.message.get",
        "chat.metadata",
        "chat.send",
        "chat.startup",
        "commands.list",
        "models.list",
        "runs.abort",
        "runs.follow",
        "runs.get",
        "runs.list",
        "sessions.abort",
        "sessions.describe",
        "sessions.list",
        "sessions.listTranscripts",
        "sessions.messages.subscribe",
        "sessions.messages.unsubscribe",
        "sessions.patch",
        "sessions.preview",
        "sessions.resolve",
        "sessions.search",
        "sessions.send",
    }
)
"""The methods of a client that is restricted to agents. Each reads and changes agents, sessions and
runs through services that check them for the principal; no other method is checked that far."""

METHODS: Mapping[str, Method] = MappingProxyType(
    {method.name: method for method in (*_IMPLEMENTED, *WITHOUT_MEANING)}
)
