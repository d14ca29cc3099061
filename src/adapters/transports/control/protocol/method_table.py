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
    Method("agent", _WRITE, "Run a turn: accepted at once, answered when done.", _agent_scope),
    Method("agent.wait", _WRITE, "Wait for a run's end.", looks=True),
    Method("agent.identity.get", _READ, "An agent's name, picture and emoji."),
    Method("chat.send", _WRITE, "Say something in a session; events tell the rest.", _send_scope),
    Method("chat.startup", _READ, "A session's newest messages, and what a chat offers."),
    Method("chat.metadata", _READ, "The commands and models that a chat offers."),
    Method("chat.history", _READ, "A session's newest messages."),
    Method("chat.message.get", _READ, "One message of a session, whole."),
    Method("chat.abort", _WRITE, "Stop every run of a session, or one."),
    Method("chat.inject", _ADMIN, "Put an assistant's message into a session."),
    Method("runs.list", _READ, "Runs, newest first, from whichever door."),
    Method("runs.get", _READ, "One run."),
    Method("runs.follow", _READ, "A run's events from a number on, each once, then live."),
    Method("runs.abort", _WRITE, "Stop a run."),
    Method("sessions.list", _READ, "Sessions, the last used first."),
    Method("sessions.listTranscripts", _READ, "A session's transcripts, old ones too."),
    Method("sessions.describe", _READ, "One session."),
    Method("sessions.preview", _READ, "The last messages of several sessions, shortened."),
    Method("sessions.resolve", _READ, "The canonical key of a key, an id or a label."),
    Method("sessions.search", _READ, "Messages that hold some words."),
    Method("sessions.subscribe", _READ, "Be told of every session."),
    Method("sessions.unsubscribe", _READ, "No longer be told of every session."),
    Method("sessions.messages.subscribe", _READ, "Be told what happens in one session."),
    Method("sessions.messages.unsubscribe", _READ, "No longer be told of one session."),
    Method("sessions.create", _WRITE, "Begin a session, with a first message or without."),
    Method("sessions.send", _WRITE, "The same as chat.send, by key.", _send_scope),
    Method("sessions.abort", _WRITE, "Stop the runs of a session."),
    Method("sessions.patch", _WRITE, "Change a session's settings.", _patch_scope),
    Method("sessions.reset", _ADMIN, "Start a session over; the old transcript is kept."),
    Method("sessions.delete", _ADMIN, "Forget a session."),
    Method("sessions.compact", _ADMIN, "Go on with a session's newest messages alone."),
    Method("sessions.usage", _READ, "Tokens by session."),
    Method("agents.list", _READ, "The agents."),
    Method("agents.create", _ADMIN, "Add an agent to the configuration."),
    Method("agents.update", _ADMIN, "Change an agent's entry."),
    Method("agents.delete", _ADMIN, "Take an agent out of the configuration."),
    Method("agents.files.list", _READ, "The files in an agent's workspace that prompts use."),
    Method("agents.files.get", _READ, "One of these files."),
    Method("agents.files.set", _ADMIN, "Write one of these files."),
    Method("agents.workspace.ensure", _ADMIN, "Make an agent's workspace directory."),
    Method("models.list", _READ, "The configured models."),
    Method("models.authStatus", _READ, "How providers are authenticated."),
    Method("commands.list", _READ, "What can be typed with a slash."),
    Method("config.get", _READ, "The configuration, secrets hidden."),
    Method("config.schema", _READ, "The configuration's JSON Schema."),
    Method("config.schema.lookup", _READ, "What the configuration's schema says of one path."),
    Method("config.set", _ADMIN, "Replace the configuration file."),
    Method("config.apply", _ADMIN, "Replace the configuration file and take it over."),
    Method("config.patch", _ADMIN, "Merge into the configuration file."),
    Method("status", _READ, "Sessions, agents and runs at a glance."),
    Method("health", _READ, "Whether every part is fit to serve."),
    Method("system.info", _READ, "The machine that the Gateway runs on."),
    Method("diagnostics.lanes", _READ, "How many runs work and wait."),
    Method("system-presence", _READ, "Who is connected."),
    Method("system-event", _ADMIN, "Tell of oneself, or of something, to everybody."),
    Method("last-heartbeat", _READ, "The last heartbeat, null before the first."),
    Method("set-heartbeats", _ADMIN, "Let heartbeats happen, or not."),
    Method("wake", _WRITE, "Have the default agent look at something."),
    Method("logs.tail", _READ, "The newest lines of the log."),
    Method("usage.status", _READ, "Tokens of the last day and month."),
    Method("usage.cost", _READ, "Tokens and cost by day."),
    Method("channels.status", _READ, "The chat channels: none."),
    Method("gateway.stop", _ADMIN, "Finish what runs, then end the process."),
    Method("device.pair.list", _PAIRING, "Devices that are paired, or ask to be.", looks=True),
    Method("device.pair.approve", _PAIRING, "Let a device in."),
    Method("device.pair.reject", _PAIRING, "Turn a device away."),
    Method("device.pair.remove", _PAIRING, "Forget a device and close its connections."),
    Method("device.token.rotate", _PAIRING, "Give a device a new token."),
    Method("device.token.revoke", _PAIRING, "Take a device's token away."),
)

METHODS: Mapping[str, Method] = MappingProxyType(
    {method.name: method for method in (*_IMPLEMENTED, *WITHOUT_MEANING)}
)
