"""Where responses and conversations are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..responses import (
    Conversation,
    ConversationBounds,
    ConversationSizes,
    ItemPage,
    ItemQuery,
    Json,
    StoredResponse,
)
from ..sessions import SessionKey


class ResponseBook(Protocol):
    """Responses and conversations by their ids. What a method has changed is durable when it
    returns. Raises StoreFailed."""

    async def put(self, response: StoredResponse) -> None:
        """Keep the response; where its id is known, nothing changes."""
        ...

    async def find(self, response_id: str) -> StoredResponse | None:
        """None for an id that is not known (any more)."""
        ...

    async def delete(self, response_id: str) -> bool:
        """Forget the response. False for an unknown id."""
        ...

    async def unsettled(self, conversation_id: str) -> tuple[StoredResponse, ...]:
        """The responses whose items are to be added to the conversation, oldest first."""
        ...

    async def lock(self, conversation_id: str) -> bool:
        """Keep other processes from beginning a response in the conversation, until `unlock`. False
        where another one keeps this one from that. The lock of a dead process ends by itself."""
        ...

    async def unlock(self, conversation_id: str) -> None:
        """End the lock."""
        ...

    async def count_of(self, key: SessionKey) -> int:
        """How many responses are kept whose Runs are of that session."""
        ...

    async def prune(self, before: float | None, max_bytes: int) -> int:
        """Delete the settled responses created before that Unix time, then the oldest until the
        others take at most `max_bytes`; returns how many. None: no bound."""
        ...

    async def begin(
        self,
        conversation: Conversation,
        items: Sequence[Json],
        *,
        bounds: ConversationBounds | None = None,
    ) -> None:
        """Keep a new conversation with its first items, each of which has an `id`. Raises
        ConversationTooLarge where that breaks the bounds; nothing is kept then."""
        ...

    async def conversation(self, conversation_id: str) -> Conversation | None:
        """None for an id that is not known (any more)."""
        ...

    async def sizes(self, conversation_id: str) -> ConversationSizes | None:
        """None for an id that is not known (any more)."""
        ...

    async def set_metadata(
        self,
        conversation_id: str,
        metadata: Mapping[str, str],
        *,
        bounds: ConversationBounds | None = None,
    ) -> bool:
        """Replace the metadata. False for an unknown id. Raises as `begin` does."""
        ...

    async def end(self, conversation_id: str) -> bool:
        """Forget the conversation and its items; its responses stay. False for an unknown id."""
        ...

    async def add(
        self,
        conversation_id: str,
        items: Sequence[Json],
        *,
        settles: str | None = None,
        bounds: ConversationBounds | None = None,
    ) -> int:
        """Add items behind the others, all or none; returns how many the conversation has. With the
        id of an unsettled response, that one is settled by the same step, or deleted if it is
        hidden; where it is settled or unknown, nothing is added. An item whose id the conversation
        has already is left out. An unknown conversation has no items. Raises as
        `begin` does."""
        ...

    async def items(self, conversation_id: str, query: ItemQuery) -> ItemPage | None:
        """Items of the conversation; None where `query.after` is none of them."""
        ...

    async def item(self, conversation_id: str, item_id: str) -> Json | None:
        """One item; None for an unknown id."""
        ...

    async def remove(self, conversation_id: str, item_id: str) -> bool:
        """Take one item out. False for an unknown id."""
        ...
