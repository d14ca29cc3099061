"""Every method of the control protocol, with the Scope that it needs.

Authorization, `features.methods` of `hello-ok` and docs/protocol.md are made from this table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .....domain.access import Scope
from .....domain.sessions import HARMLESS


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the control protocol.

    `scope`: the least that is needed, None for whoever is connected. `harder`: from the
    parameters, the scope that some calls need beyond that. `missing`: why the method has no
    meaning here; it answers UNAVAILABLE with that sentence. `empty`: the whole answer of a method
    whose list is always empty here. `role`: who may call it. `looks`: the method changes nothing
    although its scope is more than operator.read.
    """

    name: str
    scope: Scope | None
    summary: str
    harder: Callable[[Mapping[str, Any]], Scope | None] | None = None
    missing: str | None = None
    empty: object = None
    role: str = "operator"
    looks: bool = False

    @property
    def implemented(self) -> bool:
        """Whether a handler answers it."""
        return self.missing is None and self.empty is None

    @property
    def reads(self) -> bool:
        """Whether the method only reads; unknown properties are then ignored."""
        return self.looks or self.scope is Scope.READ


_READ, _WRITE, _ADMIN = Scope.READ, Scope.WRITE, Scope.ADMIN
_PAIRING, _APPROVALS = Scope.PAIRING, Scope.APPROVALS

_NO_CHANNELS = "There are no chat channels here; clients talk to agents over HTTP and WebSocket."
_NO_NODES = "There are no nodes here: agents run in the Gateway itself."
_NO_CRON = "There is no scheduler here; let cron call `opensoul agent`."
_NO_SKILLS = "Skills are folders in workspaces and in the state directory; no method manages them."
_NO_PLUGINS = "There are no plugins here; see docs/extending.md for transports, runners, stores."
_ONE_KIND = "Every tool call that waits is in exec.approval.list; there are no other approvals."
_NO_RULES = "Only the Gateway requests approvals, and it keeps no file of rules for them."
_NO_QUESTIONS = "Agents ask no questions outside their answers here."
_NO_TASKS = "Tasks and commitments are not kept here; sessions and runs are."
_NO_VOICE = "There is no speech here; agents read and write text."
_NO_WIZARD = "There is no wizard here; see docs/configuration.md, or use config.patch."
_NO_UPDATE = "The Gateway does not update itself; install the newer release."
_NO_BRANCHES = "sessions.listTranscripts lists the branches of a session; clients make them."
_NO_SIDE_CHAT = "There is no side chat, observer or progress card of a session here."
_NO_GROUPS = "Sessions are not put into groups here; they have labels and can be pinned."
_NO_PEOPLE = "There are no user profiles here; whoever holds the secret or a device is an operator."

_REFUSED: tuple[tuple[str, Scope | None, str], ...] = (
    (_NO_CHANNELS, _WRITE, "send poll"),
    (_NO_CHANNELS, _ADMIN, "channels.logout web.login.start web.login.wait"),
    (_NO_NODES, _READ, "node.describe"),
    (_NO_NODES, _WRITE, "node.invoke browser.request"),
    (_NO_NODES, _PAIRING, "node.pair.request node.pair.approve node.pair.reject node.pair.verify"),
    (_NO_NODES, _PAIRING, "node.rename"),
    (_NO_SKILLS, _ADMIN, "skills.install skills.update"),
    (_NO_CRON, _ADMIN, "cron.add cron.update cron.remove cron.run"),
    (_NO_RULES, _APPROVALS, "exec.approval.request"),
    (_NO_RULES, _ADMIN, "exec.approvals.get exec.approvals.set"),
    (_NO_RULES, _ADMIN, "exec.approvals.node.get exec.approvals.node.set"),
    (_NO_TASKS, _READ, "tasks.get tasks.events tasks.commitments"),
    (_NO_TASKS, _WRITE, "tasks.cancel tasks.commitments.update tasks.task.patch"),
    (_NO_TASKS, _WRITE, "tasks.repair.relink tasks.repair.merge"),
    (_NO_TASKS, _WRITE, "tasks.repair.markTaskOrphan tasks.repair.markCommitmentOrphan"),
    (_NO_VOICE, _WRITE, "tts.enable tts.disable tts.convert tts.setProvider"),
    (_NO_VOICE, _WRITE, "talk.mode voicewake.set"),
    (_NO_WIZARD, _ADMIN, "wizard.start wizard.next wizard.cancel wizard.status"),
    (_NO_UPDATE, _ADMIN, "update.run"),
    (_NO_SIDE_CHAT, _READ, "sessions.companion.state sessions.observer.visibility"),
    (_NO_NODES, None, "node.event node.invoke.result"),
    (_NO_SKILLS, None, "skills.bins"),
)
"""Reason, scope, and names. Methods without a scope are for the role `node`."""

