"""Clients as users run them: official libraries and curl, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.process import GatewayProcess
from tests.fakes.behaviours import Exchange, answer, cut, fail
from tests.fakes.provider import FakeProvider

ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "clients"
LIMIT = 120.0
NODE_PACKAGES = {"openai": "7", "openclaw-node": "0.14", "ws": "8"}


def config(provider_url: str) -> str:
    return json.dumps(
        {
            "gateway": {"http": {"endpoints": {"chatCompletions": {"enabled": True}}}},
            "agents": {
                "defaults": {"model": {"primary": "fake/steady"}},
                "list": [{"id": "main", "default": True}, {"id": "flaky", "model": "fake/flaky"}],
            },
            "models": {
                "providers": {
                    "fake": {
                        "baseUrl": provider_url,
                        "apiKey": "sk-provider",
                        "models": [{"id": "steady"}, {"id": "flaky"}],
                    }
                }
            },
        }
    )


@dataclass
class Served:
    gateway: GatewayProcess
    provider: FakeProvider
    token: str

    async def program(self, *command: str, **extra: str) -> str:
        """What a client program printed. AssertionError with its words when it failed."""
        return await asyncio.to_thread(self._run, list(command), extra)

    def _run(self, command: list[str], extra: dict[str, str]) -> str:
        told = {"GATEWAY_URL": self.gateway.url, "GATEWAY_TOKEN": self.token}
        done = subprocess.run(
            command,
            env=self.gateway.env | told | extra,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


class Flaky:
    """`steady` answers; `flaky` fails twice, then answers once, then breaks its stream."""

    def __init__(self) -> None:
        overloaded = fail(503, headers={"Retry-After": "0"})
        self._turns = [overloaded, overloaded, answer("third time lucky"), cut("half an ans")]

    async def __call__(self, exchange: Exchange) -> None:
        flaky = exchange.request.json["model"] == "flaky"
        await (self._turns.pop(0) if flaky else answer("Hel", "lo!"))(exchange)


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with (
        FakeProvider(Flaky()) as provider,
        GatewayProcess(tmp_path, config(provider.base_url)) as gateway,
    ):
        yield Served(gateway, provider, await asyncio.to_thread(lambda: gateway.token))


@pytest.mark.e2e
async def test_the_official_python_client_finds_everything_it_expects(served: Served) -> None:
    program = str(CLIENTS / "python_client.py")

    seen: dict[str, Any] = json.loads(await served.program(sys.executable, program))

    assert seen["models"] == ["opensoul", "opensoul/default", "opensoul/main", "opensoul/flaky"]
    assert seen["model"] == "opensoul/main"
    assert seen["sync"] == {
        "text": "Hello!",
        "finish": "stop",
        "model": "opensoul:main",
        "total": 10,
    }
    assert seen["stream"] == {"text": "Hello!", "ids": 1, "finish": "stop", "total": 10}
    assert seen["async"] == {"text": "Hello!", "streamed": "Hello!"}
    assert seen["errors"] == {
        "unknown agent": [404, "model_not_found", "model"],
        "bad temperature": [400, "invalid_request", "temperature"],
        "wrong key": [401, "invalid_api_key", "authentication_error"],
    }
    assert seen["failing"]["after retries"] == "third time lucky"
    assert seen["failing"]["broken stream"][0] == "APIError"


@pytest.mark.e2e
async def test_the_official_javascript_client_finds_everything_it_expects(served: Served) -> None:
    packages = await asyncio.to_thread(node_packages)
    program = str(CLIENTS / "node_client.mjs")

    seen = json.loads(await served.program("node", program, NODE_PACKAGES=str(packages)))

    assert seen["models"][0] == "opensoul"
    assert seen["model"] == "opensoul/main"
    assert (seen["answer"], seen["finish"]) == ("Hello!", "stop")
    assert (seen["streamed"], seen["total"]) == ("Hello!", 10)
    assert seen["once"] == 1
    assert seen["unknown"] == ["NotFoundError", 404, "model_not_found", "model"]
    assert seen["wrong"] == ["AuthenticationError", 401]


def readme_commands() -> list[str]:
    """The README's curl commands, as printed there."""
    text = (ROOT / "README.md").read_text()
    return [block for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "curl" in block]


def test_the_readme_prints_both_kinds_of_curl_command() -> None:
    assert [('"stream": true' in command) for command in readme_commands()] == [False, True]


@pytest.mark.e2e
@pytest.mark.parametrize("command", readme_commands(), ids=["whole", "streamed"])
async def test_the_readmes_curl_commands_work_as_printed(served: Served, command: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    here = command.replace(":18789/", f":{served.gateway.port}/")

    printed = await served.program("bash", "-c", here)

    if "stream" in command:
        assert printed.endswith("data: [DONE]\n\n")
        lines = [line for line in printed.splitlines() if line.startswith("data: {")]
        deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines]
        assert "".join(delta.get("content") or "" for delta in deltas) == "Hello!"
    else:
        assert json.loads(printed)["choices"][0]["message"]["content"] == "Hello!"


@pytest.mark.e2e
async def test_the_start_message_prints_a_command_that_works_as_it_is(served: Served) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    printed = "".join(served.gateway.out)
    command = printed[printed.index("curl ") :].split("\n\n")[0]
    assert served.token not in printed

    answered = await served.program("bash", "-c", command)

    assert "data: [DONE]" in answered


@pytest.mark.e2e
async def test_a_program_for_the_sibling_gateway_works_as_it_is(served: Served) -> None:
    packages = await asyncio.to_thread(node_packages)
    program = str(CLIENTS / "openclaw_node.mjs")

    printed = await served.program("node", program, NODE_PACKAGES=str(packages))

    seen: dict[str, Any] = json.loads(printed)
    assert seen["connected"] is True
    assert seen["text"] == seen["whole"] == seen["again"] == "Hello!"
    assert "text" in seen["chunks"]
    assert "done" in seen["chunks"]
    assert "error" not in seen["chunks"]
    assert "agent:main:main" in seen["sessions"]
    assert seen["stranger"] == "WebSocket closed before handshake completed"


def node_packages() -> Path:
    """A folder in which the npm packages that are tried are installed; kept between runs."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node.js with npm on this machine")
    folder = ROOT / ".opensoul" / "node"
    installed = [(folder / "node_modules" / name).is_dir() for name in NODE_PACKAGES]
    if not all(installed):
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [f"{name}@{version}" for name, version in NODE_PACKAGES.items()]
        install = ["npm", "install", "--no-save", "--no-audit", "--no-fund", *wanted]
        done = subprocess.run(
            install, cwd=folder, env=dict(os.environ), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(
                f"npm could not install the packages: {done.stderr.strip().splitlines()[-1:]}"
            )
    return folder
