"""The real application on a real port, in this process: a configuration file and its container."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
from dependency_injector import providers

from opensoul.adapters.config import Overrides
from opensoul.app.container import Container
from opensoul.app.plugins import installed
from opensoul.app.server.factory import create_app
from opensoul.app.server.host import open_sockets, serve_until
from opensoul.app.supervisor import Supervisor

SECRET = "a secret of the tests"
HELLO = [{"role": "user", "content": "hello"}]
INSTALLED = providers.Object(cache(installed))
"""What is installed does not change between tests, and looking for it takes long."""


def config(provider_url: str = "http://127.0.0.1:9/v1", **sections: Any) -> dict[str, Any]:
    """A configuration with the agent `main` on `fake/m`; `sections` replace whole sections."""
    whole: dict[str, Any] = {
        "gateway": {
            "auth": {"token": SECRET},
            "reload": {"debounceMs": 10},
            "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
        },
        "agents": {"defaults": {"model": {"primary": "fake/m"}}},
        "models": {"providers": {"fake": provider(provider_url)}},
    }
    return whole | sections


def provider(url: str, *models: str, **more: Any) -> dict[str, Any]:
    return {
        "baseUrl": url,
        "models": [{"id": model, "input": ["text", "image"]} for model in models or ("m",)],
        **more,
    }


def hurried() -> providers.Provider[Any]:
    """A Supervisor for `serving` whose pauses take a thousandth of their time."""

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds / 1_000)

    return providers.Singleton(Supervisor, sleep=sleep)


@dataclass
class Served:
    """A running Gateway: its container to look into, and a client for its port."""

    container: Container
    url: str
    client: aiohttp.ClientSession
    config_path: Path

    def configure(self, content: Mapping[str, Any]) -> None:
        self.config_path.write_text(json.dumps(content))

    def ask(self, headers: Mapping[str, str] | None = None, **body: Any) -> Any:
        """A chat completion as an async context manager; `body` adds to a plain question."""
        return self.client.post(
            "/v1/chat/completions",
            json=self.question(**body),
            headers=self.authorization | dict(headers or {}),
        )

    def question(self, **body: Any) -> dict[str, Any]:
        return {"model": "opensoul", "messages": HELLO, **body}

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {SECRET}"}

    async def text(self, headers: Mapping[str, str] | None = None, **body: Any) -> str:
        """The answer's text, after checking that it is one."""
        async with self.ask(headers, **body) as response:
            answer = await response.json()
            assert response.status == 200, answer
            text: str = answer["choices"][0]["message"]["content"]
            return text


@asynccontextmanager
async def serving(
    home: Path, content: Mapping[str, Any], **parts: providers.Provider[Any]
) -> AsyncIterator[Served]:
    """Serve `content` as configuration; `parts` replace the container's providers."""
    config_path = home / "opensoul.json"
    config_path.write_text(json.dumps(content))
    # A file that was just written is read a second time, for a later write may have its time stamp.
    os.utime(config_path, (0, 0))
    machine: dict[str, providers.Provider[Any]] = {
        "overrides": providers.Object(Overrides(config_path=str(config_path))),
        "env": providers.Object({"OPENSOUL_STATE_DIR": str(home / "state")}),
        "home": providers.Object(home),
        "find_plugins": INSTALLED,
        "configure_logging": providers.Object(lambda settings: None),
    }
    container = Container(**(machine | parts))
    app = create_app(container)
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    listen = replace(container.settings()().listen, port=0)
    server = asyncio.create_task(
        serve_until(
            stop, app, container.lifecycle(), listen, open_sockets(listen), ready.set_result
        )
    )
    server.add_done_callback(lambda _: ready.done() or ready.cancel())
    await asyncio.wait({ready})
    if ready.cancelled():
        await server
    scheme = "http" if listen.tls is None else "https"
    url = f"{scheme}://127.0.0.1:{ready.result()}"
    async with aiohttp.ClientSession(url) as client:
        try:
            yield Served(container, url, client, config_path)
        finally:
            await client.close()
            stop.set()
            await server
