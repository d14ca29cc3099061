"""Responses and conversations in this process's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ....domain.responses import (
    CONVERSATION_BYTES,
    Conversation,
    ConversationBounds,
    ConversationSizes,
    ItemPage,
    ItemQuery,
    Json,
    StoredResponse,
)
from ....domain.sessions import SessionKey
from ..common import encode_json, encode_response


@dataclass(slots=True)
class _Held:
    conversation: Conversation
    items: dict[str, Json] = field(default_factory=dict)
    item_bytes: int = 0

    @property
    def bytes(self) -> int:
        return CONVERSATION_BYTES + _size(self.conversation.metadata) + self.item_bytes

    def of_same_principal(self, other: _Held) -> bool:
        return self.conversation.principal_id == other.conversation.principal_id


class MemoryResponses:
    """A ResponseBook of one process and one event loop."""

    def __init__(self) -> None:
        self._responses: dict[str, StoredResponse] = {}
        self._sizes: dict[str, int] = {}
        self._conversations: dict[str, _Held] = {}

    async def put(self, response: StoredResponse) -> None:
        if response.id not in self._responses:
            self._responses[response.id] = response
            self._sizes[response.id] = len(encode_response(response))

    async def find(self, response_id: str) -> StoredResponse | None:
        return self._responses.get(response_id)

    async def delete(self, response_id: str) -> bool:
        self._sizes.pop(response_id, None)
        return self._responses.pop(response_id, None) is not None

    async def unsettled(self, conversation_id: str) -> tuple[StoredResponse, ...]:
        return tuple(
            one
            for one in self._responses.values()
            if one.conversation == conversation_id and not one.settled
        )

    async def lock(self, conversation_id: str) -> bool:
        return True  # There are no other processes.

    async def unlock(self, conversation_id: str) -> None:
        """The same."""

    async def count_of(self, key: SessionKey) -> int:
        return sum(one.session_key == key for one in self._responses.values())

    async def prune(self, before: float | None, max_bytes: int) -> int:
        settled = [one for one in self._responses.values() if one.settled]
        settled.sort(key=lambda one: one.created_at)
        excess = sum(self._sizes[one.id] for one in settled) - max_bytes
        pruned = 0
        for one in settled:
            if excess <= 0 and (before is None or one.created_at >= before):
                break
            excess -= self._sizes[one.id]
            pruned += await self.delete(one.id)
        return pruned

    async def begin(
        self,
        conversation: Conversation,
        items: Sequence[Json],
        *,
        bounds: ConversationBounds | None = None,
    ) -> None:
        held = _Held(conversation)
        self._check(held, items, bounds, "items" if items else None)
        self._conversations[conversation.id] = held
        await self.add(conversation.id, items)

    async def sizes(self, conversation_id: str) -> ConversationSizes | None:
        held = self._conversations.get(conversation_id)
        return None if held is None else self._sizes_with(held)

    def _sizes_with(self, held: _Held) -> ConversationSizes:
        """The sizes where the conversation is `held`."""
        conversations = {**self._conversations, held.conversation.id: held}
        one, of_principal, of_all = held.bytes, 0, 0
        for other in conversations.values():
            of_all += other.bytes
            of_principal += other.bytes if other.of_same_principal(held) else 0
        for response in self._responses.values():
            if response.settled:
                continue
            size, of = self._sizes[response.id], conversations.get(response.conversation)
            of_all += size
            of_principal += size if of is not None and of.of_same_principal(held) else 0
            one += size if of is held else 0
        return ConversationSizes(one, of_principal, of_all)

    def _check(
        self,
        held: _Held,
        items: Sequence[Json],
        bounds: ConversationBounds | None,
        param: str | None,
    ) -> None:
        """Raises ConversationTooLarge where the conversation with these items breaks the bounds."""
        if bounds is not None:
            added = sum(_size(item) for item in items if item["id"] not in held.items)
            grown = replace(held, item_bytes=held.item_bytes + added)
            bounds.check(self._sizes_with(grown), param)

    async def conversation(self, conversation_id: str) -> Conversation | None:
        held = self._conversations.get(conversation_id)
        return None if held is None else held.conversation

    async def set_metadata(
        self,
        conversation_id: str,
        metadata: Mapping[str, str],
        *,
        bounds: ConversationBounds | None = None,
    ) -> bool:
        held = self._conversations.get(conversation_id)
        if held is None:
            return False
        changed = replace(held, conversation=replace(held.conversation, metadata=dict(metadata)))
        self._check(changed, (), bounds, "metadata")
        self._conversations[conversation_id] = changed
        return True

    async def end(self, conversation_id: str) -> bool:
        return self._conversations.pop(conversation_id, None) is not None

    async def add(
        self,
        conversation_id: str,
        items: Sequence[Json],
        *,
        settles: str | None = None,
        bounds: ConversationBounds | None = None,
    ) -> int:
        held = self._conversations.get(conversation_id)
        if held is not None:
            self._check(held, items, bounds, "items")
        if settles is not None:
            response = self._responses.get(settles)
            if response is None or response.settled:
                items = ()
            elif response.hidden:
                await self.delete(settles)
            else:
                self._responses[settles] = replace(response, settled=True)
        if held is None:
            return 0
        for item in items:
            if (item_id := str(item["id"])) not in held.items:
                held.items[item_id] = item
                held.item_bytes += _size(item)
        return len(held.items)

    async def items(self, conversation_id: str, query: ItemQuery) -> ItemPage | None:
        held = self._conversations.get(conversation_id)
        ids = [] if held is None else list(held.items)
        if query.newest_first:
            ids.reverse()
        if query.after is not None:
            if query.after not in ids:
                return None
            ids = ids[ids.index(query.after) + 1 :]
        page = ids[: query.limit]
        items = () if held is None else tuple(held.items[one] for one in page)
        return ItemPage(items, len(page) < len(ids))

    async def item(self, conversation_id: str, item_id: str) -> Json | None:
        held = self._conversations.get(conversation_id)
        return None if held is None else held.items.get(item_id)

    async def remove(self, conversation_id: str, item_id: str) -> bool:
        held = self._conversations.get(conversation_id)
        if held is None or (item := held.items.pop(item_id, None)) is None:
            return False
        held.item_bytes -= _size(item)
        return True


def _size(value: Mapping[str, object]) -> int:
    return len(encode_json(dict(value)))
