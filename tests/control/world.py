"""A Gateway, a provider that does what it is told, its clients, and the books on all of them."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from opensoul.domain.runs.records import RunQuery, RunRecord
from tests.app.serving import SECRET, Served, config, serving
from tests.control.client import PATIENCE, Refused, connect_params
from tests.control.witness import Following, Witness
from tests.fakes.behaviours import Exchange, chunk
from tests.fakes.provider import FakeProvider


class World:
    """`runs` are in the order in which they were accepted, each with the words that were said."""

    def __init__(self) -> None:
        self.witnesses: list[Witness] = []
        self.followings: list[Following] = []
        self.runs: list[RunRecord] = []
        self.orders: dict[str, asyncio.Queue[str]] = defaultdict(asyncio.Queue)
        self.begun_anew: dict[str, int] = {}
        """By session: how many runs had been accepted when it was reset or deleted."""
        self.by_http: list[asyncio.Task[None]] = []
        self._accepted = asyncio.Event()
        self._resting = False
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        home = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.provider = await self._stack.enter_async_context(FakeProvider(self._obey))
        self.served: Served = await self._stack.enter_async_context(
            serving(Path(home), config(self.provider.base_url))
        )
        self.parts = self.served.container
        self.parts.gateway().on_run(self._accept)
        await self.enter()

    async def close(self) -> None:
        for witness in tuple(self.witnesses):
            await self.leave(witness)
        await self._stack.aclose()

    async def enter(self) -> Witness:
        socket = await self.served.client.ws_connect("/")
        witness = Witness(socket)
        witness.start()
        await witness.event("connect.challenge")
        await witness.call("connect", connect_params(SECRET))
        self.witnesses.append(witness)
        return witness

    async def leave(self, witness: Witness) -> None:
        self.witnesses.remove(witness)
        await witness.stop()

    async def follow(self, witness: Witness, run_id: str, after: int) -> Following | None:
        """None where it is refused: there is no such event yet, or it is followed already."""
        request = witness.send("runs.follow", {"runId": run_id, "afterSeq": after})
        try:
            await witness.answer(request)
        except Refused as refused:
            if "afterSeq" not in str(refused) and "already" not in str(refused):
                raise
            return None
        for one in self.followings:
            if one.witness is witness and one.run_id == run_id:
                one.until = one.until or request
                assert one.ended or not one.told
        self.followings.append(Following(witness, run_id, after, request))
        return self.followings[-1]

    async def ask_by_http(self, session: str, words: str) -> None:
        """Ask, and return once the Run is accepted."""
        known = len(self.runs)
        self.by_http.append(asyncio.create_task(self._ask(session, words)))
        async with asyncio.timeout(PATIENCE):
            while len(self.runs) == known:
                self._accepted.clear()
                await self._accepted.wait()

    async def records(self) -> list[RunRecord]:
        """The Runs as the log knows them."""
        page = await self.parts.run_events().list(RunQuery(limit=1_000))
        return sorted(page.runs, key=lambda record: record.accepted_at)

    async def rest(self) -> None:
        """Let everything come to its end."""
        self._resting = True
        for orders in self.orders.values():
            orders.put_nowait("finish")
        async with asyncio.timeout(PATIENCE):
            for run in self.runs:
                await self.parts.run_events().ended(run.id)
            await asyncio.gather(*self.by_http, return_exceptions=True)
            last = {record.id: record.last_seq for record in await self.records()}
            for one in self.followings:
                if one.witness in self.witnesses:
                    await one.witness.until(partial(one.has, last[one.run_id]))
            for witness in self.witnesses:
                await witness.until(witness.is_answered)
            for run in self.runs:
                await self.parts.control().hub.broadcast_done(run.id)
            while self._busy():
                await self.witnesses[0].call("health")
            for witness in self.witnesses:
                await witness.call("health")  # Whatever was sent before has come before.

    def _busy(self) -> bool:
        hub, gateway = self.parts.control().hub, self.parts.gateway()
        return bool(gateway.followed or len(hub) > len(self.witnesses))

    def finished(self, session: str) -> list[str]:
        """Ids of the Runs that the Session's transcript should hold, as far as they finished."""
        key = f"agent:main:{session}"
        since = self.begun_anew.get(session, 0)
        return [run.id for run in self.runs[since:] if str(run.session_key) == key]

    def _accept(self, record: RunRecord) -> None:
        assert record.id not in [run.id for run in self.runs], "a run was begun twice"
        self.runs.append(record)
        self._accepted.set()

    async def _ask(self, session: str, words: str) -> None:
        headers = {"x-opensoul-session-key": f"agent:main:{session}"}
        body = {"stream": True, "messages": [{"role": "user", "content": words}]}
        async with self.served.ask(headers, **body) as response:
            await response.read()

    async def _obey(self, exchange: Exchange) -> None:
        """The provider: does what is ordered for the words that were said last."""
        orders = self.orders[exchange.request.json["messages"][-1]["content"]]
        await exchange.head()
        await exchange.event(chunk({"role": "assistant", "content": "begun"}))
        while (order := await self._next(orders)) == "go on":
            await exchange.event(chunk({"content": " on"}))
        if order == "fail":
            exchange.abort()
            return
        await exchange.event(chunk({}, "stop"))
        await exchange.piece(b"data: [DONE]\n\n")
        await exchange.end()

    async def _next(self, orders: asyncio.Queue[str]) -> str:
        return "finish" if self._resting else await orders.get()
