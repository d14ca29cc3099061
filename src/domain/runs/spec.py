"""What a Run is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..access import Principal
from ..chat_commands import ChatCommand
from ..immutable import immutable
from ..messages import Message
from ..scopes import Scope
from ..sessions import BoundBy, Conversation, SessionKey
from ..tools import ClientTools

CONTENT = "opensoul.content"
"""The logger for what people and agents say; it is shut unless `logging.content` is true."""


class OnLeave(StrEnum):
    """What the departure of the last follower means for a Run."""

    ABORT = "abort"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class After:
    """The Run whose stored turn another one follows, and its session. `one_off`: the session was
    made for the first of these Runs."""

    run_id: str
    session_key: SessionKey
    one_off: bool = False


@immutable(frozen=True, slots=True)
class RunRequest:
    """What a transport read from its client, before anything was looked up.

    `messages` is the whole conversation as sent, system messages included; `params` are model
    parameters under OpenAI's names, already validated.
    """

    messages: tuple[Message, ...]
    model: str = ""
    agent_id: str | None = None
    session_key: str | None = None
    metadata_key: str | None = None
    """A session key in the metadata, where there is no `session_key`."""
    conversation: Conversation | None = None
    """Finds the session where no key does."""
    user: str | None = None
    """The same where the client names no conversation."""
    params: Mapping[str, object] = field(default_factory=dict)
    on_leave: OnLeave = OnLeave.ABORT
    streamed: bool = True
    """As in RunSpec."""
    source: str = "openai"
    """Names the entry point, also in generated session keys."""
    reserved_keys: bool = False
    """The session key may be one of a sub-agent or a job."""
    client_tools: ClientTools | None = None
    thinking: str | None = None
    """How much the model is to think, in this Run alone."""
    timeout: float | None = None
    """Seconds that the client gives the Run, which shorten the agent's limit and never lengthen it.
    None and 0: the agent's limit alone."""
    commands: bool = False
    """The newest message may be a command: a person wrote it, not an agent or a tool."""
    side_tasks: bool = False
    """The request may be a side task of a chat client."""
    side_task: str = ""
    """The kind of side task that it is, whatever it looks like."""
    chosen_model: str | None = None
    """The model to call first, by reference or alias."""
    max_tool_calls: int | None = None
    """As in RunSpec."""
    session_hint: str = ""
    """How clients of the transport can name a session, for answers to commands."""
    after: After | None = None
    """The Run to go on behind, which the principal may see; the session is that Run's."""
    parent: str = ""
    hops: int = 0
    """As in RunSpec. A client cannot set them."""


@immutable(frozen=True, slots=True)
class RunSpec:
    """A Run that was accepted: plain data without secrets, which can be stored and executed by
    another process. What a process makes of it is an `Execution`."""

    id: str
    agent_id: str
    session_key: SessionKey
    principal_id: str
    messages: tuple[Message, ...]
    """The conversation as sent, without system messages."""
    generation: str = ""
    """The configuration that accepted the Run: `Settings.generation`."""
    instructions: tuple[Message, ...] = ()
    """The request's system messages: a layer after the agent's own instructions."""
    params: Mapping[str, object] = field(default_factory=dict)
    on_leave: OnLeave = OnLeave.ABORT
    streamed: bool = True
    """The client reads the answer while it is written, and cannot take back a part of it."""
    accepted_at: float = 0.0
    """Unix time in seconds."""
    timeout: float | None = None
    """Seconds that the client allows, which shorten the agent's limit and never lengthen it."""
    one_off: bool = False
    """The session key was made for this request alone."""
    bound_by: BoundBy = BoundBy.KEY
    """The part of the request that the session was found by."""
    source: str = "openai"
    thinking: str | None = None
    """A level of `session_settings`, which wins over the Session's."""
    command: ChatCommand | None = None
    """The command that the newest message is. Such a Run has no part in the Session's order or
    transcript, and ends with its process."""
    scopes: frozenset[Scope] | None = None
    """Those of the principal when the Run was accepted, which limit what its tools may do. None:
    not restricted."""
    agents: frozenset[str] | None = None
    """The agents that the principal was restricted to; None: not restricted."""
    parent: str = ""
    """The id of the Run that it works for, which it does not outlive; empty: it works for none."""
    hops: int = 0
    """Messages from session to session that have led to the Run."""
    client_tools: ClientTools | None = None
    """The tools that the client runs."""
    side_task: str = ""
    """The kind of side task; empty: it is none. Such a Run has no tools and no instructions of the
    agent's."""
    chosen_model: str = ""
    """`provider/model` to call first, in place of the Session's; empty: as configured."""
    after_run: str = ""
    """The id of the Run whose stored turn is the end of the history; empty: the history is what the
    Session has, or nothing where it is one-off."""
    max_tool_calls: int | None = None
    """How many calls of the agent's own tools the client allows, beside the agent's limit."""

    @property
    def is_alone(self) -> bool:
        """It follows nothing that is stored: its messages are the whole conversation."""
        return self.one_off and not self.after_run

    @property
    def principal(self) -> Principal:
        """For whom its tools act. A Run that an earlier release has stored may do nothing in the
        Gateway."""
        return Principal(self.principal_id, self.scopes or frozenset(), "run", agents=self.agents)
