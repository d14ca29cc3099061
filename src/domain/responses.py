"""Responses and conversations of OpenAI's Responses API: what is kept of them besides the turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .sessions import SessionKey

Json = Mapping[str, object]
"""A JSON object in the form of a transport, which the domain only keeps."""

MAX_STORED_BYTES = 1024**3
"""What all stored responses take at most, in bytes of their requests; the oldest are deleted."""
MAX_CONVERSATION_ITEMS = 20_000
"""Items of one conversation."""


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
class ItemQuery:
    """Which items to list: at most `limit`, behind the item `after` in that order."""

    limit: int = 20
    after: str | None = None
    newest_first: bool = True


@dataclass(frozen=True, slots=True)
class ItemPage:
    items: Sequence[Json]
    has_more: bool = False
