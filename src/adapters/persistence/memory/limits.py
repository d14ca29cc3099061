"""Wrong credentials, counted in this process's memory."""

from __future__ import annotations

from collections.abc import Iterable

from ....domain.access import Lockout
from ....domain.ports import Clock
from ....domain.settings import LockoutSettings


class MemoryLimits:
    """Limits of one process. `steady` never jumps."""

    def __init__(self, steady: Clock) -> None:
        self._lockout = Lockout(steady)

    async def check(self, address: str) -> None:
        self._lockout.check(address)

    async def failed(
        self, address: str, limits: LockoutSettings, credential: Iterable[bytes | None]
    ) -> bool:
        return self._lockout.failed(address, limits, credential)

    async def succeeded(self, address: str) -> None:
        self._lockout.succeeded(address)

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._lockout)
