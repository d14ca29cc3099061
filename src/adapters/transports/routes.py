"""The one route table: every HTTP route and every WebSocket method, with the Scope it needs.

Authorization, `features.methods` and the documentation are driven by this table. A route that is
served but not listed needs the most there is, so that forgetting a line locks a door and never
opens one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from quart import Blueprint, Response

from ...domain.auth import Scope
from ...domain.session_settings import HARMLESS

View = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One rule of the URL map. `scope` None: open to everybody."""

    rule: str
    methods: tuple[str, ...]
    scope: Scope | None

    def serve(self, blueprint: Blueprint, name: str, view: View) -> None:
        """Add the route to `blueprint`, answered by `view`."""
        # No automatic OPTIONS: it is a method like any other, and not ours.
        options: dict[str, Any] = {"provide_automatic_options": False}
        blueprint.add_url_rule(self.rule, name, view, methods=list(self.methods), **options)


CHAT_COMPLETIONS = Route("/v1/chat/completions", ("POST",), Scope.WRITE)
MODELS = Route("/v1/models", ("GET",), Scope.READ)
MODEL = Route("/v1/models/<path:model_id>", ("GET",), Scope.READ)
HEALTH = Route("/healthz", ("GET",), None)
READY = Route("/readyz", ("GET",), None)

ROUTES = (CHAT_COMPLETIONS, MODELS, MODEL, HEALTH, READY)


