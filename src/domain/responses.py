"""Responses and conversations of OpenAI's Responses API: what is kept of them besides the turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .errors import ConversationTooLarge
from .sessions import SessionKey

Json = Mapping[str, object]
"""A JSON object in the form of a transport, which the domain only keeps."""

MAX_STORED_BYTES = 1024**3
"""What all stored responses take at most, in bytes of their requests; the oldest are deleted."""
MAX_CONVERSATION_ITEMS = 20_000
"""Items of one conversation."""
CONVERSATION_BYTES = 4096
"""What a conversation counts besides its items and metadata, so that empty ones are bounded."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response without its output, which the events or the turn of its Run have.

    `turn_of`: the Run whose turn is the end of the history of the next response; it is another one
    where this response's Run stores no turn, and empty where there is none. `one_off`: the session
    was made for this response, or for one before it. `created_at`: Unix seconds.
    """

    id: str
    run_id: str
    principal_id: str
    agent_id: str
    session_key: SessionKey
    created_at: float
    body: Json
    """The fields of the request that the response repeats."""
    input: Sequence[Json] = ()
    """The items of the input as they were sent, each with an id."""
    turn_of: str = ""
    one_off: bool = False
    background: bool = False
    conversation: str = ""
    """The id of the conversation that its items belong to; empty: none."""
    settled: bool = True
    """Its items are in the conversation, or there is none."""
    hidden: bool = False
    """It is kept only until it is settled: its client asked not to store it."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation, without its items. `created_at`: Unix seconds."""

    id: str
    principal_id: str
    created_at: float
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConversationSizes:
    """Bytes of a conversation, of all conversations of its principal, and of all that are kept:
    items, metadata, CONVERSATION_BYTES for each, and the responses that are not settled."""

    conversation: int
    principal: int
    all: int


@dataclass(frozen=True, slots=True)
class ConversationBounds:
    """The most bytes of each of the ConversationSizes."""

    conversation: int = 64 * 1024**2
    principal: int = 512 * 1024**2
    all: int = 4 * 1024**3

    def check(self, sizes: ConversationSizes, param: str | None) -> None:
        """Raises ConversationTooLarge, which names the limit; `param` is the field at fault."""
        for size, most, subject, remedy in (
            (
                *(sizes.conversation, self.conversation, "A conversation has"),
                "Begin another one, or delete items.",
            ),
            (
                *(sizes.principal, self.principal, "All conversations of a credential have"),
                "Delete conversations, or items of them.",
            ),
            (
                *(sizes.all, self.all, "All conversations of the Gateway together have"),
                "Its operator can delete conversations.",
            ),
        ):
            if size > most:
                raise ConversationTooLarge(f"{subject} at most {most} bytes. {remedy}", param=param)


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """Which items to list: at most `limit`, behind the item `after` in that order."""

    limit: int = 20
    after: str | None = None
    newest_first: bool = True


@dataclass(frozen=True, slots=True)
class ItemPage:
    items: Sequence[Json]
    has_more: bool = False
