"""The client's handle of a Run: its events, its result, and `abort`.

A Run survives lost connections. Its events are numbered, so after a reconnection the handle sends
`runs.follow` with the last number that it has. The request to the agent is never sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from .errors import CallFailed, ClientError, ConnectionLost, TimedOut
from .link import Link, PendingCall, RunInbox
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

_FINAL_RESPONSE_TIMEOUT = 5.0
"""Seconds to wait for the final response to `agent` after the Run's terminal event."""


class RunClient(Protocol):
    """The part of Client that a Run uses."""

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
        client: RunClient,
        run_id: str,
        *,
        session_key: str = "",
        agent_id: str = "",
        after_seq: int = 0,
        pending: PendingCall | None = None,
        answer: Mapping[str, Any] | None = None,
    ) -> None:
        self.run_id = run_id
        self.session_key = session_key
        self.agent_id = agent_id
        self.last_seq = after_seq
        """The number of the newest event received."""
        self._client = client
        self._pending = pending
        self._answer = answer
        self._events: list[RunEvent] = []
        self._ending: Ending | None = None
        self._failure: ClientError | None = None
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._follow_to_end(), name=f"follower of run {run_id}")

    @property
    def text(self) -> str:
        """The answer so far, without what a later attempt has replaced."""
        return run_text(self._events)

    @property
    def ended(self) -> bool:
        return self._ending is not None

    async def events(self) -> AsyncIterator[RunEvent]:
        """Yields every event once, in order, up to the terminal one.

        Raises ConnectionLost, CallFailed if the Run cannot be followed to its end.
        """
        position = 0
        while True:
            while position < len(self._events):
                yield self._events[position]
                position += 1
            if self._failure is not None:
                raise self._failure
            if self._ending is not None:
                return
            async with self._changed:
                while position == len(self._events) and not self._is_over:
                    await self._changed.wait()

    async def result(self, timeout: float | None = None) -> RunResult:  # noqa: ASYNC109
        """Wait for the end of the Run. Raises TimedOut, and what `events` raises."""
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: self._is_over)
        except TimeoutError:
            raise TimedOut(f"The run did not end within {timeout:g} s.") from None
        if self._failure is not None:
            raise self._failure
        return _result(self, self._ending, await self._final_response())

    async def abort(self, timeout: float = 10.0) -> bool:  # noqa: ASYNC109
        """Abort the Run. False if it had already ended."""
        answer = await self._client.call("runs.abort", {"runId": self.run_id}, timeout=timeout)
        return isinstance(answer, dict) and answer.get("aborted") is True

    async def close(self) -> None:
        """Stop following. The Run itself continues on the Gateway."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def _is_over(self) -> bool:
        return self._ending is not None or self._failure is not None

    async def _follow_to_end(self) -> None:
        try:
            while self._ending is None:
                link = await self._client.link()
                try:
                    await self._follow(link)
                except ConnectionLost:
                    continue  # `link()` waits for the next connection, or raises if there is none.
        except ClientError as error:
            self._end_by_response(error)
        except asyncio.CancelledError:
            self._failure = ConnectionLost("The run is no longer followed: it was closed.")
            raise
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def _follow(self, link: Link) -> None:
        """Receive the missing events until the Run or the connection ends.

        The inbox is opened before `runs.follow` is sent. Live events may therefore arrive before
        the replayed ones; `_apply` accepts only the next number in order and drops the rest, which
        the replay delivers again.
        """
        with link.inbox(self.run_id) as inbox:
            params = {"runId": self.run_id, "afterSeq": self.last_seq}
            pending = await link.send("runs.follow", params)
            payload = (await pending.next(self._client.options.timeout)).result()
            if isinstance(payload, dict):
                self.session_key = self.session_key or str(payload.get("sessionKey", ""))
                self.agent_id = self.agent_id or str(payload.get("agentId", ""))
            while self._ending is None:
                await self._apply(await inbox.get(), inbox)

    async def _apply(self, payload: Mapping[str, Any], inbox: RunInbox) -> None:
        seq = payload.get("seq")
        if payload.get("stream") == "error" and seq is None:
            data = payload.get("data")
            data = data if isinstance(data, dict) else {}
            raise CallFailed(
                str(data.get("code", "UNAVAILABLE")),
                str(data.get("reason", "The Gateway can no longer replay the run's events.")),
            )
        # Lower: a duplicate. Higher: a live event ahead of the replay, which delivers it in order.
        if not isinstance(seq, int) or seq != self.last_seq + 1:
            return
        event = read_run_event(payload)
        async with self._changed:
            self.last_seq = seq
            if event is not None:
                self._events.append(event)
            if isinstance(event, Finished | Failed | Aborted):
                self._ending = event
            self._changed.notify_all()

    def _end_by_response(self, error: ClientError) -> None:
        """If the Gateway no longer stores the events, use the final response in their place."""
        if self._answer is None or not isinstance(error, CallFailed):
            self._failure = error
            return
        text, self._ending = _ending_of(self._answer, self.last_seq)
        if text and not self.text:
            self._events.append(TextDelta(self.last_seq, text))
        self._events.append(self._ending)

    async def _final_response(self) -> Mapping[str, Any]:
        """The payload of the final response; empty if it was lost with a connection."""
        if self._answer is None and self._pending is not None:
            pending, self._pending = self._pending, None
            try:
                answer = await pending.next(_FINAL_RESPONSE_TIMEOUT)
            except ClientError:
                return {}
            payload = answer.payload
            self._answer = payload if isinstance(payload, dict) else None
        return self._answer or {}


def _ending_of(answer: Mapping[str, Any], seq: int) -> tuple[str, Ending]:
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
            raise ConnectionLost("The run has no terminal event.")
    payload = answer or _payload(run, status, error)
    return RunResult(run.run_id, run.session_key, status, run.text, error, payload=payload, **more)


def _payload(run: Run, status: str, error: str) -> dict[str, Any]:
    summary = "completed" if status == "ok" else error or status
    payload: dict[str, Any] = {"runId": run.run_id, "status": status, "summary": summary}
    if status != "error":
        texts = [{"text": run.text}] if run.text else []
        payload["result"] = {"payloads": texts, "meta": {"aborted": status == "aborted"}}
    return payload
