"""Approvals in PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from .....domain.tools import Approval, Decision, StandingApproval, standing_of
from ...common import DamageLog, Undecodable, decode_approval, encode_approval, text
from ..columns import data, optional_data
from ..database import Connection, Database, fetch_one

_COLUMNS = "id, run_id, created_at, expires_at, body, decision, decided_by, decided_at"
_FIND = f"SELECT {_COLUMNS} FROM approvals WHERE id = %s"  # noqa: S608 - no values in it
_LOCK = f"{_FIND} FOR UPDATE"
_PENDING = f"""
    SELECT {_COLUMNS} FROM approvals
    WHERE decision IS NULL AND (%(run)s::bytea IS NULL OR run_id = %(run)s::bytea)
    ORDER BY created_at, id"""  # noqa: S608 - the same
_INSERT = """
    INSERT INTO approvals
    SELECT %(id)s, %(run)s, %(at)s, %(expires)s, %(body)s, granted.decision, granted.granted_by,
           granted.at
    FROM (VALUES (1)) AS one LEFT JOIN (
        SELECT 'allow-always' AS decision, granted_by, %(at)s::float8 AS at FROM always_allowed
        WHERE subject = %(subject)s
    ) AS granted ON true
    ON CONFLICT (id) DO NOTHING"""
_ALLOW_ALWAYS = """
    INSERT INTO always_allowed (subject, granted_by, granted_at, body) VALUES (%s, %s, %s, %s)
    ON CONFLICT (subject) DO NOTHING"""
_STANDING = "SELECT granted_by, granted_at, body FROM always_allowed ORDER BY granted_at, subject"
_REVOKE = "DELETE FROM always_allowed WHERE subject = %s"
_DECIDE = "UPDATE approvals SET decision = %s, decided_by = %s, decided_at = %s WHERE id = %s"
_PRUNE = "DELETE FROM approvals WHERE expires_at < %(before)s AND decided_at < %(before)s"


class PostgresApprovals:
    """An ApprovalBook in a Database, which others open and close."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._damage = DamageLog()

    async def add(self, approval: Approval) -> Approval:
        return await self._database.change(partial(_add, approval=approval), repeat=True)

    async def find(self, approval_id: str) -> Approval | None:
        return await self._database.run(partial(_find, approval_id=approval_id), repeat=True)

    async def pending(self, run_id: str | None = None) -> tuple[Approval, ...]:
        """One that cannot be read is logged and left out."""
        rows = await self._database.rows(_PENDING, {"run": optional_data(run_id)})
        approvals = []
        for row in rows:
            try:
                approvals.append(_approval(row))
            except Undecodable as error:
                self._damage.note(f"approval {row[0]!r}", "body", str(error))
        return tuple(approvals)

    async def decide(
        self, approval_id: str, decision: Decision, *, by: str, at: float
    ) -> Approval | None:
        decide = partial(_decide, approval_id=approval_id, decision=decision, by=by, at=at)
        return await self._database.change(decide, repeat=True)

    async def standing(self) -> tuple[StandingApproval, ...]:
        async def standing(connection: Connection) -> tuple[StandingApproval, ...]:
            cursor = await connection.execute(_STANDING, binary=True)
            return tuple(
                standing_of(decode_approval(body, "", "", 0.0, 0.0), text(by), at)
                for by, at, body in await cursor.fetchall()
            )

        return await self._database.run(standing, repeat=True)

    async def revoke(self, standing_id: str) -> bool:
        return await self._database.execute(_REVOKE, (data(standing_id),), repeat=False) > 0

    async def prune(self, before: float) -> int:
        """Those whose decision a Run may still have to read stay."""
        return await self._database.execute(_PRUNE, {"before": before})


async def _add(connection: Connection, approval: Approval) -> Approval:
    row = {
        "id": data(approval.id),
        "run": data(approval.run_id),
        "at": float(approval.created_at),
        "expires": float(approval.expires_at),
        "body": encode_approval(approval),
        "subject": data(approval.subject),
    }
    await connection.execute(_INSERT, row)
    return await _find(connection, approval.id) or approval


async def _find(connection: Connection, approval_id: str) -> Approval | None:
    row = await fetch_one(connection, _FIND, (data(approval_id),))
    return None if row is None else _approval(row)


async def _decide(
    connection: Connection, approval_id: str, decision: Decision, by: str, at: float
) -> Approval | None:
    row = await fetch_one(connection, _LOCK, (data(approval_id),))
    approval = None if row is None else _approval(row)
    if approval is None or approval.decision is not None:
        return approval
    if at >= approval.expires_at:
        decision, by = Decision.EXPIRED, ""
    await connection.execute(_DECIDE, (decision.value, data(by), at, data(approval_id)))
    if decision is Decision.ALLOW_ALWAYS:
        granted = (data(approval.subject), data(by), at, encode_approval(approval))
        await connection.execute(_ALLOW_ALWAYS, granted)
    return replace(approval, decision=decision, decided_by=by, decided_at=at)


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
