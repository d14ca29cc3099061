"""Responses and conversations in PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from .....domain.responses import (
    CONVERSATION_BYTES,
    Conversation,
    ConversationBounds,
    ConversationSizes,
    ItemPage,
    ItemQuery,
    Json,
    StoredResponse,
)
from .....domain.sessions import SessionKey
from ...common import decode_json, decode_response, encode_json, encode_response, text
from ..columns import bounded, data
from ..database import Connection, Database, fetch_all, fetch_one
from .turns import one_value

_PUT = """
    INSERT INTO responses (id, session_key, conversation, settled, hidden, created_at, size, body)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING"""
_FIND = "SELECT body, settled FROM responses WHERE id = %s"
_DELETE = "DELETE FROM responses WHERE id = %s"
_UNSETTLED = """
    SELECT body, settled FROM responses WHERE conversation = %s AND NOT settled ORDER BY number"""
_LOCK_SECONDS = 30.0
"""After that long the lock of a process ends by itself. It lasts until a run is accepted."""
_TAKE_LOCK = """
    INSERT INTO conversation_locks AS known VALUES (%s, %s, server_now() + %s)
    ON CONFLICT (conversation) DO UPDATE SET holder = excluded.holder, until = excluded.until
        WHERE known.until < server_now() OR known.holder = excluded.holder
    RETURNING true"""
_END_LOCK = "DELETE FROM conversation_locks WHERE conversation = %s AND holder = %s"
_COUNT = "SELECT count(*) FROM responses WHERE session_key = %s"
_AT_ONCE = 100
"""Responses deleted in one transaction, so that turns do not wait long behind it."""
_EXPIRED = """
    DELETE FROM responses WHERE number IN (
        SELECT number FROM responses WHERE settled AND created_at < %s
        ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED)"""
# The oldest of them, before which less than the excess is freed.
_EXCESS = """
    DELETE FROM responses WHERE number IN (
        SELECT number FROM (
            SELECT number, sum(size) OVER (ORDER BY created_at, number) - size AS before FROM (
                SELECT number, size, created_at FROM responses WHERE settled
                ORDER BY created_at, number LIMIT %s FOR UPDATE SKIP LOCKED
            ) AS oldest
        ) AS sized
        WHERE before < (SELECT coalesce(sum(size), 0) FROM responses WHERE settled) - %s)"""
_IS_UNSETTLED = "SELECT hidden FROM responses WHERE id = %s AND NOT settled FOR UPDATE"
_SETTLE = "UPDATE responses SET settled = true WHERE id = %s"

_BEGIN = """
    INSERT INTO conversations (id, principal_id, created_at, metadata, bytes)
    VALUES (%s, %s, %s, %s, %s + octet_length(%s::bytea))"""
_CONVERSATION = "SELECT principal_id, created_at, metadata FROM conversations WHERE id = %s"
_LOCK = "SELECT 1 FROM conversations WHERE id = %s FOR UPDATE"
_SET_METADATA = """
    UPDATE conversations SET metadata = %(metadata)s,
        bytes = bytes - octet_length(metadata) + octet_length(%(metadata)s::bytea)
    WHERE id = %(id)s"""
# Whoever checks the bounds waits for the others that do, or all of them would find room.
_ONE_BY_ONE = """
    SELECT pg_advisory_xact_lock(
        hashtextextended('opensoul conversations ' || current_schema(), 0))"""
_SIZES = """
    SELECT (one.bytes + (
            SELECT coalesce(sum(size), 0) FROM responses
            WHERE NOT settled AND conversation = one.id))::bigint,
        ((SELECT sum(bytes) FROM conversations WHERE principal_id = one.principal_id) + (
            SELECT coalesce(sum(size), 0)
            FROM responses JOIN conversations ON conversations.id = responses.conversation
            WHERE NOT settled AND conversations.principal_id = one.principal_id))::bigint,
        ((SELECT sum(bytes) FROM conversations) + (
            SELECT coalesce(sum(size), 0) FROM responses WHERE NOT settled))::bigint
    FROM conversations AS one WHERE one.id = %s"""
_END = "DELETE FROM conversations WHERE id = %s"
_ADD = """
    INSERT INTO conversation_items (conversation, id, body)
    SELECT %s::bytea, id, body
    FROM unnest(%s::bytea[], %s::bytea[]) WITH ORDINALITY AS item (id, body, position)
    ORDER BY position ON CONFLICT (conversation, id) DO NOTHING"""
_COUNT_ITEMS = "SELECT count(*) FROM conversation_items WHERE conversation = %s"
_NUMBER = "SELECT number FROM conversation_items WHERE conversation = %s AND id = %s"
_NEWEST = """
    SELECT body FROM conversation_items
    WHERE conversation = %(conversation)s AND number < coalesce(%(number)s, 9223372036854775807)
    ORDER BY number DESC LIMIT %(limit)s"""
_FIRST = """
    SELECT body FROM conversation_items
    WHERE conversation = %(conversation)s AND number > coalesce(%(number)s, 0)
    ORDER BY number LIMIT %(limit)s"""
_ITEM = "SELECT body FROM conversation_items WHERE conversation = %s AND id = %s"
_REMOVE = "DELETE FROM conversation_items WHERE conversation = %s AND id = %s"


class PostgresResponses:
    """A ResponseBook in a Database, which others open and close."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._holder = secrets.token_hex(16)
        """Names this process as the holder of locks."""

    async def put(self, response: StoredResponse) -> None:
        body = encode_response(response)
        row = (
            data(response.id),
            data(str(response.session_key)),
            data(response.conversation),
            response.settled,
            response.hidden,
            response.created_at,
            len(body),
            body,
        )
        await self._database.execute(_PUT, row)

    async def find(self, response_id: str) -> StoredResponse | None:
        found = await self._responses(_FIND, response_id)
        return found[0] if found else None

    async def delete(self, response_id: str) -> bool:
        return await self._changes(_DELETE, data(response_id))

    async def unsettled(self, conversation_id: str) -> tuple[StoredResponse, ...]:
        return await self._responses(_UNSETTLED, conversation_id)

    async def lock(self, conversation_id: str) -> bool:
        values = (data(conversation_id), self._holder, _LOCK_SECONDS)
        return await self._database.row(_TAKE_LOCK, values) is not None

    async def unlock(self, conversation_id: str) -> None:
        await self._database.execute(_END_LOCK, (data(conversation_id), self._holder))

    async def count_of(self, key: SessionKey) -> int:
        return int(one_value(await self._database.row(_COUNT, (data(str(key)),))))

    async def prune(self, before: float | None, max_bytes: int) -> int:
        total = 0
        if before is not None:
            total += await self._prune(_EXPIRED, (before, _AT_ONCE))
        return total + await self._prune(_EXCESS, (_AT_ONCE, bounded(max_bytes)))

    async def begin(
        self,
        conversation: Conversation,
        items: Sequence[Json],
        *,
        bounds: ConversationBounds | None = None,
    ) -> None:
        begin = partial(_begin, conversation=conversation, items=items, bounds=bounds)
        await self._database.change(begin)

    async def sizes(self, conversation_id: str) -> ConversationSizes | None:
        sizes = partial(_sizes, conversation_id=conversation_id)
        return await self._database.run(sizes, repeat=True)

    async def conversation(self, conversation_id: str) -> Conversation | None:
        async def find(connection: Connection) -> Conversation | None:
            row = await fetch_one(connection, _CONVERSATION, (data(conversation_id),))
            if row is None:
                return None
            metadata = decode_json(row[2], dict)
            return Conversation(conversation_id, text(row[0]), row[1], metadata)

        return await self._database.run(find, repeat=True)

    async def set_metadata(
        self,
        conversation_id: str,
        metadata: Mapping[str, str],
        *,
        bounds: ConversationBounds | None = None,
    ) -> bool:
        values = {"id": data(conversation_id), "metadata": encode_json(dict(metadata))}

        async def change(connection: Connection) -> bool:
            if bounds is not None:
                await connection.execute(_ONE_BY_ONE)
            changed = (await connection.execute(_SET_METADATA, values)).rowcount > 0
            await _check(connection, conversation_id, bounds, "metadata")
            return changed

        return await self._database.change(change)

    async def end(self, conversation_id: str) -> bool:
        return await self._changes(_END, data(conversation_id))

    async def add(
        self,
        conversation_id: str,
        items: Sequence[Json],
        *,
        settles: str | None = None,
        bounds: ConversationBounds | None = None,
    ) -> int:
        add = partial(
            _add, conversation_id=conversation_id, items=items, settles=settles, bounds=bounds
        )
        # Without `settles` the ids of the items make a repetition harmless, too.
        return await self._database.change(add, repeat=settles is None)

    async def items(self, conversation_id: str, query: ItemQuery) -> ItemPage | None:
        return await self._database.snapshot(
            partial(_items, conversation_id=conversation_id, query=query)
        )

    async def item(self, conversation_id: str, item_id: str) -> Json | None:
        async def find(connection: Connection) -> Json | None:
            row = await fetch_one(connection, _ITEM, (data(conversation_id), data(item_id)))
            return None if row is None else decode_json(row[0], dict)

        return await self._database.run(find, repeat=True)

    async def remove(self, conversation_id: str, item_id: str) -> bool:
        return await self._changes(_REMOVE, data(conversation_id), data(item_id))

    async def _changes(self, statement: str, *row: object) -> bool:
        return await self._database.execute(statement, row, repeat=False) > 0

    async def _prune(self, statement: str, values: tuple[object, ...]) -> int:
        total = 0
        while pruned := await self._database.execute(statement, values):
            total += pruned
        return total

    async def _responses(self, query: str, name: str) -> tuple[StoredResponse, ...]:
        async def find(connection: Connection) -> tuple[StoredResponse, ...]:
            rows = await fetch_all(connection, query, (data(name),))
            return tuple(decode_response(body, settled=settled) for body, settled in rows)

        return await self._database.run(find, repeat=True)