_NO_PROVIDERS: Mapping[str, Any] = {"providers": []}
_NO_PAGE = {"total": 0, "offset": 0, "limit": 1, "hasMore": False, "nextOffset": None}

_EMPTY: tuple[tuple[str, str, Scope, Mapping[str, Any]], ...] = (
    ("node.list", _NO_NODES, _READ, {"nodes": []}),
    ("node.pair.list", _NO_NODES, _PAIRING, {"pending": [], "paired": []}),
    ("environments.list", _NO_NODES, _READ, {"environments": [], "profiles": []}),
    ("skills.status", _NO_SKILLS, _READ, {"skills": []}),
    (
        "plugins.list",
        _NO_PLUGINS,
        _READ,
        {"plugins": [], "diagnostics": [], "mutationAllowed": False},
    ),
    # Clients validate the page: the revision must not be empty, the limit at least one.
    ("cron.list", _NO_CRON, _READ, {"jobs": [], "snapshotRevision": "none", **_NO_PAGE}),
    ("cron.status", _NO_CRON, _READ, {"enabled": False, "jobs": 0, "nextWakeAtMs": None}),
    ("cron.runs", _NO_CRON, _READ, {"entries": [], **_NO_PAGE}),
    ("tasks.list", _NO_TASKS, _READ, {"tasks": []}),
    ("taskSuggestions.list", _NO_TASKS, _READ, {"suggestions": []}),
    ("sessions.branches.list", _NO_BRANCHES, _READ, {"branches": []}),
    ("sessions.groups.list", _NO_GROUPS, _READ, {"groups": [], "sectionOrder": []}),
    ("progressCard.get", _NO_SIDE_CHAT, _READ, {"card": None}),
    ("users.list", _NO_PEOPLE, _READ, {"profiles": []}),
    (
        "channels.pairing.list",
        _NO_CHANNELS,
        _PAIRING,
        {
            "accounts": [],
            "requests": [],
            "commandOwnerConfigured": False,
            "limits": {"pendingPerAccount": 0, "ttlMs": 0},
        },
    ),
    ("tts.status", _NO_VOICE, _READ, {"enabled": False, **_NO_PROVIDERS}),
    ("tts.providers", _NO_VOICE, _READ, {"active": None, **_NO_PROVIDERS}),
    ("voicewake.get", _NO_VOICE, _READ, {"triggers": []}),
    (
        "talk.catalog",
        _NO_VOICE,
        _READ,
        {
            "modes": [],
            "transports": [],
            "brains": [],
            "speech": _NO_PROVIDERS,
            "transcription": _NO_PROVIDERS,
            "realtime": {"ready": False, **_NO_PROVIDERS},
        },
    ),
    ("update.status", _NO_UPDATE, _READ, {"sentinel": None, "updateAvailable": None}),
)
"""Name, reason, scope, and the payload without its note."""

_EMPTY_WITHOUT_NOTE: tuple[tuple[str, str, Scope, object], ...] = (
    # Clients accept only a list here, and only this key in `question.list`.
    ("plugin.approval.list", _ONE_KIND, _APPROVALS, []),
    ("openclaw.approval.list", _ONE_KIND, _APPROVALS, []),
    ("question.list", _NO_QUESTIONS, Scope.QUESTIONS, {"questions": []}),
)


def _without_meaning() -> Iterator[Method]:
    """A method that returns a list returns an empty one with a note, because clients show an error
    for every list that fails to load. All others answer UNAVAILABLE with the same sentence."""
    for why, scope, names in _REFUSED:
        for name in names.split():
            role = "node" if scope is None else "operator"
            yield Method(name, scope, why, missing=why, role=role)
    for name, why, needed, payload in _EMPTY:
        yield Method(name, needed, why, empty={**payload, "note": why})
    for name, why, needed, bare in _EMPTY_WITHOUT_NOTE:
        yield Method(name, needed, why, empty=bare)


def _patch_scope(params: Mapping[str, Any]) -> Scope | None:
    changed = {name for name in params if name not in ("key", "agentId", "expectedSessionId")}
    return None if changed <= HARMLESS else Scope.ADMIN


def _agent_scope(params: Mapping[str, Any]) -> Scope | None:
    overrides = params.get("model") is not None or params.get("provider") is not None
    return Scope.ADMIN if overrides else None


