"""Responses and conversations in a session store's SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial

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
from ..columns import bounded, column
from .store import SqliteStore

_PUT = """
    INSERT INTO responses (id, session_key, conversation, settled, hidden, created_at, body)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""
_FIND = "SELECT body, settled FROM responses WHERE id = ?"
_DELETE = "DELETE FROM responses WHERE id = ?"
_UNSETTLED = """
    SELECT body, settled FROM responses WHERE conversation = ? AND settled = 0 ORDER BY number"""
_COUNT = "SELECT count(*) FROM responses WHERE session_key = ?"
_PRUNE = """
    DELETE FROM responses WHERE number IN (
        SELECT number FROM responses WHERE settled = 1 AND created_at < ?
        ORDER BY created_at LIMIT ?)"""
_BYTES = "SELECT coalesce(sum(length(body)), 0) FROM responses WHERE settled = 1"
_OLDEST = """
    SELECT number, length(body) FROM responses WHERE settled = 1
    ORDER BY created_at, number LIMIT ?"""
_AT_ONCE = 100
"""Responses that are deleted in one go, so that turns do not wait long behind it."""
_IS_UNSETTLED = "SELECT hidden FROM responses WHERE id = ? AND settled = 0"
_SETTLE = "UPDATE responses SET settled = 1 WHERE id = ?"

_BEGIN = """
    INSERT INTO conversations (id, principal_id, created_at, metadata, bytes)
    VALUES (?1, ?2, ?3, ?4, ?5 + length(?4))"""
_CONVERSATION = "SELECT principal_id, created_at, metadata FROM conversations WHERE id = ?"
_SET_METADATA = """
    UPDATE conversations SET metadata = ?1, bytes = bytes - length(metadata) + length(?1)
    WHERE id = ?2"""
_SIZES = """
    SELECT one.bytes + (
            SELECT coalesce(sum(length(body)), 0) FROM responses
            WHERE settled = 0 AND conversation = one.id),
        (SELECT sum(bytes) FROM conversations WHERE principal_id = one.principal_id) + (
            SELECT coalesce(sum(length(body)), 0)
            FROM responses JOIN conversations ON conversations.id = responses.conversation
            WHERE settled = 0 AND conversations.principal_id = one.principal_id),
        (SELECT sum(bytes) FROM conversations) + (
            SELECT coalesce(sum(length(body)), 0) FROM responses WHERE settled = 0)
    FROM conversations AS one WHERE one.id = ?"""
_END = "DELETE FROM conversations WHERE id = ?"
_ADD = """
    INSERT INTO conversation_items (conversation, id, body)
    SELECT ?1, ?2, ?3 FROM conversations WHERE id = ?1
    ON CONFLICT (conversation, id) DO NOTHING"""
_COUNT_ITEMS = "SELECT count(*) FROM conversation_items WHERE conversation = ?"
_NUMBER = "SELECT number FROM conversation_items WHERE conversation = ? AND id = ?"
_NEWEST = """
    SELECT body FROM conversation_items WHERE conversation = ?1 AND (?2 IS NULL OR number < ?2)
    ORDER BY number DESC LIMIT ?3"""
_FIRST = """
    SELECT body FROM conversation_items WHERE conversation = ?1 AND (?2 IS NULL OR number > ?2)
    ORDER BY number LIMIT ?3"""
_ITEM = "SELECT body FROM conversation_items WHERE conversation = ? AND id = ?"
_REMOVE = "DELETE FROM conversation_items WHERE conversation = ? AND id = ?"


