"""The client of one Gateway; it reconnects when the connection is lost."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Unpack

from . import results
from .connection_manager import ConnectionManager, OnState, Sleep
from .errors import CallFailed, ClientError, ConnectionLost
from .events import Events
from .frames import Answer, Event
from .handshake import Hello
from .link import Link, OnGap, PendingCall
from .options import MoreOptions, Options
from .runs import Run

CALL_TIMEOUT = 30.0

Decision = Literal["allow-once", "allow-always", "deny"]
"""On a tool call that waits."""


class Client:
    """`async with Client.connect(url=…, token=…) as client:`.

    Every wait has a timeout, after which TimedOut is raised.
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
        self._connection = ConnectionManager(
            options,
            on_event=self._deliver,
            on_end=self._fail_readers,
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
        """A client that connects when it is entered. The keywords are the fields of Options."""
        return cls(
            Options(url=url, scopes=tuple(scopes), **options), on_gap=on_gap, on_state=on_state
        )

    async def __aenter__(self) -> Client:
        """Raises ConnectFailed, HandshakeRefused."""
        await self._connection.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def hello(self) -> Hello:
        """The `hello-ok` of the newest connection. Raises ConnectionLost before the first one."""
        if self._connection.hello is None:
            raise ConnectionLost("The client is not connected. Use it in `async with`.")
        return self._connection.hello

    async def close(self) -> None:
        """Close the connection. Runs in progress continue on the Gateway."""
        for run in tuple(self._runs):
            await run.close()
        self._runs.clear()
        await self._connection.stop()

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = CALL_TIMEOUT,  # noqa: ASYNC109 - part of the promise
        expect_final: bool = False,
    ) -> Any:
        """Send a request and return the payload of its response.

        `expect_final`: skip responses with status `accepted` and return the one after them.
        Raises CallFailed, ConnectionLost, TimedOut. A request is not sent again after its
        connection is lost, because the Gateway may have executed it.
        """
        link = await self.link(timeout)
        pending = await link.send(method, params)
        try:
            answer = await pending.next(timeout)
            while expect_final and answer.accepted:
                answer = await pending.next(timeout)
        finally:
            link.forget(pending)
        return answer.result()

    def events(self, *names: str) -> Events:
        """A reader of events with these names (default: all) that arrive from now on."""
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
        """Start a Run and return once the Gateway has accepted it.

        `timeout`: seconds the Run may take, fractions allowed; it can only shorten the agent's
        configured limit, and 0 sets no limit. ValueError if it is negative or not finite. `more`:
        further parameters of `agent`, by their protocol names. If the connection is lost before
        the response arrives, the request is sent again with the same idempotency key, and the
        Gateway starts one Run for both.
        """
        optional = {
            "message": message,
            "agentId": agent_id,
            "sessionKey": session_key,
            "sessionId": session_id,
            "thinking": thinking,
            "timeout": None if timeout is None else _wire_seconds(timeout),
            "idempotencyKey": idempotency_key or str(uuid.uuid4()),
            **more,
        }
        params = _without_none(**optional)
        pending, answer = await self._send_until_accepted(params, accept_timeout)
        return self._run(_started_run(self, str(params["idempotencyKey"]), pending, answer))

    def follow(self, run_id: str, *, after_seq: int = 0) -> Run:
        """Follow a Run that any client or transport started, from the event after `after_seq`."""
        return self._run(Run(self, run_id, after_seq=after_seq))

    async def runs(
        self,
        *,
        session_key: str | None = None,
        agent_id: str | None = None,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> results.RunPage:
        """Runs, newest first."""
        params = _without_none(
            sessionKey=session_key, agentId=agent_id, status=status, limit=limit, cursor=cursor
        )
        answer = await self.call("runs.list", params)
        page = tuple(map(results.run_info, results.rows(answer, "runs")))
        cursor = answer.get("nextCursor") if isinstance(answer, dict) else None
        return results.RunPage(page, cursor if isinstance(cursor, str) else None)

    async def run(self, run_id: str) -> results.RunInfo:
        """One Run."""
        return results.run_info(await self.call("runs.get", {"runId": run_id}))

    async def abort_run(self, run_id: str) -> bool:
        """Abort a Run. False if it had already ended."""
        answer = await self.call("runs.abort", {"runId": run_id})
        return isinstance(answer, dict) and answer.get("aborted") is True

    async def approvals(self) -> tuple[results.ApprovalInfo, ...]:
        """The tool calls that wait for a decision, oldest first. Later ones are events:
        `exec.approval.requested` and `exec.approval.resolved`."""
        answer = await self.call("approval.list", {})
        return tuple(map(results.approval_info, results.rows(answer, "approvals")))

    async def approval(self, approval_id: str) -> results.ApprovalInfo:
        """One approval, also after the decision."""
        return results.approval_info(await self.call("approval.get", {"id": approval_id}))

    async def decide(self, approval_id: str, decision: Decision) -> None:
        """Decide on a tool call. `allow-always` is also for the agent's later calls of the tool
        with these arguments. Raises CallFailed if it was decided before, or its run has ended."""
        await self.call("approval.resolve", {"id": approval_id, "decision": decision})

    async def standing_approvals(self) -> tuple[results.StandingApprovalInfo, ...]:
        """What `allow-always` has allowed, oldest first."""
        answer = await self.call("approval.standing.list", {})
        return tuple(map(results.standing_approval_info, results.rows(answer, "standing")))

    async def revoke_approval(self, standing_id: str) -> None:
        """Have calls that `allow-always` has allowed wait for approval again."""
        await self.call("approval.standing.revoke", {"id": standing_id})

    async def sessions(
        self,
        *,
        agent_id: str | None = None,
        search: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> results.SessionPage:
        """Sessions, most recently used first."""
        params = _without_none(agentId=agent_id, search=search, limit=limit, offset=offset)
        answer = await self.call("sessions.list", params)
        page = tuple(map(results.session_info, results.rows(answer, "sessions")))
        following = answer.get("nextOffset") if isinstance(answer, dict) else None
        return results.SessionPage(page, following if isinstance(following, int) else None)

    async def agents(self) -> tuple[results.AgentInfo, ...]:
        answer = await self.call("agents.list", {})
        default = str(answer.get("defaultId", "")) if isinstance(answer, dict) else ""
        return tuple(results.agent_info(row, default) for row in results.rows(answer, "agents"))

    async def models(self) -> tuple[results.ModelInfo, ...]:
        """The configured models."""
        return tuple(
            map(results.model_info, results.rows(await self.call("models.list", {}), "models"))
        )

    async def history(
        self, session_key: str, *, limit: int = 200
    ) -> tuple[results.ChatMessage, ...]:
        """A Session's newest messages in chronological order. The call also subscribes this
        connection to the Session's events."""
        answer = await self.call("chat.history", {"sessionKey": session_key, "limit": limit})
        return tuple(map(results.chat_message, results.rows(answer, "messages")))

    async def logs(self, *, limit: int = 200, cursor: int | None = None) -> results.LogPage:
        """The newest lines of the log, or the lines after `cursor`."""
        answer = await self.call("logs.tail", _without_none(limit=limit, cursor=cursor))
        whole = answer if isinstance(answer, dict) else {}
        lines = tuple(str(line) for line in whole.get("lines") or ())
        after = whole.get("cursor")
        return results.LogPage(lines, after if isinstance(after, int) else None)

    async def status(self) -> Mapping[str, Any]:
        """A summary of sessions, agents and runs."""
        return _object(await self.call("status", {}))

    async def health(self) -> Mapping[str, Any]:
        """The health of every component."""
        return _object(await self.call("health", {}))

    async def link(self, timeout: float | None = None) -> Link:  # noqa: ASYNC109
        """Wait for the live connection. Raises TimedOut, or the error that ended the client."""
        return await self._connection.link(timeout)

    async def _send_until_accepted(
        self,
        params: Mapping[str, Any],
        timeout: float,  # noqa: ASYNC109
    ) -> tuple[PendingCall, Answer]:
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            link = await self.link(left)
            try:
                pending = await link.send("agent", params)
                return pending, await pending.next(left)
            except ConnectionLost:
                if not self.options.reconnect:
                    raise

    def _run(self, run: Run) -> Run:
        self._runs = {one for one in self._runs if not one.ended}
        self._runs.add(run)
        return run

    def _deliver(self, event: Event) -> None:
        for reader in tuple(self._readers):
            reader.put(event)

    def _fail_readers(self, error: ClientError) -> None:
        for reader in tuple(self._readers):
            reader.fail(error)


def _wire_seconds(timeout: float) -> float:
    """Whole seconds as an integer, which every version of the Gateway accepts."""
    if not math.isfinite(timeout) or timeout < 0:
        raise ValueError(f"timeout must be a number of seconds from 0 up, not {timeout}")
    return int(timeout) if timeout == int(timeout) else timeout


def _started_run(client: Client, key: str, pending: PendingCall, answer: Answer) -> Run:
    """The Run named by the first response to `agent`. Raises CallFailed if it names none."""
    payload = answer.payload if isinstance(answer.payload, dict) else {}
    if answer.error is not None and "runId" not in payload:
        raise answer.error
    if answer.error is None and not payload:
        raise CallFailed("UNAVAILABLE", "The Gateway's response to `agent` has no run in it.")
    return Run(
        client,
        str(payload.get("runId") or key),
        session_key=str(payload.get("sessionKey") or ""),
        agent_id=str(payload.get("agentId") or ""),
        pending=pending if answer.accepted else None,
        answer=None if answer.accepted or payload.get("status") == "in_flight" else payload,
    )


def _without_none(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _object(answer: object) -> Mapping[str, Any]:
    return answer if isinstance(answer, dict) else {}
