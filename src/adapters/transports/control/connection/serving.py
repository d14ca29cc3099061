"""The life of one connection: reading, writing, and whatever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from quart import websocket

from .....domain.services import CHANGED, Gateway
from ...http.deadline import ReusableDeadline
from ..protocol import UnknownProperties
from .calls import Handlers
from .connection import RESTART, Connection
from .dispatcher import Requests

WRITE_SECONDS = 60.0
"""How long a client may take nothing while something waits for it."""
LAST_SECONDS = 2.0
"""What a client gets to take what is left for it, when the Gateway stops."""


class Served(Protocol):
    """What a connection needs while it lives."""

    @property
    def gateway(self) -> Gateway: ...

    @property
    def handlers(self) -> Callable[[], Handlers]: ...

    @property
    def unknown(self) -> UnknownProperties: ...


async def serve(
    connection: Connection, parts: Served, taken: Callable[[], bool]
) -> tuple[int, str]:
    """Serve until the connection is to be closed; the code and reason for that. `taken` is called
    for each message, right before its request is charged for it; False: it was cut.

    Cancelled when the client leaves.
    """
    requests = Requests(connection, parts.handlers(), parts.gateway.in_flight, parts.unknown)
    tasks = [
        asyncio.create_task(_write(connection)),
        asyncio.create_task(_read(connection, requests, parts.gateway, taken)),
        asyncio.create_task(_overflow(connection)),
    ]
    try:
        closing = asyncio.ensure_future(connection.closed())
        tasks.append(closing)  # type: ignore[arg-type]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {closing}:
            task.result()  # Only an error ends the others.
        code, reason = await closing
        if code == RESTART:
            await _last_words(connection, requests, tasks[0])
        return code, reason
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await requests.stop()


async def _write(connection: Connection) -> None:
    """Send what waits. Who takes nothing for too long is no longer waited for."""
    patience = ReusableDeadline(WRITE_SECONDS, lambda: connection.close(1008, "slow consumer"))
    try:
        while frame := await connection.outbox.take():
            patience.arm()
            await websocket.send(frame)
            patience.disarm()
    finally:
        patience.stop()


async def _last_words(
    connection: Connection, requests: Requests, writing: asyncio.Task[None]
) -> None:
    """Let what was asked for be answered and sent: the runs have ended, so it is soon done."""
    deadline = asyncio.get_running_loop().time() + LAST_SECONDS
    await requests.done(LAST_SECONDS)
    connection.outbox.finish()
    await asyncio.wait({writing}, timeout=deadline - asyncio.get_running_loop().time())


async def _read(
    connection: Connection, requests: Requests, gateway: Gateway, taken: Callable[[], bool]
) -> None:
    while True:
        message = await websocket.receive()
        is_whole = taken()
        if not gateway.access.stands(connection.principal):
            # The check after a change of the configuration may not have come to it yet.
            connection.close(4001, CHANGED)
        if connection.is_closing:
            return
        if is_whole:
            await requests.take(message)
        else:
            requests.refuse(message)
        del message  # The next one may not come for days.


async def _overflow(connection: Connection) -> None:
    await connection.outbox.overflow.wait()
    connection.close(1008, "slow consumer")