class SqliteResponses:
    """A ResponseBook in the file of a SqliteStore, which opens and closes it."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def put(self, response: StoredResponse) -> None:
        await self._store.write(partial(_put, response=response))

    async def find(self, response_id: str) -> StoredResponse | None:
        return await self._store.read(partial(_find, response_id=response_id))

    async def delete(self, response_id: str) -> bool:
        return await self._store.write(partial(_changes, sql=_DELETE, row=(column(response_id),)))

    async def unsettled(self, conversation_id: str) -> tuple[StoredResponse, ...]:
        return await self._store.read(partial(_unsettled, conversation_id=conversation_id))

    async def lock(self, conversation_id: str) -> bool:
        return True  # There are no other processes.

    async def unlock(self, conversation_id: str) -> None:
        """The same."""

    async def count_of(self, key: SessionKey) -> int:
        return await self._store.read(partial(_count, sql=_COUNT, value=column(str(key))))

    async def prune(self, before: float | None, max_bytes: int) -> int:
        total = 0
        while pruned := await self._store.write(
            partial(_prune, before=before, max_bytes=max_bytes)
        ):
            total += pruned
        return total

    async def begin(
        self,
        conversation: Conversation,
        items: Sequence[Json],
        *,
        bounds: ConversationBounds | None = None,
    ) -> None:
        begin = partial(_begin, conversation=conversation, items=items, bounds=bounds)
        await self._store.write(begin)

    async def conversation(self, conversation_id: str) -> Conversation | None:
        return await self._store.read(partial(_conversation, conversation_id=conversation_id))

    async def sizes(self, conversation_id: str) -> ConversationSizes | None:
        return await self._store.read(partial(_sizes, conversation_id=conversation_id))

    async def set_metadata(
        self,
        conversation_id: str,
        metadata: Mapping[str, str],
        *,
        bounds: ConversationBounds | None = None,
    ) -> bool:
        return await self._store.write(
            partial(
                _set_metadata, conversation_id=conversation_id, metadata=metadata, bounds=bounds
            )
        )

    async def end(self, conversation_id: str) -> bool:
        return await self._store.write(partial(_changes, sql=_END, row=(column(conversation_id),)))

    async def add(
        self,
        conversation_id: str,
        items: Sequence[Json],
        *,
        settles: str | None = None,
        bounds: ConversationBounds | None = None,
    ) -> int:
        return await self._store.write(
            partial(
                _add,
                conversation_id=conversation_id,
                items=items,
                settles=settles,
                bounds=bounds,
            )
        )

    async def items(self, conversation_id: str, query: ItemQuery) -> ItemPage | None:
        return await self._store.read(partial(_items, conversation_id=conversation_id, query=query))

    async def item(self, conversation_id: str, item_id: str) -> Json | None:
        return await self._store.read(
            partial(_item, row=(column(conversation_id), column(item_id)))
        )

    async def remove(self, conversation_id: str, item_id: str) -> bool:
        row = column(conversation_id), column(item_id)
        return await self._store.write(partial(_changes, sql=_REMOVE, row=row))


def _changes(connection: sqlite3.Connection, sql: str, row: tuple[object, ...]) -> bool:
    return connection.execute(sql, row).rowcount > 0


def _count(connection: sqlite3.Connection, sql: str, value: object) -> int:
    (count,) = connection.execute(sql, (value,)).fetchone()
    return int(count)


def _put(connection: sqlite3.Connection, response: StoredResponse) -> None:
    row = (
        column(response.id),
        column(str(response.session_key)),
        column(response.conversation),
        int(response.settled),
        int(response.hidden),
        response.created_at,
        encode_response(response),
    )
    connection.execute(_PUT, row)


def _find(connection: sqlite3.Connection, response_id: str) -> StoredResponse | None:
    row = connection.execute(_FIND, (column(response_id),)).fetchone()
    return None if row is None else decode_response(row[0], settled=bool(row[1]))


def _unsettled(connection: sqlite3.Connection, conversation_id: str) -> tuple[StoredResponse, ...]:
    rows = connection.execute(_UNSETTLED, (column(conversation_id),)).fetchall()
    return tuple(decode_response(body, settled=bool(settled)) for body, settled in rows)


def _prune(connection: sqlite3.Connection, before: float | None, max_bytes: int) -> int:
    """Deletes some of those that are too old, or else some that are too much."""
    if before is not None:
        pruned = connection.execute(_PRUNE, (before, _AT_ONCE)).rowcount
        if pruned:
            return pruned
    excess = connection.execute(_BYTES).fetchone()[0] - max_bytes
    rows = connection.execute(_OLDEST, (_AT_ONCE,)).fetchall() if excess > 0 else []
    pruned = 0
    for number, size in rows:
        if excess <= 0:
            break
        connection.execute("DELETE FROM responses WHERE number = ?", (number,))
        pruned, excess = pruned + 1, excess - size
    return pruned


def _begin(
    connection: sqlite3.Connection,
    conversation: Conversation,
    items: Sequence[Json],
    bounds: ConversationBounds | None,
) -> None:
    row = (
        column(conversation.id),
        column(conversation.principal_id),
        conversation.created_at,
        encode_json(dict(conversation.metadata)),
        CONVERSATION_BYTES,
    )
    connection.execute(_BEGIN, row)
    _add(connection, conversation.id, items, None)
    _check(connection, conversation.id, bounds, "items" if items else None)


def _sizes(connection: sqlite3.Connection, conversation_id: str) -> ConversationSizes | None:
    row = connection.execute(_SIZES, (column(conversation_id),)).fetchone()
    return None if row is None else ConversationSizes(*row)


def _check(
    connection: sqlite3.Connection,
    conversation_id: str,
    bounds: ConversationBounds | None,
    param: str | None,
) -> None:
    """Behind a change, which the error undoes. Raises ConversationTooLarge."""
    if bounds is not None and (sizes := _sizes(connection, conversation_id)) is not None:
        bounds.check(sizes, param)


def _set_metadata(
    connection: sqlite3.Connection,
    conversation_id: str,
    metadata: Mapping[str, str],
    bounds: ConversationBounds | None,
) -> bool:
    row = encode_json(dict(metadata)), column(conversation_id)
    changed = _changes(connection, _SET_METADATA, row)
    _check(connection, conversation_id, bounds, "metadata")
    return changed


def _conversation(connection: sqlite3.Connection, conversation_id: str) -> Conversation | None:
    row = connection.execute(_CONVERSATION, (column(conversation_id),)).fetchone()
    if row is None:
        return None
    principal_id, created_at, metadata = row
    return Conversation(
        conversation_id, text(principal_id), created_at, decode_json(metadata, dict)
    )


def _add(
    connection: sqlite3.Connection,
    conversation_id: str,
    items: Sequence[Json],
    settles: str | None,
    bounds: ConversationBounds | None = None,
) -> int:
    conversation = column(conversation_id)
    if settles is not None:
        row = connection.execute(_IS_UNSETTLED, (column(settles),)).fetchone()
        if row is None:
            items = ()
        else:
            connection.execute(_DELETE if row[0] else _SETTLE, (column(settles),))
    for item in items:
        connection.execute(_ADD, (conversation, column(str(item["id"])), encode_json(dict(item))))
    _check(connection, conversation_id, bounds, "items")
    return _count(connection, _COUNT_ITEMS, conversation)


def _items(
    connection: sqlite3.Connection, conversation_id: str, query: ItemQuery
) -> ItemPage | None:
    conversation, number = column(conversation_id), None
    if query.after is not None:
        row = connection.execute(_NUMBER, (conversation, column(query.after))).fetchone()
        if row is None:
            return None
        (number,) = row
    sql = _NEWEST if query.newest_first else _FIRST
    rows = connection.execute(sql, (conversation, number, bounded(query.limit + 1))).fetchall()
    items = tuple(decode_json(body, dict) for (body,) in rows[: query.limit])
    return ItemPage(items, len(rows) > len(items))


def _item(connection: sqlite3.Connection, row: tuple[object, ...]) -> Json | None:
    found = connection.execute(_ITEM, row).fetchone()
    return None if found is None else decode_json(found[0], dict)
