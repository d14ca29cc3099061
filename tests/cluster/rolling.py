"""Clients of all kinds that go on while the nodes under them are replaced, and what they have seen.

Each request has a connection of its own, and goes to the next gateway where none can be made, as
behind a load balancer.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from opensoul.client import ClientError, ConnectFailed, ConnectionLost
from tests.approvals.office import calls
from tests.cluster.chaos import overlaps, wrong_events, wrong_transcript
from tests.cluster.following import HEADERS, Talker, Turn, Wrong, sse_events
from tests.cluster.nodes import Machines, Node, agent, question, text
from tests.fakes.behaviours import Exchange, answer

AGENTS = {"list": [agent(), {"id": "clerk", "model": {"primary": "fake/m"}}]}
"""The one of the notes, and one whose calls of `send` wait for approval."""
SENT = "It is sent."
REFUSED = (aiohttp.ClientConnectorError, ConnectFailed)
SERVICE_RESTART = 1012
"""The code with which a node that ends closes WebSockets."""
CLIENTS = 2
"""Of each kind."""
PATIENCE = 300.0
"""A hang guard, in seconds, for what a client of each kind does at once."""
_PAUSE = 0.05
_CODE = re.compile(r"^approve (\S+)$", re.MULTILINE)

Said = tuple[str, str]
"""The run and the text of an answer."""


class Seen(Exception):
    """An error that a client has seen."""


async def clerk(exchange: Exchange) -> None:
    """The model of the clerk: it calls the tool, and says so when it has the result."""
    last = exchange.request.json["messages"][-1]
    await (answer(SENT) if last["role"] == "tool" else calls({"letter": last["content"]}))(exchange)


@dataclass
class Load:
    """`version_of`: of the program of a node. `letters`: what the tool `send` has written."""

    machines: Machines
    version_of: Callable[[Node], str]
    chance: random.Random
    letters: Path
    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    talked: list[Turn] = field(default_factory=list)
    accepted: dict[str, str] = field(default_factory=dict)
    """By run: the version of the gateway that accepted it."""
    followed: list[tuple[str, str]] = field(default_factory=list)
    """Runs, and the versions of gateways at which they were followed to their end."""
    told: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """By session: questions and answers of chat completions."""
    asked: set[str] = field(default_factory=set)
    """Letters for which an approval was given."""

    def __post_init__(self) -> None:
        self._over = asyncio.Event()
        self._laps: Counter[str] = Counter()
        self._lapped = asyncio.Condition()
        self._kinds: dict[str, Callable[[str], Awaitable[None]]] = {
            "streams": self._stream,
            "repeats": self._repeat,
            "responses": self._respond,
            "approvals": self._approve,
            "runs over HTTP": self._talk("http"),
            "runs over WebSocket": self._talk("websocket"),
        }

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        limits = aiohttp.ClientTimeout(total=None, connect=10, sock_read=120)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=limits) as self._http,
            asyncio.TaskGroup() as tasks,
        ):
            for kind in self._kinds:
                for number in range(CLIENTS):
                    tasks.create_task(self._live(kind, number))
            try:
                yield
            finally:
                self._over.set()

    async def lap(self) -> None:
        """Return when clients of each kind have begun something, and ended it, from now on."""
        # Twice as many as there are clients of a kind: the first ones may have begun before.
        goal = {kind: self._laps[kind] + 2 * CLIENTS for kind in self._kinds}
        async with asyncio.timeout(PATIENCE), self._lapped:
            await self._lapped.wait_for(
                lambda: self.wrong or all(self._laps[kind] >= goal[kind] for kind in goal)
            )

    async def _live(self, kind: str, number: int) -> None:
        cycle = 0
        while not self._over.is_set():
            name = f"{kind.replace(' ', '-').lower()}-{number}-{cycle}"
            cycle += 1
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._kinds[kind](name)
            except* (Seen, Wrong, TimeoutError, aiohttp.ClientError, ClientError) as errors:
                self.wrong += [f"{name}: {type(one).__name__}: {one}" for one in _leaves(errors)]
            else:
                self.seen[kind] += 1
            async with self._lapped:
                self._laps[kind] += 1
                self._lapped.notify_all()

    # What clients do.

    async def _stream(self, name: str) -> None:
        """Three streamed turns of a session, each at another gateway."""
        session = f"agent:main:{name}"
        for turn in range(3):
            own = f"{name}-{turn}"
            run_id, said = await self._chat(own, stream=True, session=session)
            if said != text(own, 8):
                raise Seen(f"the stream {said!r}")
            self.followed.append((run_id, self.accepted[run_id]))
            self.told.setdefault(session, []).append((question(own, 8, 0.03), said))

    async def _repeat(self, name: str) -> None:
        """One request with an idempotency key, at the same time at two gateways and once later."""
        headers = {"Idempotency-Key": name}
        answers = await asyncio.gather(
            *(self._chat(name, at=at, headers=headers) for at in range(2))
        )
        answers.append(await self._chat(name, headers=headers))
        runs, texts = {run for run, _ in answers}, {said for _, said in answers}
        if len(runs) != 1 or texts != {text(name, 8)}:
            raise Seen(f"equal requests were answered by {answers}")

    async def _respond(self, name: str) -> None:
        """Three stored responses, each of which goes on behind the one before."""
        before: str | None = None
        for turn in range(3):
            own = f"{name}-{turn}"
            body = {"model": "opensoul", "input": question(own), "previous_response_id": before}
            _, said = await self._post("/v1/responses", body)
            output = "".join(
                part["text"] for item in said["output"] for part in item.get("content", ())
            )
            if output != text(own):
                raise Seen(f"the response {said}")
            before = said["id"]
            _, again = await self._send("GET", f"/v1/responses/{before}")
            if again["output"] != said["output"]:
                raise Seen(f"the response {said} is read as {again}")

    async def _approve(self, name: str) -> None:
        """A call that waits for approval, which is given at another gateway."""
        session = f"agent:clerk:{name}"
        at = self.chance.randrange(2)
        _, asked = await self._chat(name, agent="clerk", session=session, at=at)
        codes = _CODE.findall(asked)
        if len(codes) != 1:
            raise Seen(f"no approval is asked for: {asked!r}")
        self.asked.add(name)
        given = f"approve {codes[0]}"
        _, said = await self._chat(given, agent="clerk", session=session, at=at + 1)
        if said != SENT:
            raise Seen(f"the approved call is answered by {said!r}")

    def _talk(self, over: str) -> Callable[[str], Awaitable[None]]:
        async def talk(name: str) -> None:
            """Three runs of a session, which are followed at any gateway."""
            names = [f"{name}-{turn}" for turn in range(3)]
            session = f"agent:main:{name}"
            turns = [Turn(own, session, question(own, 12, 0.03), text(own, 12)) for own in names]
            urls = [node.url for node in self.machines.gateways]
            talker = Noting(over, lambda: urls, turns, self._http, self.chance, load=self)
            await talker.live()
            self.talked += turns
            for error in talker.unserved:
                if isinstance(error, REFUSED):
                    self.seen["connections refused"] += 1
                elif isinstance(error, ConnectionLost) and error.code == SERVICE_RESTART:
                    self.seen["WebSockets closed by a node that ends"] += 1
                else:
                    self.wrong.append(f"{name}: {type(error).__name__}: {error}")

        return talk

    # How they ask.

    async def _chat(
        self,
        name: str,
        *,
        agent: str = "main",
        session: str = "",
        stream: bool = False,
        at: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> Said:
        said = name if agent == "clerk" else question(name, 8, 0.03)
        body = {
            "model": f"opensoul:{agent}",
            "messages": [{"role": "user", "content": said}],
            "stream": stream,
        }
        sent = {"x-opensoul-session-key": session} if session else {}
        run_id, got = await self._post(
            "/v1/chat/completions", body, at=at, headers={**sent, **(headers or {})}
        )
        return run_id, got if stream else got["choices"][0]["message"]["content"]

    async def _post(self, path: str, body: dict[str, Any], **options: Any) -> tuple[str, Any]:
        return await self._send("POST", path, json=body, **options)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        at: int | None = None,
        headers: dict[str, str] | None = None,
        **sent: Any,
    ) -> tuple[str, Any]:
        """The run and the answer: a text where it is streamed."""
        gateways = self.machines.gateways
        first = self.chance.randrange(len(gateways)) if at is None else at
        whole = {**HEADERS, **(headers or {})}
        while True:
            node = gateways[first % len(gateways)]
            version = self.version_of(node)
            try:
                async with self._http.request(
                    method, f"{node.url}{path}", headers=whole, **sent
                ) as response:
                    if response.status != 200:
                        said = await response.text()
                        raise Seen(f"{method} {path}: {response.status} {said} ({version})")
                    run_id = response.headers.get("x-opensoul-run-id", "")
                    if run_id:
                        self.accepted.setdefault(run_id, version)
                    streamed = response.content_type == "text/event-stream"
                    return run_id, await (_streamed(response) if streamed else response.json())
            except aiohttp.ClientConnectorError:
                self.seen["connections refused"] += 1
            first += 1
            await asyncio.sleep(_PAUSE)

    # What must hold of it.

    async def violations(self) -> list[str]:
        """What is wrong with all that was done. The clients have ended."""
        async with aiohttp.ClientSession() as http:
            return [*self.wrong, *[one async for one in self._violations(http)]]

    async def _violations(self, http: aiohttp.ClientSession) -> AsyncIterator[str]:
        lines = self.machines.work.lines()
        for wrong in overlaps(lines):
            yield wrong
        for kind in ("begin", "end"):
            for run_id, times in Counter(one.run for one in lines if one.kind == kind).items():
                if times != 1:
                    yield f"{run_id} has {times} times the note {kind!r}"
        sessions: dict[str, list[Turn]] = {}
        for turn in self.talked:
            sessions.setdefault(turn.session, []).append(turn)
            for wrong in wrong_events(turn):
                yield wrong
            url = self.chance.choice(self.machines.gateways).url
            again = [event async for event in sse_events(http, url, turn.run_id, 0)]
            if again != turn.events:
                yield f"{turn.name} is read again as {again}, and was {turn.events}"
        async with self.chance.choice(self.machines.gateways).client() as client:
            for key, turns in sessions.items():
                for wrong in wrong_transcript(turns, await client.history(key)):
                    yield wrong
            for key, told in self.told.items():
                messages = [one.text for one in await client.history(key)]
                if messages != [part for pair in told for part in pair]:
                    yield f"{key} has {messages} in place of {told}"
        written = self.letters.read_text().splitlines() if self.letters.exists() else []
        letters = Counter(json.loads(line)["letter"] for line in written)
        if letters != Counter(self.asked):
            yield f"the letters {letters} in place of {self.asked}"

    def ways(self, workers: Mapping[int, str]) -> Counter[tuple[str, str, str]]:
        """How many runs were accepted, executed and followed to their end by which versions.
        `workers`: the versions of processes, by their ids."""
        executed = {
            line.run: workers[line.pid]
            for line in self.machines.work.lines()
            if line.kind == "begin" and line.pid in workers
        }
        return Counter(
            (self.accepted[run_id], executed[run_id], version)
            for run_id, version in self.followed
            if run_id in executed
        )


@dataclass
class Noting(Talker):
    """It notes which versions its gateways have, and errors that are none of a node that ends."""

    load: Load = field(kw_only=True)

    async def _post(self, turn: Turn, url: str) -> None:
        version = self._version(url)
        await super()._post(turn, url)
        self.load.accepted.setdefault(turn.run_id, version)

    async def _call(self, turn: Turn, url: str) -> None:
        version = self._version(url)
        await super()._call(turn, url)
        self.load.accepted.setdefault(turn.run_id, version)

    async def _follow_http(self, turn: Turn, url: str) -> None:
        version = self._version(url)
        await super()._follow_http(turn, url)
        self.load.followed.append((turn.run_id, version))

    async def _follow_websocket(self, turn: Turn, url: str) -> None:
        version = self._version(url)
        await super()._follow_websocket(turn, url)
        self.load.followed.append((turn.run_id, version))

    def _version(self, url: str) -> str:
        node = next(one for one in self.load.machines.gateways if one.url == url)
        return self.load.version_of(node)


def _leaves(errors: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _streamed(response: aiohttp.ClientResponse) -> str:
    """The text of a streamed chat completion. Raises Seen."""
    pieces: list[str] = []
    async for line in response.content:
        if line == b"data: [DONE]\n":
            return "".join(pieces)
        if line.startswith(b"data: "):
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise Seen(f"{chunk} after {pieces}")
            pieces += [choice["delta"].get("content") or "" for choice in chunk["choices"]]
    raise Seen(f"a stream without an end: {pieces}")