def by_method(routes: Iterable[Route]) -> Mapping[tuple[str, str], Route]:
    """The routes by rule and method: two methods of one rule may need different scopes.

    HEAD needs what GET needs. Raises ValueError where two routes have the same rule and method.
    """
    table: dict[tuple[str, str], Route] = {}
    for route in routes:
        head = ("HEAD",) if "GET" in route.methods else ()
        for method in dict.fromkeys((*route.methods, *head)):
            if (route.rule, method) in table:
                raise ValueError(f"two routes answer {method} {route.rule}")
            table[route.rule, method] = route
    return MappingProxyType(table)


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the control protocol.

    `scope`: the least that is needed, None for whoever is connected. `harder`: from the
    parameters, the scope that some calls need beyond that. `missing`: why the method has no
    meaning here; it answers UNAVAILABLE with that sentence. `role`: who may call it.
    """

    name: str
    scope: Scope | None
    summary: str
    harder: Callable[[Mapping[str, Any]], Scope | None] | None = None
    missing: str | None = None
    role: str = "operator"


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
    return Scope.ADMIN if text.partition(" ")[0] in ("/new", "/reset") else None


_READ, _WRITE, _ADMIN = Scope.READ, Scope.WRITE, Scope.ADMIN
_PAIRING, _APPROVALS = Scope.PAIRING, Scope.APPROVALS

_IMPLEMENTED = (
    Method("agent", _WRITE, "Run a turn: accepted at once, answered when done.", _agent_scope),
    Method("agent.wait", _WRITE, "Wait for a run's end."),
    Method("agent.identity.get", _READ, "An agent's name, picture and emoji."),
    Method("chat.send", _WRITE, "Say something in a session; events tell the rest.", _send_scope),
    Method("chat.history", _READ, "A session's newest messages."),
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
    Method("commands.list", _READ, "What can be typed with a slash."),
    Method("config.get", _READ, "The configuration, secrets hidden."),
    Method("config.schema", _READ, "The configuration's JSON Schema."),
    Method("config.set", _ADMIN, "Replace the configuration file."),
    Method("config.apply", _ADMIN, "Replace the configuration file and take it over."),
    Method("config.patch", _ADMIN, "Merge into the configuration file."),
    Method("status", _READ, "Sessions, agents and runs at a glance."),
    Method("health", _READ, "Whether every part is fit to serve."),
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
    Method("device.pair.list", _PAIRING, "Devices that are paired, or ask to be."),
    Method("device.pair.approve", _PAIRING, "Let a device in."),
    Method("device.pair.reject", _PAIRING, "Turn a device away."),
    Method("device.pair.remove", _PAIRING, "Forget a device and close its connections."),
    Method("device.token.rotate", _PAIRING, "Give a device a new token."),
    Method("device.token.revoke", _PAIRING, "Take a device's token away."),
)

_NO_CHANNELS = "There are no chat channels here; clients talk to agents over HTTP and WebSocket."
_NO_NODES = "There are no nodes here: agents run in the Gateway itself."
_NO_CRON = "There is no scheduler here; let cron call `opensoul agent`."
_NO_SKILLS = "There are no skills here; an agent is its instructions and its model."
_NO_TOOLS = "No tools run here, so there is nothing to approve."
_NO_TASKS = "Tasks and commitments are not kept here; sessions and runs are."
_NO_VOICE = "There is no speech here; agents read and write text."
_NO_WIZARD = "There is no wizard here; see docs/configuration.md, or use config.patch."
_NO_UPDATE = "The Gateway does not update itself; install the newer release."


def _missing(
    why: str, scope: Scope | None, *names: str, role: str = "operator"
) -> tuple[Method, ...]:
    return tuple(Method(name, scope, why, missing=why, role=role) for name in names)


_WITHOUT_MEANING = (
    *_missing(_NO_CHANNELS, _WRITE, "send", "poll"),
    *_missing(_NO_CHANNELS, _ADMIN, "channels.logout", "web.login.start", "web.login.wait"),
    *_missing(_NO_NODES, _READ, "node.list", "node.describe"),
    *_missing(_NO_NODES, _WRITE, "node.invoke", "browser.request"),
    *_missing(
        _NO_NODES,
        _PAIRING,
        "node.pair.request",
        "node.pair.list",
        "node.pair.approve",
        "node.pair.reject",
        "node.pair.verify",
        "node.rename",
    ),
    # Scopes are for operators: a node has none.
    *_missing(_NO_NODES, None, "node.event", "node.invoke.result", role="node"),
    *_missing(_NO_SKILLS, None, "skills.bins", role="node"),
    *_missing(_NO_SKILLS, _READ, "skills.status"),
    *_missing(_NO_SKILLS, _ADMIN, "skills.install", "skills.update"),
    *_missing(_NO_CRON, _READ, "cron.list", "cron.status", "cron.runs"),
    *_missing(_NO_CRON, _ADMIN, "cron.add", "cron.update", "cron.remove", "cron.run"),
    *_missing(
        _NO_TOOLS,
        _APPROVALS,
        "exec.approval.request",
        "exec.approval.resolve",
        "plugin.approval.list",
    ),
    *_missing(
        _NO_TOOLS,
        _ADMIN,
        "exec.approvals.get",
        "exec.approvals.set",
        "exec.approvals.node.get",
        "exec.approvals.node.set",
    ),
    *_missing(_NO_TOOLS, Scope.QUESTIONS, "question.list"),
    *_missing(_NO_TOOLS, _READ, "tools.catalog", "tools.effective"),
    *_missing(_NO_TOOLS, _WRITE, "tools.invoke"),
    *_missing(_NO_TASKS, _READ, "tasks.list", "tasks.get", "tasks.events", "tasks.commitments"),
    *_missing(
        _NO_TASKS,
        _WRITE,
        "tasks.cancel",
        "tasks.commitments.update",
        "tasks.task.patch",
        "tasks.repair.relink",
        "tasks.repair.merge",
        "tasks.repair.markTaskOrphan",
        "tasks.repair.markCommitmentOrphan",
    ),
    *_missing(_NO_VOICE, _READ, "tts.status", "tts.providers", "voicewake.get"),
    *_missing(
        _NO_VOICE,
        _WRITE,
        "tts.enable",
        "tts.disable",
        "tts.convert",
        "tts.setProvider",
        "talk.mode",
        "voicewake.set",
    ),
    *_missing(_NO_WIZARD, _ADMIN, "wizard.start", "wizard.next", "wizard.cancel", "wizard.status"),
    *_missing(_NO_UPDATE, _ADMIN, "update.run"),
)

METHODS: Mapping[str, Method] = MappingProxyType(
    {method.name: method for method in (*_IMPLEMENTED, *_WITHOUT_MEANING)}
)
