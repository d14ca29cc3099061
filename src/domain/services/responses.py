"""Stored responses and conversations: who sees them, what follows what, and when they go."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from ..access import Action, Principal, Resource, may, require
from ..errors import (
    ConversationLocked,
    InvalidRequest,
    SessionBusy,
    StoreFailed,
    TurnNotStored,
    UnknownConversation,
    UnknownPreviousResponse,
    UnknownResponse,
)
from ..messages import Message
from ..ports import Clock, CurrentSettings, NewId, ResponseBook, RunQueue, SessionCatalog
from ..responses import (
    MAX_CONVERSATION_ITEMS,
    MAX_STORED_BYTES,
    Conversation,
    ConversationBounds,
    ItemPage,
    ItemQuery,
    Json,
    StoredResponse,
)
from ..runs import After
from ..sessions import SessionKey, SessionQuery

logger = logging.getLogger(__name__)

CONVERSATION = "conversation"
"""Names, in the keys of sessions, the conversations that are kept here."""
_PATIENCE = 15.0
"""Seconds that the deletion of a session waits for the runs before it to end."""
_MOST_SESSIONS = 1_000
_PRUNED_AFTER = 100
"""Responses after which the bound of all is looked at, besides from time to time."""
_AT_ONCE = 500
"""Messages that are read at once."""
_BOUNDS = ConversationBounds()
_DELETED = "The response was deleted."


class Responses:
    """Every method takes a Principal, and what it may not see is unknown to it. Methods raise
    StoreFailed where the book fails. `clock` is Unix time."""

    def __init__(
        self,
        *,
        book: ResponseBook,
        settings: CurrentSettings,
        catalog: SessionCatalog,
        queue: RunQueue,
        clock: Clock,
        new_id: NewId,
        bounds: ConversationBounds = _BOUNDS,
    ) -> None:
        self._book = book
        self._settings = settings
        self._catalog = catalog
        self._queue = queue
        self._clock = clock
        self._new_id = new_id
        self._bounds = bounds
        self._kept = 0
        self._locked: set[str] = set()
        """Conversations for which this process begins a response."""

    # Responses

    async def keep(self, response: StoredResponse) -> None:
        """Keep a response of the principal that its Run was accepted for."""
        await self._book.put(response)
        self._kept += 1
        if not self._kept % _PRUNED_AFTER:
            await self.prune()

    async def find(self, principal: Principal, response_id: str) -> StoredResponse:
        """Raises Forbidden, UnknownResponse."""
        require(principal, Action.SEE_RUN)
        found = await self._book.find(response_id)
        if found is None or found.hidden or not _sees(principal, found):
            raise UnknownResponse(f"Response with id '{response_id[:100]}' not found.")
        return found

    async def after(self, principal: Principal, response_id: str) -> After | None:
        """What the next response goes on behind; None where that one has no history. Raises
        Forbidden, UnknownPreviousResponse."""
        try:
            return after(await self.find(principal, response_id))
        except UnknownResponse:
            raise UnknownPreviousResponse(
                f"Previous response with id '{response_id[:100]}' not found.",
                param="previous_response_id",
            ) from None

    async def history(self, principal: Principal, response_id: str) -> tuple[Message, ...]:
        """All messages up to the end of a response. Raises as `after` does, and TurnNotStored."""
        behind = await self.after(principal, response_id)
        if behind is None:
            return ()
        span = await self._catalog.span(behind.run_id)
        if span is None:
            raise TurnNotStored(f"The response {response_id!r} has no stored answer.")
        found: list[Message] = []
        before = span.through + 1
        while before > 1 and (
            kept := await self._catalog.messages(
                behind.session_key, limit=_AT_ONCE, before=before, session_id=span.session_id
            )
        ):
            before = kept[0].number
            found += (one.message for one in reversed(kept))
        return tuple(reversed(found))

    async def deletable(self, principal: Principal, response_id: str) -> StoredResponse:
        """The response, for its principal or an administrator. Raises Forbidden,
        UnknownResponse."""
        found = await self.find(principal, response_id)
        _require_own(principal, found.principal_id)
        return found

    async def forget(self, response: StoredResponse) -> None:
        """Delete the response; and the session that was made for it, where no other response is
        kept that could go on with it."""
        await self._book.delete(response.id)
        if response.one_off and not await self._book.count_of(response.session_key):
            await self._delete_session(response.session_key, unless_used=True)

    async def prune(self) -> int:
        """Delete the responses that are too old, as sessions of stateless requests are, and those
        that are too much; returns how many."""
        keep = self._settings().sessions.one_off_retention
        before = None if keep is None else self._clock() - keep
        return await self._book.prune(before, MAX_STORED_BYTES)

    # Conversations

    async def begin(
        self, principal: Principal, items: Sequence[Json], metadata: Mapping[str, str]
    ) -> Conversation:
        """A new conversation with these items. Raises Forbidden, InvalidRequest."""
        require(principal, Action.START_RUN)
        name = f"conv_{self._new_id().replace('-', '')}"
        conversation = Conversation(name, principal.id, self._clock(), dict(metadata))
        await self._book.begin(conversation, items, bounds=self._bounds)
        return conversation

    async def conversation(self, principal: Principal, conversation_id: str) -> Conversation:
        """Raises Forbidden, UnknownConversation."""
        require(principal, Action.SEE_RUN)
        found = await self._book.conversation(conversation_id)
        if found is None or not _owns(principal, found):
            raise UnknownConversation(f"Conversation with id '{conversation_id[:100]}' not found.")
        return found

    async def _own(self, principal: Principal, conversation_id: str) -> Conversation:
        """The same for whoever may change it: its principal, and administrators."""
        require(principal, Action.START_RUN)
        found = await self.conversation(principal, conversation_id)
        _require_own(principal, found.principal_id)
        return found

    async def set_metadata(
        self, principal: Principal, conversation_id: str, metadata: Mapping[str, str]
    ) -> Conversation:
        """Raises Forbidden, UnknownConversation, ConversationTooLarge."""
        await self._own(principal, conversation_id)
        await self._book.set_metadata(conversation_id, metadata, bounds=self._bounds)
        return await self.conversation(principal, conversation_id)

    async def end(self, principal: Principal, conversation_id: str) -> None:
        """Delete the conversation, its items and its sessions. Raises Forbidden,
        UnknownConversation."""
        await self._own(principal, conversation_id)
        for response in await self._book.unsettled(conversation_id):
            await self._book.add(conversation_id, (), settles=response.id)
        await self._book.end(conversation_id)
        query = SessionQuery(search=conversation_id, limit=_MOST_SESSIONS)
        for info in (await self._catalog.list(query)).sessions:
            if info.key.rest.endswith(f":{CONVERSATION}:{conversation_id}"):
                await self._delete_session(info.key)

    async def add(
        self, principal: Principal, conversation_id: str, items: Sequence[Json]
    ) -> Sequence[Json]:
        """The items, which are in the conversation now. Raises Forbidden, UnknownConversation,
        InvalidRequest."""
        await self._own(principal, conversation_id)
        count = await self._book.add(conversation_id, ())
        if count + len(items) > MAX_CONVERSATION_ITEMS:
            raise _too_many("items")
        for number, item in enumerate(items):
            item_id = str(item["id"])
            if await self._book.item(conversation_id, item_id) is not None:
                raise repeated_item(item_id, f"items[{number}].id")
        await self._book.add(conversation_id, items, bounds=self._bounds)
        return items

    async def check_room(self, conversation_id: str) -> None:
        """Refuse a response in a conversation that has reached a limit. The one that crosses a
        limit is completed: how long its answer is, is not known before. Raises
        ConversationTooLarge."""
        if (sizes := await self._book.sizes(conversation_id)) is not None:
            self._bounds.check(sizes, "conversation")

    async def items(self, principal: Principal, conversation_id: str, query: ItemQuery) -> ItemPage:
        """Raises Forbidden, UnknownConversation, InvalidRequest."""
        await self.conversation(principal, conversation_id)
        page = await self._book.items(conversation_id, query)
        if page is None:
            raise InvalidRequest(
                f"`after` names no item of the conversation {conversation_id!r}.", param="after"
            )
        return page

    async def all_items(self, principal: Principal, conversation_id: str) -> Sequence[Json]:
        """In their order. Raises Forbidden, UnknownConversation, InvalidRequest."""
        query = ItemQuery(limit=MAX_CONVERSATION_ITEMS, newest_first=False)
        page = await self.items(principal, conversation_id, query)
        if page.has_more:
            raise _too_many("conversation")
        return page.items

    async def item(self, principal: Principal, conversation_id: str, item_id: str) -> Json:
        """Raises Forbidden, UnknownConversation."""
        await self.conversation(principal, conversation_id)
        item = await self._book.item(conversation_id, item_id)
        if item is None:
            raise _unknown_item(conversation_id, item_id)
        return item

    async def remove(
        self, principal: Principal, conversation_id: str, item_id: str
    ) -> Conversation:
        """Take an item out; returns the conversation. Raises Forbidden, UnknownConversation."""
        conversation = await self._own(principal, conversation_id)
        if not await self._book.remove(conversation_id, item_id):
            raise _unknown_item(conversation_id, item_id)
        return conversation

    async def unsettled(self, conversation_id: str) -> tuple[StoredResponse, ...]:
        """The responses whose items the conversation lacks, oldest first."""
        return await self._book.unsettled(conversation_id)

    async def settle(self, response: StoredResponse, items: Sequence[Json]) -> None:
        """Add the items of a response that has ended to its conversation, once."""
        await self._book.add(response.conversation, items, settles=response.id)

    @asynccontextmanager
    async def locked(self, conversation_id: str) -> AsyncIterator[None]:
        """While a response of the conversation is begun: no other one is. Raises
        ConversationLocked."""
        if conversation_id in self._locked:
            raise conversation_locked()
        self._locked.add(conversation_id)
        try:
            if not await self._book.lock(conversation_id):
                raise conversation_locked()
            try:
                yield
            finally:
                await self._unlock(conversation_id)
        finally:
            self._locked.discard(conversation_id)

    async def _unlock(self, conversation_id: str) -> None:
        try:
            await self._book.unlock(conversation_id)
        except StoreFailed as error:  # The lock ends by itself.
            extra = {"conversation": conversation_id, "reason": error.message}
            logger.warning("a conversation stays locked for a moment", extra=extra)

    async def _delete_session(self, key: SessionKey, *, unless_used: bool = False) -> None:
        async def work() -> None:
            if not unless_used or not await self._book.count_of(key):
                await self._catalog.delete(key)

        try:
            await self._queue.exclusive(
                key, work, patience=_PATIENCE, stop=None if unless_used else _DELETED
            )
        except SessionBusy:  # A run goes on there still, whose session then stays.
            logger.warning("the session of a response was not deleted", extra={"session": str(key)})


def after(response: StoredResponse) -> After | None:
    """What a response that follows this one goes on behind; None: this one has no history."""
    if not response.turn_of:
        return None
    return After(response.turn_of, response.session_key, response.one_off)


def conversation_locked() -> ConversationLocked:
    """The error for a conversation whose last response has not ended."""
    return ConversationLocked(
        "Another process is currently operating on this conversation. Please retry in a few "
        "seconds.",
        param="conversation",
    )


def repeated_item(item_id: str, param: str) -> InvalidRequest:
    """The error for an item that is in its conversation already."""
    return InvalidRequest(
        f"Duplicate item found with id {item_id[:100]}. Remove duplicate items from your input and "
        "try again.",
        param=param,
    )


def _require_own(principal: Principal, owner: str) -> None:
    """What is deleted or changed is what somebody has said. Raises Forbidden."""
    if principal.id != owner:
        require(principal, Action.CHANGE_SESSION)


def _sees(principal: Principal, response: StoredResponse) -> bool:
    return may(principal, Action.SEE_RUN, Resource(response.agent_id, response.principal_id))


def _owns(principal: Principal, conversation: Conversation) -> bool:
    """A conversation is of no agent: it has a session with each one that answers in it."""
    return principal.agents is None or principal.id == conversation.principal_id


def _too_many(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"A conversation has at most {MAX_CONVERSATION_ITEMS} items. Begin another one, or delete "
        "items.",
        param=param,
    )


def _unknown_item(conversation_id: str, item_id: str) -> UnknownConversation:
    return UnknownConversation(
        f"Item with id '{item_id[:100]}' not found in conversation '{conversation_id[:100]}'."
    )
