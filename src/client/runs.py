"""A Run as a client holds it: its events, its result, and a way to stop it.

It outlives connections. Its events are numbered, so after a lost connection it asks for those
after the last one it has; what was asked of the agent is never asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from .errors import CallFailed, ClientError, ConnectionLost, TimedOut
from .link import Inbox, Link, PendingCall
from .options import Options
from .results import RunResult, rows
from .run_events import (
    Aborted,
    Ending,
    Failed,
    Finished,
    RunEvent,
    TextDelta,
    read_run_event,
    run_text,
)

_LAST_ANSWER = 5.0
"""Seconds that the last answer to `agent` may take after the Run's last event."""


class Caller(Protocol):
    """What a Run needs of its Client."""

    @property
    def options(self) -> Options: ...

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float = 30.0,  # noqa: ASYNC109
    ) -> Any: ...

    async def link(self) -> Link: ...


class Run:
    """Made by `Client.run_agent` and `Client.follow`."""

    def __init__(
        self,
        client: Caller,
        run_id: str,
        *,
        session_key: str = "",
        agent_id: str = "",
        after_seq: int = 0,
        exchange: PendingCall | None = None,
        answer: Mapping[str, Any] | None = None,
    ) -> None:
        self.run_id = run_id
        self.session_key = session_key
        self.agent_id = agent_id
        self.last_seq = after_seq
        """The number of the newest event that is here."""
        self._client = client
        self._exchange = exchange
        self._answer = answer
        self._events: list[RunEvent] = []
        self._ending: Ending | None = None
        self._failure: ClientError | None = None
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._keep_up(), name=f"follower of run {run_id}")

    @property
    def text(self) -> str:
        """The answer so far, without what a later attempt has replaced."""
        return run_text(self._events)

    @property
    def ended(self) -> bool:
        return self._ending is not None

    async def events(self) -> AsyncIterator[RunEvent]:
        """Every event once and in order, from the first to the terminal one.

        Raises what keeps the Run from being followed: ConnectionLost, CallFailed.
        """
        at = 0
        while True:
            while at < len(self._events):
                yield self._events[at]
                at += 1
            if self._failure is not None:
                raise self._failure
            if self._ending is not None:
                return
            async with self._news:
                while at == len(self._events) and not self._is_over:
                    await self._news.wait()

    async def result(self, timeout: float | None = None) -> RunResult:  # noqa: ASYNC109
        """How it ended, once it has. Raises TimedOut, and what `events` raises."""
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: self._is_over)
        except TimeoutError:
            raise TimedOut(f"The run did not end within {timeout:g} s.") from None
        if self._failure is not None:
            raise self._failure
        return _result(self, self._ending, await self._last_answer())

    async def abort(self, timeout: float = 10.0) -> bool:  # noqa: ASYNC109
        """Stop it. False where there is nothing left to stop."""
        answer = await self._client.call("runs.abort", {"runId": self.run_id}, timeout=timeout)
        return isinstance(answer, dict) and answer.get("aborted") is True

    async def close(self) -> None:
        """Follow it no longer; the Run itself goes on."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def _is_over(self) -> bool:
        return self._ending is not None or self._failure is not None

    async def _keep_up(self) -> None:
        try:
            while self._ending is None:
                link = await self._client.link()
                try:
                    await self._follow(link)
                except ConnectionLost:
                    continue  # `link()` waits for the next one, or says why there is none.
        except ClientError as error:
            self._end_by_answer(error)
        except asyncio.CancelledError:
            self._failure = ConnectionLost("The run is not followed any longer.")
            raise
        finally:
            async with self._news:
                self._news.notify_all()

    async def _follow(self, link: Link) -> None:
        """Take the events that are not here yet, to the end of the Run or of the connection."""
        with link.inbox(self.run_id) as inbox:
            params = {"runId": self.run_id, "afterSeq": self.last_seq}
            exchange = await link.ask("runs.follow", params)
            told = (await exchange.next(self._client.options.timeout)).result()
            if isinstance(told, dict):
                self.session_key = self.session_key or str(told.get("sessionKey", ""))
                self.agent_id = self.agent_id or str(told.get("agentId", ""))
            while self._ending is None:
                await self._take(await inbox.get(), inbox)

    async def _take(self, payload: Mapping[str, Any], inbox: Inbox) -> None:
        seq = payload.get("seq")
        if payload.get("stream") == "error" and seq is None:
            told = payload.get("data")
            data = told if isinstance(told, dict) else {}
            raise CallFailed(
                str(data.get("code", "UNAVAILABLE")), str(data.get("reason", "The run is lost."))
            )
        # Below: told already. Above: overheard, and the following brings what lies between.
        if not isinstance(seq, int) or seq != self.last_seq + 1:
            return
        event = read_run_event(payload)
        async with self._news:
            self.last_seq = seq
            if event is not None:
                self._events.append(event)
            if isinstance(event, Finished | Failed | Aborted):
                self._ending = event
            self._news.notify_all()

    def _end_by_answer(self, error: ClientError) -> None:
        """Where its events are not kept any longer, what is known of it is the last answer."""
        if self._answer is None or not isinstance(error, CallFailed):
            self._failure = error
            return
        text, self._ending = _told_by(self._answer, self.last_seq)
        if text and not self.text:
            self._events.append(TextDelta(self.last_seq, text))
        self._events.append(self._ending)

    async def _last_answer(self) -> Mapping[str, Any]:
        """What the Gateway answers at last; empty where that went down with a connection."""
        if self._answer is None and self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            try:
                answer = await exchange.next(_LAST_ANSWER)
            except ClientError:
                return {}
            payload = answer.payload
            self._answer = payload if isinstance(payload, dict) else None
        return self._answer or {}


def _told_by(answer: Mapping[str, Any], seq: int) -> tuple[str, Ending]:
    result = answer.get("result")
    text = "\n".join(str(part.get("text") or "") for part in rows(result, "payloads"))
    summary = str(answer.get("summary") or "")
    match answer.get("status"):
        case "ok":
            return text, Finished(seq)
        case "aborted":
            return text, Aborted(seq, summary)
        case _:
            return text, Failed(seq, summary or "The run failed.")


def _result(run: Run, ending: Ending | None, answer: Mapping[str, Any]) -> RunResult:
    status, error = "error", ""
    more: dict[str, Any] = {}
    match ending:
        case Finished(stop=stop, model=model, usage=usage):
            status, more = "ok", {"stop": stop, "model": model, "usage": usage}
        case Aborted(reason=error):
            status = "aborted"
        case Failed(message=error, code=code):
            more = {"code": code}
        case None:
            raise ConnectionLost("The run has no end.")
    payload = answer or _payload(run, status, error)
    return RunResult(run.run_id, run.session_key, status, run.text, error, payload=payload, **more)


def _payload(run: Run, status: str, error: str) -> dict[str, Any]:
    summary = "completed" if status == "ok" else error or status
    told: dict[str, Any] = {"runId": run.run_id, "status": status, "summary": summary}
    if status != "error":
        texts = [{"text": run.text}] if run.text else []
        told["result"] = {"payloads": texts, "meta": {"aborted": status == "aborted"}}
    return told
