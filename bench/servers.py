"""The measured servers and their provider."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import orjson

from .process import TOKEN, Server, free_port
from .wire import FAST, PACED, SHORT

Make = Callable[[str, Path], Server]
"""Creates a server from the provider's base URL and a folder for its state."""


def provider(home: Path) -> Server:
    """The mock provider."""
    port = free_port()
    command = [sys.executable, "-m", "bench.provider", "--port", str(port)]
    return Server("provider", command, port, home, ready="/")


def yardstick(address: str, home: Path) -> Server:
    """See bench/yardstick.py."""
    port = free_port()
    command = [sys.executable, "-m", "bench.yardstick", "--port", str(port), "--provider", address]
    return Server("yardstick", command, port, home)


def gateway(opensoul: Path) -> Make:
    """The Gateway with authentication, SQLite and the default logging."""

    def make(address: str, home: Path) -> Server:
        port = free_port()
        home.mkdir(parents=True, exist_ok=True)
        (home / "opensoul.json").write_bytes(orjson.dumps(gateway_config(address)))
        own = {
            "HOME": str(home),
            "OPENSOUL_STATE_DIR": str(home / "state"),
            "OPENSOUL_CONFIG_PATH": str(home / "opensoul.json"),
        }
        command = [str(opensoul), "gateway", "run", "--port", str(port)]
        return Server("gateway", command, port, home, own)

    return make


def gateway_config(address: str) -> dict[str, object]:
    """One agent per model of the provider, named after the model."""
    models = [SHORT, FAST, PACED, "slow-10", "slow-30"]
    return {
        "gateway": {
            "auth": {"token": TOKEN},
            "http": {
                "endpoints": {
                    "chatCompletions": {"enabled": True},
                    "responses": {"enabled": True},
                }
            },
        },
        "agents": {
            "defaults": {"maxConcurrent": 1_000},
            "list": [{"id": name, "model": {"primary": f"bench/{name}"}} for name in models],
        },
        "models": {
            "providers": {
                "bench": {
                    "baseUrl": address,
                    "apiKey": TOKEN,
                    "models": [{"id": name} for name in models],
                }
            }
        },
    }


def started(stack: ExitStack, home: Path) -> str:
    """Start a provider for the lifetime of the stack; returns its base URL."""
    return f"http://127.0.0.1:{stack.enter_context(provider(home)).port}/v1"