_IMPLEMENTED = (
    Method(
        "agent",
        _WRITE,
        "Run a turn. Answered when it is accepted and when it has ended.",
        _agent_scope,
    ),
    Method("agent.wait", _WRITE, "Wait until a run has ended.", looks=True),
    Method("agent.identity.get", _READ, "An agent's name, picture and emoji."),
    Method("chat.send", _WRITE, "Send a message to a session; events carry the answer."),
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
    Method("exec.approval.list", _APPROVALS, "Tool calls that wait for a decision.", looks=True),
    Method("exec.approval.get", _APPROVALS, "One approval.", looks=True),
    Method("exec.approval.resolve", _APPROVALS, "Allow or deny a tool call that waits."),
    Method(
        "approval.list", _APPROVALS, "The same as exec.approval.list, as an object.", looks=True
    ),
    Method("approval.get", _APPROVALS, "The same as exec.approval.get.", looks=True),
    Method("approval.resolve", _APPROVALS, "The same as exec.approval.resolve."),
    Method("approval.standing.list", _APPROVALS, "What `allow-always` has allowed.", looks=True),
    Method("approval.standing.revoke", _APPROVALS, "Request approval for such calls again."),
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
    Method("sessions.send", _WRITE, "The same as chat.send, by key."),
    Method("sessions.abort", _WRITE, "Abort the runs of a session."),
    Method("sessions.patch", _WRITE, "Change a session's settings.", _patch_scope),
    Method("sessions.reset", _ADMIN, "Begin a new transcript; the old one is kept."),
    Method("sessions.delete", _ADMIN, "Delete a session."),
    Method("sessions.compact", _ADMIN, "Replace a session's older messages by a summary."),
    Method("sessions.usage", _READ, "Tokens by session."),
    Method("agents.list", _READ, "The agents."),
    Method("agents.create", _ADMIN, "Add an agent to the configuration."),
    Method("agents.update", _ADMIN, "Change an agent's entry."),
    Method("agents.delete", _ADMIN, "Remove an agent from the configuration."),
    Method("agents.files.list", _READ, "The files in an agent's workspace that prompts use."),
    Method("agents.files.get", _READ, "One of these files."),
    Method("agents.files.set", _ADMIN, "Write one of these files."),
    Method("agents.workspace.ensure", _ADMIN, "Create an agent's workspace directory."),
    Method("tools.catalog", _READ, "All tools, with the rule that allows or denies each."),
    Method("tools.effective", _READ, "The tools that a session has."),
    Method("tools.invoke", _WRITE, "Call a tool, without a run."),
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
    Method("gateway.nodes", _READ, "The processes of the Gateway."),
    Method("diagnostics.lanes", _READ, "How many runs are running and queued."),
    Method("system-presence", _READ, "The connected clients."),
    Method("system-event", _ADMIN, "Send a system event, or one's own presence, to all clients."),
    Method("last-heartbeat", _READ, "The last heartbeat, null before the first."),
    Method("set-heartbeats", _ADMIN, "Turn heartbeats on or off."),
    Method("wake", _WRITE, "Start a turn of the default agent."),
    Method("logs.tail", _READ, "The newest lines of the log."),
    Method("usage.status", _READ, "Tokens of the last day and month."),
    Method("usage.cost", _READ, "Tokens and cost by day."),
    Method("usage.keys", _ADMIN, "Tokens and cost by API key and day.", looks=True),
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
    Method("keys.list", _ADMIN, "The API keys of clients.", looks=True),
    Method("keys.get", _ADMIN, "One API key, by name or id.", looks=True),
    Method("keys.create", _ADMIN, "Create an API key. Only this answer shows it."),
    Method("keys.rotate", _ADMIN, "Replace the secret of an API key."),
    Method("keys.revoke", _ADMIN, "Revoke an API key, and end what it does."),
)

_FOR_AGENTS = """
agent agent.wait agents.list
approval.get approval.list approval.resolve approval.standing.list approval.standing.revoke
chat.abort chat.history chat.message.get chat.metadata chat.send chat.startup
commands.list models.list
exec.approval.get exec.approval.list exec.approval.resolve
runs.abort runs.follow runs.get runs.list
sessions.abort sessions.describe sessions.list sessions.listTranscripts
sessions.messages.subscribe sessions.messages.unsubscribe
sessions.patch sessions.preview sessions.resolve sessions.search sessions.send
tools.catalog tools.effective tools.invoke
"""
FOR_AGENTS = frozenset(_FOR_AGENTS.split())
"""The methods of a client that is restricted to agents. Each reads and changes agents, sessions and
runs through services that check them for the principal; no other method is checked that far."""

METHODS: Mapping[str, Method] = MappingProxyType(
    {method.name: method for method in (*_IMPLEMENTED, *_without_meaning())}
)
