"""Every command runs in an empty home, with none of the developer's own variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import GatewayProcess

from .command import Home
from .scripted import CONFIG


@pytest.fixture
def home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Home:
    for name in list(os.environ):
        if name.startswith(("OPENSOUL_", "OPENCLAW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENSOUL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return Home(tmp_path, capsys)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A Gateway as a process of its own, one for all tests that only talk to it."""
    started = GatewayProcess(tmp_path_factory.mktemp("gateway"), CONFIG).start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def beside(gateway: GatewayProcess, home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A command line in the home of the Gateway that runs."""
    for name, value in gateway.env.items():
        if name.startswith(("OPENSOUL_", "HOME")):
            monkeypatch.setenv(name, value)
    return Home(gateway.home, home.capsys)
