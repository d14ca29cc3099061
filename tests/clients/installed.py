"""The programs that `make test-clients` installs, and a Gateway for them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.app.serving import SECRET, Served, config, serving
from tests.clients.scripted import play
from tests.fakes.behaviours import Behaviour
from tests.fakes.provider import FakeProvider

PROJECT = Path(__file__).parents[2]
INSTALLED = PROJECT / ".opensoul" / "clients"
PYTHON = INSTALLED / "python" / "bin"
SCHEMATHESIS = INSTALLED / "schemathesis" / "bin" / "schemathesis"
NODE_MODULES = INSTALLED / "node_modules"
ADDRESS = "http://127.0.0.1:18789"
"""Of the Gateway in the documentation."""
LIMIT = 240.0
ENDPOINTS: Mapping[str, Mapping[str, Any]] = {
    "chatCompletions": {"enabled": True},
    "responses": {"enabled": True},
    "messages": {"enabled": True},
    "completions": {"enabled": True},
    "embeddings": {"enabled": True, "models": ["fake/embed"]},
    "mcp": {"enabled": True},
    "a2a": {"enabled": True},
}
"""All that `gateway.http.endpoints` has."""


def require(path: Path) -> None:
    if not path.exists():
        pytest.skip("`make test-clients` installs the clients")


@asynccontextmanager
async def gateway(
    home: Path, model: Behaviour = play, model_settings: Mapping[str, Any] = {}, **sections: Any
) -> AsyncIterator[tuple[Served, FakeProvider]]:
    async with (
        FakeProvider(model) as provider,
        serving(home, _config(provider.base_url, model_settings, sections)) as served,
    ):
        yield served, provider


def _config(
    url: str, model_settings: Mapping[str, Any], sections: Mapping[str, Any]
) -> dict[str, Any]:
    whole = config(url, **sections)
    whole["models"]["providers"]["fake"]["models"] = [{"id": "m", **model_settings}]
    return whole


async def run(
    home: Path,
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    *,
    limit: float = LIMIT,
) -> tuple[int, str]:
    """The exit status of a program that runs in `home`, and what it printed."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENSOUL_", "OPENCLAW_", "OPENAI_", "COVERAGE_", "PYTHON"))
    }
    own |= {"HOME": str(home), "OPENSOUL_GATEWAY_TOKEN": SECRET, **(environment or {})}
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=home,
        env=own,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(limit):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out.decode()
