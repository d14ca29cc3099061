"""Approvals in a session store's SQLite database."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from functools import partial
from typing import Any

from .....domain.tools import Approval, Decision, StandingApproval, standing_of
from ...common import DamageLog, Undecodable, decode_approval, encode_approval, text
from ..columns import column
from .store import SqliteStore

_COLUMNS = "id, run_id, created_at, expires_at, body, decision, decided_by, decided_at"
_FIND = f"SELECT {_COLUMNS} FROM approvals WHERE id = ?"  # noqa: S608 - no values in it
_PENDING = f"""
    SELECT {_COLUMNS} FROM approvals WHERE decision IS NULL AND (:run IS NULL OR run_id = :run)
    ORDER BY created_at, id"""  # noqa: S608 - the same
_INSERT = """
    INSERT INTO approvals (id, run_id, created_at, expires_at, body)
    VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""
_ALWAYS = "SELECT granted_by FROM always_allowed WHERE subject = ?"
_ALLOW_ALWAYS = """
    INSERT INTO always_allowed (subject, granted_by, granted_at, body) VALUES (?, ?, ?, ?)
    ON CONFLICT (subject) DO NOTHING"""
_STANDING = """
    SELECT granted_by, granted_at, body FROM always_allowed ORDER BY granted_at, subject"""
_REVOKE = "DELETE FROM always_allowed WHERE subject = ?"
_DECIDE = """
    UPDATE approvals SET decision = ?, decided_by = ?, decided_at = ?
    WHERE id = ? AND decision IS NULL"""
_PRUNE = "DELETE FROM approvals WHERE expires_at < ? AND decided_at < ?"


class SqliteApprovals:
    """An ApprovalBook in the file of a SqliteStore, which opens and closes it."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._damage = DamageLog()

    async def add(self, approval: Approval) -> Approval:
        return await self._store.write(partial(_add, approval=approval))

    async def find(self, approval_id: str) -> Approval | None:
        return await self._store.read(partial(_find, approval_id=approval_id))

    async def pending(self, run_id: str | None = None) -> tuple[Approval, ...]:
        """A damaged one is logged and left out."""
        return await self._store.read(partial(_pending, run_id=run_id, damage=self._damage))

    async def decide(
        self, approval_id: str, decision: Decision, *, by: str, at: float
    ) -> Approval | None:
        decide = partial(_decide, approval_id=approval_id, decision=decision, by=by, at=at)
        return await self._store.write(decide)

    async def standing(self) -> tuple[StandingApproval, ...]:
        return await self._store.read(_standing)

    async def revoke(self, standing_id: str) -> bool:
        return await self._store.write(partial(_revoke, standing_id=standing_id))

    async def prune(self, before: float) -> int:
        return await self._store.write(partial(_prune, before=before))


def _add(connection: sqlite3.Connection, approval: Approval) -> Approval:
    row = (
        column(approval.id),
        column(approval.run_id),
        approval.created_at,
        approval.expires_at,
        encode_approval(approval),
    )
    added = connection.execute(_INSERT, row).rowcount
    granted = connection.execute(_ALWAYS, (approval.subject,)).fetchone() if added else None
    if granted is not None:
        decision = (Decision.ALLOW_ALWAYS.value, granted[0], approval.created_at)
        connection.execute(_DECIDE, (*decision, column(approval.id)))
    return _find(connection, approval.id) or approval


def _find(connection: sqlite3.Connection, approval_id: str) -> Approval | None:
    row = connection.execute(_FIND, (column(approval_id),)).fetchone()
    return None if row is None else _approval(row)


def _pending(
    connection: sqlite3.Connection, run_id: str | None, damage: DamageLog
) -> tuple[Approval, ...]:
    run = None if run_id is None else column(run_id)
    approvals = []
    for row in connection.execute(_PENDING, {"run": run}).fetchall():
        try:
            approvals.append(_approval(row))
        except Undecodable as error:
            damage.note(f"approval {row[0]!r}", "body", str(error))
    return tuple(approvals)


def _decide(
    connection: sqlite3.Connection, approval_id: str, decision: Decision, by: str, at: float
) -> Approval | None:
    approval = _find(connection, approval_id)
    if approval is None or approval.decision is not None:
        return approval
    if at >= approval.expires_at:
        decision, by = Decision.EXPIRED, ""
    connection.execute(_DECIDE, (decision.value, column(by), at, column(approval_id)))
    if decision is Decision.ALLOW_ALWAYS:
        row = (approval.subject, column(by), at, encode_approval(approval))
        connection.execute(_ALLOW_ALWAYS, row)
    return replace(approval, decision=decision, decided_by=by, decided_at=at)


def _standing(connection: sqlite3.Connection) -> tuple[StandingApproval, ...]:
    return tuple(
        standing_of(decode_approval(body, "", "", 0.0, 0.0), text(by), at)
        for by, at, body in connection.execute(_STANDING).fetchall()
    )


def _revoke(connection: sqlite3.Connection, standing_id: str) -> bool:
    return connection.execute(_REVOKE, (column(standing_id),)).rowcount > 0


def _prune(connection: sqlite3.Connection, before: float) -> int:
    """Those whose decision a Run may still have to read stay."""
    return connection.execute(_PRUNE, (before, before)).rowcount


def _approval(row: tuple[Any, ...]) -> Approval:
    approval_id, run_id, created_at, expires_at, body, decision, by, decided_at = row
    approval = decode_approval(body, text(approval_id), text(run_id), created_at, expires_at)
    if decision is None:
        return approval
    try:
        decided = Decision(decision)
    except ValueError as error:
        raise Undecodable(f"a stored approval has the unknown decision {decision!r}") from error
    return replace(approval, decision=decided, decided_by=text(by), decided_at=decided_at)
