"""The loop of one connection: reading, writing and closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from quart import websocket

from .....domain.services import CHANGED, Access
from ...http.deadline import ReusableDeadline
from .connection import RESTART, Connection
from .dispatcher import Requests

WRITE_SECONDS = 60.0
"""Seconds that sending one frame may take before the client counts as too slow."""
LAST_SECONDS = 2.0
"""Seconds for the last responses when the Gateway stops."""


async def serve(
    connection: Connection, requests: Requests, access: Access, taken: Callable[[], bool]
) -> tuple[int, str]:
    """Serve a connection until it is to be closed; returns the close code and reason.

    `taken` is called for each message, right before its request is charged; False if the message
    was truncated. The call is cancelled when the client disconnects.
    """
    tasks = [
        asyncio.create_task(_write(connection)),
        asyncio.create_task(_read(connection, requests, access, taken)),
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
            await _drain(connection, requests, tasks[0])
        return code, reason
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await requests.stop()


async def _write(connection: Connection) -> None:
    """Send the queued frames; close the connection if sending one takes too long."""
    deadline = ReusableDeadline(WRITE_SECONDS, lambda: connection.close(1008, "slow consumer"))
    try:
        while frame := await connection.outbox.take():
            deadline.arm()
            await websocket.send(frame)
            deadline.disarm()
    finally:
        deadline.stop()


async def _drain(connection: Connection, requests: Requests, writing: asyncio.Task[None]) -> None:
    """Send the remaining responses. The runs have ended, so these are available soon."""
    deadline = asyncio.get_running_loop().time() + LAST_SECONDS
    await requests.done(LAST_SECONDS)
    connection.outbox.finish()
    await asyncio.wait({writing}, timeout=deadline - asyncio.get_running_loop().time())


async def _read(
    connection: Connection, requests: Requests, access: Access, taken: Callable[[], bool]
) -> None:
    while True:
        message = await websocket.receive()
        is_whole = taken()
        if not access.stands(connection.principal):
            # The check after a change of the configuration may not have come to it yet.
            connection.close(4001, CHANGED)
        if connection.is_closing:
            return
        if is_whole:
            await requests.take(message)
        else:
            requests.refuse(message)
        del message  # Otherwise kept in memory until the next one arrives.


async def _overflow(connection: Connection) -> None:
    await connection.outbox.overflow.wait()
    connection.close(1008, "slow consumer")
