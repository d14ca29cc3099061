"""The agent of a framework behind a Gateway and in front of a provider."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.app.serving import Served, serving
from tests.fakes.behaviours import Behaviour, answer
from tests.fakes.provider import FakeProvider
from tests.python_agents.conftest import Write, configured

_kept: list[object] = []


def call(name: str, arguments: str, call_id: str = "c1", index: int = 0) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": call_id, "type": "function", "function": function}


def calling(*calls: dict[str, Any], text: str = "", **more: Any) -> Behaviour:
    texts = (text,) if text else ()
    return answer(*texts, tool_calls=calls, finish_reason="tool_calls", **more)


def says(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def text_in(message: Mapping[str, Any]) -> str:
    """The text of a message, whose content may be a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


@dataclass
class Bench:
    """A Gateway whose agent `main` is the one of a module, and the provider of its model."""

    served: Served
    provider: FakeProvider
    home: Path

    @property
    def ran(self) -> list[str]:
        """The tools that have run, and whether the start of their calls was stored before."""
        path = self.home / "ran"
        return path.read_text().splitlines() if path.exists() else []

    async def whole(self, status: int = 200, **body: Any) -> dict[str, Any]:
        async with self.served.ask(**body) as response:
            found: dict[str, Any] = await response.json()
            assert response.status == status, found
            return found

    async def streamed(self, **body: Any) -> list[dict[str, Any]]:
        options = {"include_usage": True}
        async with self.served.ask(stream=True, stream_options=options, **body) as response:
            assert response.status == 200, await response.text()
            lines = (await response.text()).splitlines()
        return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    def sent(self, number: int = -1) -> list[dict[str, Any]]:
        """The messages of a request that the provider got."""
        messages: list[dict[str, Any]] = self.provider.requests[number].json["messages"]
        return messages

    def talk(self, number: int = -1) -> list[dict[str, Any]]:
        """The same without the system messages."""
        return [message for message in self.sent(number) if message["role"] != "system"]


@asynccontextmanager
async def bench(
    home: Path, module: str, provider: FakeProvider, **runner: Any
) -> AsyncIterator[Bench]:
    content = configured({"target": f"{module}:agent", "path": str(home), **runner})
    async with serving(home, content) as served:
        # A client of OpenAI in this process fails while an agent imports httpx.
        await served.container.python_agents().loaded("main")
        yield Bench(served, provider, home)
    # The client of its model belongs to an event loop that is closed: the next Gateway needs
    # another one, and it would fail to close itself when it is collected.
    _kept.append(sys.modules.pop(module, None))


def written(write: Write, home: Path, text: str, provider: FakeProvider) -> str:
    """The name of the module for the provider and the files of a Gateway in that directory."""
    store = home / "state" / "opensoul.sqlite3"
    text = text.replace("URL", provider.base_url)
    return write(text.replace("RAN", str(home / "ran")).replace("STORE", str(store)))
