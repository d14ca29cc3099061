"""The processes of a Gateway, as rows of a table."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping

from ....domain.errors import StoreFailed
from ....domain.ports import Clock, NodeInfo
from ..common import text
from .columns import data
from .database import Database

logger = logging.getLogger(__name__)

KEEP_DEAD = 300.0
"""Seconds for which a process that died is listed."""
_HEARTBEAT = """
    WITH others AS (
        SELECT id, name, started_at, unable FROM nodes
        WHERE role <> 'gateway' AND heartbeat_at > server_now() - lease AND id <> %s
    )
    SELECT node_show(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s),
        NOT EXISTS (SELECT FROM nodes WHERE id <> %s),
        ARRAY(SELECT name FROM others ORDER BY started_at, id),
        ARRAY(SELECT unable FROM others ORDER BY started_at, id), server_now()"""
_LEAVE = "DELETE FROM nodes WHERE id = %s"
_LIST = """
    SELECT n.id, n.name, n.role, n.version, n.host, n.pid, n.address, n.configuration,
        n.started_at, n.heartbeat_at, (
            SELECT count(*)::integer FROM runs r WHERE r.state = 'held' AND r.owner = n.id),
        n.heartbeat_at > server_now() - n.lease, n.unable
    FROM nodes n ORDER BY n.started_at, n.id"""


class PostgresNodes:
    """A NodeDirectory. A process stores a heartbeat in each third of `lease` seconds. `steady`: a
    clock in seconds that never jumps. `measure` is called before each heartbeat, and what it
    returns with the database's time after it.
    """

    def __init__(
        self,
        database: Database,
        node_id: str,
        *,
        lease: float,
        steady: Clock = time.monotonic,
        measure: Callable[[], Callable[[float], None]] | None = None,
    ) -> None:
        self._measure = measure
        self._database = database
        self.id = node_id
        self._lease = lease
        self._steady = steady
        self._describe: Callable[[], NodeInfo] | None = None
        self._heartbeats: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()
        self.is_alone = False
        """Whether no other process was in the table at the last heartbeat, and none has joined."""
        self.unable: Mapping[str, str] = {}
        """The agents that this process cannot execute, as the others know it."""
        self._nobody: Mapping[str, str] = {}
        self.on_join: list[Callable[[], None]] = []
        """Called when this process is in the table."""
        self._regular_since: float | None = None
        """Since then no two heartbeats of this process were further apart than `lease`; None: none
        was stored yet. By `steady`, as the next one."""
        self._stored_at = 0.0
        """When the last heartbeat was sent."""
        self.on_return: list[Callable[[], None]] = []
        """Called after the row of this process was inserted again: it was deleted after KEEP_DEAD
        seconds without a heartbeat."""

    @property
    def heartbeats_are_reliable(self) -> bool:
        """Whether a process whose heartbeat is older than its lease is dead: this process was able
        to store its own for more than a lease, so the others were able to, too."""
        now = self._steady()
        return (
            self._regular_since is not None
            and now - self._regular_since > self._lease
            and now - self._stored_at < self._lease
        )

    async def list(self) -> tuple[NodeInfo, ...]:
        rows = await self._database.rows(_LIST)
        return tuple(
            NodeInfo(
                id=row[0],
                name=text(row[1]),
                role=row[2],
                version=row[3],
                host=text(row[4]),
                pid=row[5],
                address=text(row[6]),
                configuration=row[7],
                started_at=row[8],
                seen_at=row[9],
                runs=row[10],
                alive=row[11],
                unable=_decoded(row[12]),
            )
            for row in rows
        )

    async def join(self, describe: Callable[[], NodeInfo]) -> None:
        self._describe = describe
        await self._store_heartbeat(describe())
        for joined in self.on_join:
            joined()
        self._heartbeats = asyncio.create_task(self._go_on(), name="heartbeats")

    async def leave(self) -> None:
        heartbeats, self._heartbeats = self._heartbeats, None
        if heartbeats is None:
            return
        self._leaving.set()  # Not cancelled: see Bells.close.
        await heartbeats
        self._leaving.clear()
        try:
            await self._database.execute(_LEAVE, (self.id,))
        except StoreFailed as error:  # Its heartbeats end.
            logger.warning("the node's row was not deleted", extra={"reason": str(error)})

    def lacking(self, agent_id: str) -> str:
        """Why no process that is alive can execute the agent, as of the last heartbeat; "" where
        one can, or none executes agents at all."""
        return self._nobody.get(agent_id, "")

    async def heartbeat(self) -> None:
        """Store a heartbeat now. Raises StoreFailed."""
        if self._describe is not None and await self._store_heartbeat(self._describe()):
            for returned in self.on_return:
                returned()

    async def _store_heartbeat(self, node: NodeInfo) -> bool:
        """Insert or update the row of this process; whether there was none. Raises StoreFailed."""
        asked_at = self._steady()
        values = (
            self.id,
            *(self.id, data(node.name), node.role, node.version, data(node.host), node.pid),
            *(data(node.address), node.configuration, self._lease, KEEP_DEAD),
            *(_encoded(node.unable), self.id),
        )
        measured = None if self._measure is None else self._measure()
        row = await self._database.row(_HEARTBEAT, values)
        if measured is not None and row is not None:
            measured(row[4])
        if self._regular_since is None or asked_at - self._stored_at > self._lease:
            self._regular_since = asked_at
        self._stored_at = asked_at
        self.unable = node.unable
        if row is None:
            self.is_alone = False
            return False
        self.is_alone = row[1]
        workers = [(text(name), _decoded(unable)) for name, unable in zip(*row[2:4], strict=True)]
        if node.role != "gateway":
            workers.insert(0, (node.name, node.unable))
        self._nobody = _by_nobody(workers)
        return bool(row[0])

    async def _go_on(self) -> None:
        while not self._leaving.is_set():
            try:
                async with asyncio.timeout(self._lease / 3):
                    await self._leaving.wait()
            except TimeoutError:
                try:
                    await self.heartbeat()
                except StoreFailed as error:
                    logger.debug("a heartbeat was not stored", extra={"reason": str(error)})
                except Exception:
                    # The outermost handler of the task: a silent process counts as dead.
                    logger.exception("a heartbeat failed unexpectedly")


def _encoded(unable: Mapping[str, str]) -> bytes:
    return json.dumps(unable).encode() if unable else b""


def _decoded(unable: bytes) -> Mapping[str, str]:
    found: dict[str, str] = json.loads(unable) if unable else {}
    return found


def _by_nobody(workers: list[tuple[str, Mapping[str, str]]]) -> Mapping[str, str]:
    """The agents that none of these processes can execute, with what each of them lacks."""
    if not workers:
        return {}
    agents = set.intersection(*(set(unable) for _, unable in workers))
    return {
        agent: " ".join(f"{name}: {unable[agent]}" for name, unable in workers) for agent in agents
    }
