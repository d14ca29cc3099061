"""Every command runs in an empty home, with none of the developer's own variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .command import Home


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
