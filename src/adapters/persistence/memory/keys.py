"""API keys and their usage, in this process's memory."""

from __future__ import annotations

from collections.abc import Sequence

from ....domain.api_keys import ApiKey, KeyUsage


class MemoryKeys:
    """A KeyBook in memory."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._usage: dict[tuple[str, str], KeyUsage] = {}

    async def load(self) -> tuple[ApiKey, ...]:
        return tuple(self._keys.values())

    async def newer(self) -> tuple[ApiKey, ...] | None:
        return None

    async def save(self, key: ApiKey) -> bool:
        self._keys[key.id] = key
        return True

    async def usage(self, since: str) -> tuple[KeyUsage, ...]:
        rows = [row for row in self._usage.values() if row.day >= since]
        return tuple(sorted(rows, key=lambda row: (row.day, row.key_id)))

    async def usage_of(self, key_id: str, since: str) -> tuple[KeyUsage, ...]:
        return tuple(row for row in await self.usage(since) if row.key_id == key_id)

    async def add_usage(self, rows: Sequence[KeyUsage]) -> tuple[KeyUsage, ...]:
        return tuple(map(self._add, rows))

    def _add(self, row: KeyUsage) -> KeyUsage:
        before = self._usage.get((row.key_id, row.day))
        total = row if before is None else before.plus(row)
        self._usage[row.key_id, row.day] = total
        return total

    async def close(self) -> None:
        """Nothing is open."""
