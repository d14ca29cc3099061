"""The client: one Gateway, reached again when a connection is lost."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Unpack

from .connection_manager import ConnectionManager, OnState, Sleep
from .errors import CallFailed, ClientError, ConnectionLost
from .events import Events
from .frames import Answer, Event
from .handshake import Hello
from .link import Link, OnGap, PendingCall
from .options import MoreOptions, Options
from .queries import Queries
from .runs import Run

CALL_TIMEOUT = 30.0


class Client(Queries):
    """`async with Client.connect(url=…, token=…) as client:`.

    Every wait has an end: what is not answered in time raises TimedOut.
    """

    def __init__(
        self,
        options: Options,
        *,
        on_gap: OnGap | None = None,
        on_state: OnState | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.options = options
        self._readers: set[Events] = set()
        self._runs: set[Run] = set()
        self._keeper = ConnectionManager(
            options,
            on_event=self._pass_on,
            on_end=self._ended,
            on_gap=on_gap,
            on_state=on_state,
            sleep=sleep,
        )

    @classmethod
    def connect(
        cls,
        url: str = "ws://127.0.0.1:18789",
        *,
        scopes: Iterable[str] = ("operator.read", "operator.write"),
        on_gap: OnGap | None = None,
        on_state: OnState | None = None,
        **options: Unpack[MoreOptions],
    ) -> Client:
        """A client to be entered; the keywords are those of Options."""
        return cls(
            Options(url=url, scopes=tuple(scopes), **options), on_gap=on_gap, on_state=on_state
        )

    async def __aenter__(self) -> Client:
        """Raises ConnectFailed, HandshakeRefused."""
        await self._keeper.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def hello(self) -> Hello:
        """What the Gateway said when it let this client in last."""
        if self._keeper.hello is None:
            raise ConnectionLost("The client has not been connected yet.")
        return self._keeper.hello

    async def close(self) -> None:
        """End the connection. Runs that were begun go on."""
        for run in tuple(self._runs):
            await run.close()
        self._runs.clear()
        await self._keeper.stop()

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = CALL_TIMEOUT,  # noqa: ASYNC109 - part of the promise
        expect_final: bool = False,
    ) -> Any:
        """The answer's payload. `expect_final`: not the one that only says `accepted`.

        Raises CallFailed, ConnectionLost, TimedOut. A request whose connection is lost is not
        sent again: it may have been carried out.
        """
        link = await self.link(timeout)
        exchange = await link.ask(method, params)
        try:
            answer = await exchange.next(timeout)
            while expect_final and answer.accepted:
                answer = await exchange.next(timeout)
        finally:
            link.forget(exchange)
        return answer.result()

    def events(self, *names: str) -> Events:
        """The events of these names, or all, from now on."""
        reader = Events(frozenset(names), self._readers.discard)
        self._readers.add(reader)
        return reader

    async def run_agent(
        self,
        message: str,
        *,
        agent_id: str | None = None,
        session_key: str | None = None,
        session_id: str | None = None,
        thinking: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the Run's own
        idempotency_key: str | None = None,
        accept_timeout: float = CALL_TIMEOUT,
        **more: Any,
    ) -> Run:
        """Ask an agent; returns once the Gateway has accepted the Run.

        `timeout`: seconds the Run may take, also fractions of one; it shortens the limit that the
        Gateway has for the agent, and 0 sets none. ValueError for what is no duration. `more`:
        parameters of `agent` by their own names. A connection that is lost before the answer is no
        reason to fail: the request is sent again under the same key, and the Gateway begins one
        Run for both.
        """
        asked = {
            "message": message,
            "agentId": agent_id,
            "sessionKey": session_key,
            "sessionId": session_id,
            "thinking": thinking,
            "timeout": None if timeout is None else _seconds(timeout),
            "idempotencyKey": idempotency_key or str(uuid.uuid4()),
            **more,
        }
        params = {name: value for name, value in asked.items() if value is not None}
        exchange, answer = await self._accepted(params, accept_timeout)
        return self._run(_begun(self, str(params["idempotencyKey"]), exchange, answer))

    def follow(self, run_id: str, *, after_seq: int = 0) -> Run:
        """A Run that somebody began, by whichever transport, from that event on."""
        return self._run(Run(self, run_id, after_seq=after_seq))

    async def link(self, timeout: float | None = None) -> Link:  # noqa: ASYNC109
        """The live connection, once there is one. Raises what ended the client, TimedOut."""
        return await self._keeper.link(timeout)

    async def _accepted(
        self,
        params: Mapping[str, Any],
        timeout: float,  # noqa: ASYNC109
    ) -> tuple[PendingCall, Answer]:
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            link = await self.link(left)
            try:
                exchange = await link.ask("agent", params)
                return exchange, await exchange.next(left)
            except ConnectionLost:
                if not self.options.reconnect:
                    raise

    def _run(self, run: Run) -> Run:
        self._runs = {one for one in self._runs if not one.ended}
        self._runs.add(run)
        return run

    def _pass_on(self, event: Event) -> None:
        for reader in tuple(self._readers):
            reader.put(event)

    def _ended(self, error: ClientError) -> None:
        for reader in tuple(self._readers):
            reader.fail(error)


def _seconds(timeout: float) -> float:
    """As it goes over the wire: whole seconds as an integer, which every Gateway understands."""
    if not math.isfinite(timeout) or timeout < 0:
        raise ValueError(f"timeout must be a number of seconds from 0 up, not {timeout}")
    return int(timeout) if timeout == int(timeout) else timeout


def _begun(client: Client, key: str, exchange: PendingCall, answer: Answer) -> Run:
    """The Run that the Gateway's first answer tells of. Raises CallFailed where there is none."""
    payload = answer.payload if isinstance(answer.payload, dict) else {}
    if answer.error is not None and "runId" not in payload:
        raise answer.error
    if answer.error is None and not payload:
        raise CallFailed("UNAVAILABLE", "The Gateway's answer tells of no run.")
    return Run(
        client,
        str(payload.get("runId") or key),
        session_key=str(payload.get("sessionKey") or ""),
        agent_id=str(payload.get("agentId") or ""),
        exchange=exchange if answer.accepted else None,
        answer=None if answer.accepted or payload.get("status") == "in_flight" else payload,
    )