async def _begin(
    connection: Connection,
    conversation: Conversation,
    items: Sequence[Json],
    bounds: ConversationBounds | None,
) -> None:
    if bounds is not None:
        await connection.execute(_ONE_BY_ONE)
    metadata = encode_json(dict(conversation.metadata))
    row = (
        data(conversation.id),
        data(conversation.principal_id),
        conversation.created_at,
        metadata,
        CONVERSATION_BYTES,
        metadata,
    )
    await connection.execute(_BEGIN, row)
    await _add(connection, conversation.id, items, None)
    await _check(connection, conversation.id, bounds, "items" if items else None)


async def _sizes(connection: Connection, conversation_id: str) -> ConversationSizes | None:
    row = await fetch_one(connection, _SIZES, (data(conversation_id),))
    return None if row is None else ConversationSizes(*row)


async def _check(
    connection: Connection,
    conversation_id: str,
    bounds: ConversationBounds | None,
    param: str | None,
) -> None:
    """Behind a change, which the error undoes. Raises ConversationTooLarge."""
    if bounds is not None and (sizes := await _sizes(connection, conversation_id)) is not None:
        bounds.check(sizes, param)


async def _add(
    connection: Connection,
    conversation_id: str,
    items: Sequence[Json],
    settles: str | None,
    bounds: ConversationBounds | None = None,
) -> int:
    if bounds is not None:
        await connection.execute(_ONE_BY_ONE)
    conversation = data(conversation_id)
    known = await fetch_one(connection, _LOCK, (conversation,))
    if settles is not None:
        row = await fetch_one(connection, _IS_UNSETTLED, (data(settles),))
        if row is None:
            items = ()
        else:
            await connection.execute(_DELETE if row[0] else _SETTLE, (data(settles),))
    if known is not None and items:
        ids = [data(str(item["id"])) for item in items]
        bodies = [encode_json(dict(item)) for item in items]
        await connection.execute(_ADD, (conversation, ids, bodies))
    await _check(connection, conversation_id, bounds, "items")
    return int(one_value(await fetch_one(connection, _COUNT_ITEMS, (conversation,))))


async def _items(connection: Connection, conversation_id: str, query: ItemQuery) -> ItemPage | None:
    conversation, number = data(conversation_id), None
    if query.after is not None:
        row = await fetch_one(connection, _NUMBER, (conversation, data(query.after)))
        if row is None:
            return None
        number = row[0]
    values: dict[str, Any] = {
        "conversation": conversation,
        "number": number,
        "limit": bounded(query.limit + 1),
    }
    rows = await fetch_all(connection, _NEWEST if query.newest_first else _FIRST, values)
    items = tuple(decode_json(body, dict) for (body,) in rows[: query.limit])
    return ItemPage(items, len(rows) > len(items))
