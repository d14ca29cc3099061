"""A mixed load, as its clients see it: both doors, idempotent retries, followers, maintenance.

The provider is the one of the tests, in the process of the load, since only it knows which
questions it was asked. Everything the clients saw goes to Observations.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from opensoul.client import CallFailed, Client, ClientError, ConnectionLost, HandshakeRefused
from tests.fakes.behaviours import Exchange, answer
from tests.fakes.provider import FakeProvider

from .invariants import Followed, Observations, answer_to, words_of
from .process import TOKEN, Server, free_port

HTTP_WORKERS = 4
CONTROL_WORKERS = 3
FOLLOWERS = 3
SESSIONS = 12
_SCOPES = ("operator.admin", "operator.read", "operator.write")
_PATIENCE = 60.0
_SETTLING = 120.0
"""Hang guards, in seconds: for one operation, and for all that is left after the last kill."""
_NETWORK = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)


def provider_of(seen: Observations, delay: float = 0.002) -> FakeProvider:
    """A provider whose answer depends only on the question, and which counts the questions."""

    async def behave(exchange: Exchange) -> None:
        content = exchange.request.json["messages"][-1]["content"]
        question = content if isinstance(content, str) else content[-1]["text"]
        # FakeProvider stores every request; drop the large parts.
        exchange.request.body, exchange.request.json = b"", {"stream_options": True}
        seen.calls[question] += 1
        await answer(*words_of(question), delay=delay)(exchange)

    return FakeProvider(behave)


def gateway_server(opensoul: Path, home: Path, base_url: str, **more: Any) -> Server:
    """A Gateway with one agent that uses the provider; `more`: configuration sections."""
    home.mkdir(parents=True, exist_ok=True)
    config = {
        "gateway": {
            "auth": {"token": TOKEN},
            "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
            **more,
        },
        "agents": {"list": [{"id": "main", "model": {"primary": "fake/m"}}]},
        "models": {"providers": {"fake": {"baseUrl": base_url, "models": [{"id": "m"}]}}},
    }
    (home / "opensoul.json").write_bytes(orjson.dumps(config))
    port = free_port()
    own = {
        "HOME": str(home),
        "OPENSOUL_STATE_DIR": str(home / "state"),
        "OPENSOUL_CONFIG_PATH": str(home / "opensoul.json"),
    }
    command = [str(opensoul), "gateway", "run", "--port", str(port)]
    return Server("gateway", command, port, home, own)


@dataclass
class Load:
    """The clients of one Gateway across restarts. `pause`: seconds between a worker's operations;
    `maintenance`: methods that are occasionally called on a random session."""

    seen: Observations
    chance: random.Random
    pause: float = 0.0
    maintenance: tuple[str, ...] = ("sessions.compact", "sessions.reset")
    maintenance_pause: float = 0.3
    port: int = 0
    unsettled: deque[tuple[str, str]] = field(default_factory=deque)
    """Questions with unknown outcome, and their sessions; they are sent again."""
    unfollowed: deque[Followed] = field(default_factory=deque)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _resend: deque[tuple[str, str]] = field(default_factory=deque)

    async def run(self, until: asyncio.Event) -> None:
        """Load the Gateway at `port` until the event, then cancel the operations in progress."""
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as http:
            steps: list[tuple[Callable[[], Coroutine[Any, Any, None]], float]] = [
                *[(lambda: self._chat(http), self.pause)] * HTTP_WORKERS,
                *[(self._control, self.pause)] * CONTROL_WORKERS,
                *[(self._follow_next, 0.02)] * FOLLOWERS,
                (self._maintain, self.maintenance_pause),
            ]
            tasks = [asyncio.create_task(self._repeat(step, pause)) for step, pause in steps]
            over = asyncio.create_task(until.wait())
            done, _ = await asyncio.wait((over, *tasks), return_when=asyncio.FIRST_COMPLETED)
            for task in (over, *tasks):
                task.cancel()
            await asyncio.gather(over, *tasks, return_exceptions=True)
            for task in done - {over}:
                task.result()  # Workers only end with an error.

    async def settle(self) -> None:
        """Without kills: resend unsettled questions, and follow every run to its end."""
        try:
            async with asyncio.timeout(_SETTLING):
                while self.unsettled or self._resend:
                    await self._control()
                while self.unfollowed:
                    await self._follow_next()
        except TimeoutError:
            left = f"{len(self.unsettled)} questions and {len(self.unfollowed)} followed runs"
            self.seen.wrong.append(f"{left} did not come to their end within {_SETTLING:g} s")

    async def _repeat(self, step: Callable[[], Coroutine[Any, Any, None]], pause: float) -> None:
        while True:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await step()
            except TimeoutError:
                self.seen.wrong.append(f"an operation took longer than {_PATIENCE:g} s")
            await asyncio.sleep(pause * self.chance.uniform(0.5, 1.5) if pause else 0)

    def _session(self) -> str:
        return f"agent:main:talk-{self.chance.randrange(SESSIONS)}"

    async def _chat(self, http: aiohttp.ClientSession) -> None:
        """One chat completion, streamed or not."""
        question, session = f"chat-{next(self._numbers)}", self._session()
        stream = self.chance.random() < 0.5
        body = {
            "model": "opensoul",
            "stream": stream,
            "messages": [{"role": "user", "content": question}],
        }
        headers = {"Authorization": f"Bearer {TOKEN}", "x-opensoul-session-key": session}
        try:
            async with http.post("/v1/chat/completions", json=body, headers=headers) as response:
                text, status = await response.text(), response.status
        except _NETWORK:
            self.seen.counts["lost"] += 1
            await asyncio.sleep(0.02)
            return
        if status != 200:
            self.seen.counts[f"status {status}"] += 1
            if status == 500:
                self.seen.wrong.append(f"500 to {question!r}: {text[:200]}")
            return
        self._judge(question, session, _streamed(text) if stream else _whole(text))

    async def _control(self) -> None:
        """One `agent` request: a new one, or a repeated one with unknown outcome."""
        again = self.unsettled or (self._resend if self.chance.random() < 0.2 else None)
        if again:
            question, session = again.popleft()
            self.seen.counts["retried"] += 1
        else:
            question, session = f"key-{next(self._numbers)}", self._session()
            self.seen.keyed.add(question)
        try:
            settled = await self._ask(question, session)
        except asyncio.CancelledError:
            self.unsettled.append((question, session))
            raise
        except CallFailed as error:
            self._refused(question, error)
        except (ClientError, *_NETWORK) as error:
            if isinstance(error, HandshakeRefused) and not error.retryable:
                raise
            self.unsettled.append((question, session))
            await asyncio.sleep(0.02)
        else:
            if not settled:
                self.unsettled.append((question, session))
            elif self.chance.random() < 0.1:
                self._resend.append((question, session))

    async def _ask(self, question: str, session: str) -> bool:
        """Whether the outcome is known; one in six clients disconnects after `accepted`."""
        async with self._client() as client:
            run = await client.run_agent(question, session_key=session, idempotency_key=question)
            if question not in self.seen.followed and self.chance.random() < 0.5:
                self._follow_later(question)
            if question not in self.seen.acknowledged and self.chance.random() < 1 / 6:
                self.seen.counts["left"] += 1
                return False
            result = await run.result()
        if result.status == "ok":
            self._judge(question, session, (result.text, True))
        else:
            self._refused(question, result.error)
        return True

    def _judge(self, question: str, session: str, answer: tuple[str, bool]) -> None:
        """Check a received answer. `answer`: its text, and whether it is complete."""
        text, whole = answer
        if whole and text == answer_to(question):
            self.seen.acknowledged[question] = session
            self.seen.counts["whole answers"] += 1
        elif not answer_to(question).startswith(text) or (
            whole and question not in self.seen.acknowledged and text
        ):
            self.seen.wrong.append(f"{question!r} was answered by {text!r}")
        else:
            self.seen.counts["broken off"] += 1

    def _refused(self, question: str, error: object) -> None:
        self.seen.counts["failed or interrupted"] += 1
        if question in self.seen.acknowledged:
            self.seen.wrong.append(f"acknowledged key {question!r} failed later: {error}")

    def _follow_later(self, question: str) -> None:
        self.seen.followed[question] = run = Followed(question)
        self.unfollowed.append(run)

    async def _follow_next(self) -> None:
        """Follow one run from its follower's last event, until the run or the connection ends."""
        if not self.unfollowed:
            return
        run = self.unfollowed.popleft()
        try:
            await self._follow(run)
        except CallFailed as error:
            self.seen.wrong.append(f"run {run.run_id} cannot be followed: {error}")
        except asyncio.CancelledError:
            self.unfollowed.append(run)
            raise
        except (ClientError, *_NETWORK):
            self.unfollowed.append(run)
            await asyncio.sleep(0.02)

    async def _follow(self, run: Followed) -> None:
        async with self._client() as client:
            with client.events("agent") as events:
                await client.call("runs.follow", {"runId": run.run_id, "afterSeq": run.last})
                while run.ending is None:
                    payload = (await anext(events)).payload
                    if payload["runId"] != run.run_id:
                        continue
                    if "seq" not in payload:
                        raise ConnectionLost(str(payload))
                    run.take(payload)

    async def _maintain(self) -> None:
        method = self.chance.choice(self.maintenance)
        params: dict[str, object] = {"key": self._session()}
        if method == "sessions.compact":
            params["maxLines"] = 4
        with suppress(ClientError, *_NETWORK):
            async with self._client() as client:
                await client.call(method, params)
                self.seen.counts[method] += 1

    def _client(self) -> Client:
        return Client.connect(
            f"ws://127.0.0.1:{self.port}", token=TOKEN, scopes=_SCOPES, reconnect=False
        )


def _streamed(text: str) -> tuple[str, bool]:
    """The text of a stream, and whether it is complete."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    done = bool(lines) and lines[-1] == "[DONE]"
    choices = [orjson.loads(line).get("choices") or [{}] for line in lines if line != "[DONE]"]
    content = "".join((choice[0].get("delta") or {}).get("content") or "" for choice in choices)
    return content, done and any(choice[0].get("finish_reason") == "stop" for choice in choices)


def _whole(text: str) -> tuple[str, bool]:
    choice = orjson.loads(text)["choices"][0]
    return choice["message"]["content"] or "", choice["finish_reason"] == "stop"
