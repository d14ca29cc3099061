"""Bells: hints between processes that something has changed, by LISTEN and NOTIFY.

A bell may be lost; who relies on one looks into the database now and then. It rings after the
commit, in a transaction of its own that does not wait for the disk: a NOTIFY holds a lock of the
whole database until its transaction is on the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import zlib
from collections.abc import Callable

from psycopg import AsyncConnection, Error, Notify
from psycopg import sql as quoted

from .....domain.errors import StoreFailed
from ..database import Database
from ..opening import connection_string

logger = logging.getLogger(__name__)

CHANNELS = 256
"""Sessions are hashed to so many channels."""
_RING = """
    SELECT pg_notify(bell.channel, bell.payload)
    FROM set_config('synchronous_commit', 'off', true),
        unnest(%s::text[], %s::text[]) AS bell (channel, payload)"""
_RETRY_AFTER = 0.5
_MOST_RINGING = 10_000
_WINDOW = 0.02
JOINED = "nodes"
"""Rings when a process has joined."""
READY = "ready"
"""Rings when a Run is to be claimed."""

Heard = Callable[[str], None]


def channel_of(session_key: bytes) -> int:
    return zlib.crc32(session_key) % CHANNELS


def session_channel(number: int) -> str:
    return f"s{number}"


def owner_channel(owner: str) -> str:
    return f"n{hashlib.sha256(owner.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


class Bells:
    """Rings and listens. `listen_url`: an address of the server itself, where that of the database
    is a pooler's, which has no LISTEN.

    Names of channels are those of this module, which are the schema's own in the database.
    `on_again` is called when bells may have been missed.
    """

    def __init__(self, database: Database, listen_url: str = "") -> None:
        self._database = database
        self._url = connection_string(listen_url) if listen_url else database.url
        self._prefix = ""
        self._handlers: dict[str, Heard] = {}
        self._listening: set[str] = set()
        self._ringing: list[tuple[str, str]] = []
        self._ring_task: asyncio.Task[None] | None = None
        self._ring_timer: asyncio.TimerHandle | None = None
        self._listener: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._changed: asyncio.Future[None] | None = None
        self._connected = False
        self._closing = False
        self.on_again: list[Callable[[], None]] = []
        self.is_alone: Callable[[], bool] = lambda: False
        """Whether no other process of the Gateway is known of."""

    async def start(self) -> None:
        """Returns when what is to be heard is, or the first attempt has failed. Raises
        StoreFailed."""
        row = await self._database.row("SELECT current_schema()")
        schema = "" if row is None else str(row[0])
        self._prefix = f"os_{zlib.crc32(schema.encode()):08x}_"
        first = self._changed = asyncio.get_running_loop().create_future()
        self._listener = asyncio.create_task(self._listen_on(), name="listen to the database")
        await first

    async def close(self) -> None:
        """Ring what is to ring."""
        await self.rung()
        listener, self._listener = self._listener, None
        if listener is not None:
            # Not cancelled: in Python 3.11 that may be lost in a call of the driver, which uses
            # `asyncio.wait_for`.
            self._closing = True
            self._wanted.set()
            await listener

    def ring(self, channel: str, payload: str = "", *, is_urgent: bool = True) -> None:
        """Soon, and together with others of the same moment. One that is not urgent waits a moment
        for others."""
        if len(self._ringing) < _MOST_RINGING:  # Else the database is away.
            self._ringing.append((channel, payload))
        if is_urgent:
            self._begin_ringing()
        elif self._ring_timer is None and self._ring_task is None:
            loop = asyncio.get_running_loop()
            self._ring_timer = loop.call_later(_WINDOW, self._begin_ringing)

    async def rung(self) -> None:
        """Ring what is to ring."""
        self._begin_ringing()
        if self._ring_task is not None:
            await asyncio.shield(self._ring_task)

    def hears(self, channel: str) -> bool:
        """Whether this process listens to the channel."""
        return channel in self._handlers

    def hear(self, channel: str, heard: Heard) -> None:
        """Have `heard` called with the payloads of the channel's bells."""
        self._handlers[channel] = heard
        self._wanted.set()

    async def listened(self, channel: str, heard: Heard) -> None:
        """The same, and return once the database knows; where it cannot be reached, that is made
        up for later."""
        self._handlers[channel] = heard
        await self.listening(channel)

    async def listening(self, *channels: str) -> None:
        """Return once the database knows that these channels are to be heard, as in `listened`."""
        awaited = set(channels)
        while self._connected and (awaited & self._handlers.keys()) - self._listening:
            self._changed = self._changed or asyncio.get_running_loop().create_future()
            self._wanted.set()
            await asyncio.shield(self._changed)

    def ignore(self, channel: str) -> None:
        self._handlers.pop(channel, None)
        self._wanted.set()

    def _begin_ringing(self) -> None:
        if self._ring_timer is not None:
            self._ring_timer.cancel()
            self._ring_timer = None
        if self._ring_task is None and self._ringing:
            self._ring_task = asyncio.create_task(self._ring(), name="ring")

    async def _ring(self) -> None:
        while self._ringing:
            bells, self._ringing = self._ringing, []
            channels = [self._prefix + channel for channel, _ in bells]
            payloads = [payload for _, payload in bells]
            try:
                await self._database.execute(_RING, (channels, payloads), repeat=False)
            except StoreFailed as error:
                logger.debug("bells are lost", extra={"reason": str(error), "bells": len(bells)})
            except Exception:
                # The outermost handler of the task: later notifications are sent all the same.
                logger.exception("notifications could not be sent", extra={"bells": len(bells)})
        self._ring_task = None

    # Listening

    def _settle(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    async def _listen_on(self) -> None:
        """Listen, and connect again where the connection breaks."""
        while not self._closing:
            try:
                async with await AsyncConnection.connect(
                    self._url, autocommit=True, prepare_threshold=None
                ) as connection:
                    connection.add_notify_handler(self._heard)
                    self._connected = True
                    await self._listen(connection)
            except (Error, OSError) as error:
                logger.debug("the connection for bells broke", extra={"reason": str(error)})
            self._connected = False
            self._listening = set()
            self._settle()
            if not self._closing:
                await asyncio.sleep(_RETRY_AFTER)

    async def _listen(self, connection: AsyncConnection[tuple[object, ...]]) -> None:
        loop = asyncio.get_running_loop()
        fresh = True
        while not self._closing:
            self._wanted.clear()
            wanted = set(self._handlers)
            for command, names in (
                ("UNLISTEN {}", self._listening - wanted),
                ("LISTEN {}", wanted - self._listening),
            ):
                if names:
                    statement = quoted.SQL("; ").join(
                        quoted.SQL(command).format(quoted.Identifier(self._prefix + name))
                        for name in sorted(names)
                    )
                    await connection.execute(statement)
            self._listening = wanted
            self._settle()
            if fresh:
                fresh = False
                for again in self.on_again:
                    again()
            # The driver's own `notifies` would have to be ended for each LISTEN.
            arrived = self._wanted.set
            loop.add_reader(connection.fileno(), arrived)
            try:
                await self._wanted.wait()
            finally:
                loop.remove_reader(connection.fileno())
            connection.pgconn.consume_input()
            while (notify := connection.pgconn.notifies()) is not None:
                name = notify.relname.decode()
                payload = notify.extra.decode()
                self._heard(Notify(name, payload, notify.be_pid))

    def _heard(self, notify: Notify) -> None:
        handler = self._handlers.get(notify.channel.removeprefix(self._prefix))
        if handler is None:
            return
        try:
            handler(notify.payload)
        except Exception:
            # The outermost handler of a notification, which another version may have sent.
            extra = {"channel": notify.channel}
            logger.exception("a notification could not be handled", extra=extra)
