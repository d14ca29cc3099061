"""Where paired devices are kept."""

from __future__ import annotations

from typing import Protocol

from ..access.devices import DeviceState


class DeviceBook(Protocol):
    """Where devices are kept: few of them, always read and written together."""

    async def load(self) -> DeviceState:
        """What was saved last; nothing where nothing was. Raises StoreFailed for what cannot be
        read or understood, and then leaves it as it is."""
        ...

    async def save(self, state: DeviceState) -> None:
        """Replace what is kept, all or nothing. Returns when it is durable: it survives
        `kill -9`. Raises StoreFailed, and then what was kept before is kept still."""
        ...
