"""Methods of the shared protocol that have no effect here, as data.

A method that returns a list returns an empty one with a note, because clients show an error for
every list that fails to load. All other methods answer UNAVAILABLE with the same sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .....domain.access import Scope
from .method import Method

_READ, _WRITE, _ADMIN = Scope.READ, Scope.WRITE, Scope.ADMIN
_PAIRING, _APPROVALS = Scope.PAIRING, Scope.APPROVALS

_NO_CHANNELS = "There are no chat channels here; clients talk to agents over HTTP and WebSocket."
_NO_NODES = "There are no nodes here: agents run in the Gateway itself."
_NO_CRON = "There is no scheduler here; let cron call `opensoul agent`."
_NO_SKILLS = "There are no skills here; an agent is its instructions and its model."
_NO_PLUGINS = "There are no plugins here; see docs/extending.md for transports, runners, stores."
_NO_TOOLS = "No tools run here, so there is nothing to approve."
_NO_TASKS = "Tasks and commitments are not kept here; sessions and runs are."
_NO_VOICE = "There is no speech here; agents read and write text."
_NO_WIZARD = "There is no wizard here; see docs/configuration.md, or use config.patch."
_NO_UPDATE = "The Gateway does not update itself; install the newer release."
_NO_BRANCHES = "A session has one line of messages here; there are no branches."
_NO_SIDE_CHAT = "There is no side chat, observer or progress card of a session here."
_NO_GROUPS = "Sessions are not put into groups here; they have labels and can be pinned."
_NO_PEOPLE = "There are no user profiles here; whoever holds the secret or a device is an operator."

_REFUSED: tuple[tuple[str, Scope | None, tuple[str, ...]], ...] = (
    (_NO_CHANNELS, _WRITE, ("send", "poll")),
    (_NO_CHANNELS, _ADMIN, ("channels.logout", "web.login.start", "web.login.wait")),
    (_NO_NODES, _READ, ("node.describe",)),
    (_NO_NODES, _WRITE, ("node.invoke", "browser.request")),
    (
        _NO_NODES,
        _PAIRING,
        (
            "node.pair.request",
            "node.pair.approve",
            "node.pair.reject",
            "node.pair.verify",
            "node.rename",
        ),
    ),
    (_NO_SKILLS, _ADMIN, ("skills.install", "skills.update")),
    (_NO_CRON, _ADMIN, ("cron.add", "cron.update", "cron.remove", "cron.run")),
    (_NO_TOOLS, _APPROVALS, ("exec.approval.request", "exec.approval.resolve")),
    (
        _NO_TOOLS,
        _ADMIN,
        (
            "exec.approvals.get",
            "exec.approvals.set",
            "exec.approvals.node.get",
            "exec.approvals.node.set",
        ),
    ),
    (_NO_TOOLS, _WRITE, ("tools.invoke",)),
    (_NO_TASKS, _READ, ("tasks.get", "tasks.events", "tasks.commitments")),
    (
        _NO_TASKS,
        _WRITE,
        (
            "tasks.cancel",
            "tasks.commitments.update",
            "tasks.task.patch",
            "tasks.repair.relink",
            "tasks.repair.merge",
            "tasks.repair.markTaskOrphan",
            "tasks.repair.markCommitmentOrphan",
        ),
    ),
    (
        _NO_VOICE,
        _WRITE,
        (
            "tts.enable",
            "tts.disable",
            "tts.convert",
            "tts.setProvider",
            "talk.mode",
            "voicewake.set",
        ),
    ),
    (
        _NO_WIZARD,
        _ADMIN,
        ("wizard.start", "wizard.next", "wizard.cancel", "wizard.status"),
    ),
    (_NO_UPDATE, _ADMIN, ("update.run",)),
    (_NO_SIDE_CHAT, _READ, ("sessions.companion.state", "sessions.observer.visibility")),
)

_OF_NODES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_NO_NODES, ("node.event", "node.invoke.result")),
    (_NO_SKILLS, ("skills.bins",)),
)
"""Methods of the role `node`, which has no scopes."""

_NO_PROVIDERS: Mapping[str, Any] = {"providers": []}

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
    (
        "cron.list",
        _NO_CRON,
        _READ,
        # Clients validate the page: the revision must not be empty, the limit at least one.
        {
            "jobs": [],
            "snapshotRevision": "none",
            "total": 0,
            "offset": 0,
            "limit": 1,
            "hasMore": False,
            "nextOffset": None,
        },
    ),
    ("cron.status", _NO_CRON, _READ, {"enabled": False, "jobs": 0, "nextWakeAtMs": None}),
    (
        "cron.runs",
        _NO_CRON,
        _READ,
        {"entries": [], "total": 0, "offset": 0, "limit": 1, "hasMore": False, "nextOffset": None},
    ),
    ("tasks.list", _NO_TASKS, _READ, {"tasks": []}),
    ("taskSuggestions.list", _NO_TASKS, _READ, {"suggestions": []}),
    ("tools.catalog", _NO_TOOLS, _READ, {"profiles": [], "groups": []}),
    ("tools.effective", _NO_TOOLS, _READ, {"groups": []}),
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
    ("exec.approval.list", _NO_TOOLS, _APPROVALS, []),
    ("plugin.approval.list", _NO_TOOLS, _APPROVALS, []),
    ("openclaw.approval.list", _NO_TOOLS, _APPROVALS, []),
    ("question.list", _NO_TOOLS, Scope.QUESTIONS, {"questions": []}),
)


def _methods() -> tuple[Method, ...]:
    refused = (
        Method(name, scope, why, missing=why) for why, scope, names in _REFUSED for name in names
    )
    of_nodes = (
        Method(name, None, why, missing=why, role="node")
        for why, names in _OF_NODES
        for name in names
    )
    noted = (
        Method(name, scope, why, empty={**payload, "note": why})
        for name, why, scope, payload in _EMPTY
    )
    bare = (
        Method(name, scope, why, empty=payload) for name, why, scope, payload in _EMPTY_WITHOUT_NOTE
    )
    return (*refused, *of_nodes, *noted, *bare)


WITHOUT_MEANING = _methods()
