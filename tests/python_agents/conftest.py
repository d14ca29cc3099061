"""Agents that are written into a folder of the test and served by a real Gateway."""

from __future__ import annotations

import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.serving import config

Write = Callable[[str], str]
"""Writes the text of a module; returns its name."""


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Each module has a name of its own, and is forgotten behind the test."""
    names: list[str] = []

    def module(text: str) -> str:
        name = f"agents_{uuid.uuid4().hex[:12]}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        names.append(name)
        return name

    yield module
    for name in names:
        sys.modules.pop(name, None)
    while str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def configured(*runners: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A configuration with an agent for each runner: `main`, then `a1`, ..."""
    agents = [
        {"id": "main" if not number else f"a{number}", "runner": {"use": "python", **runner}}
        for number, runner in enumerate(runners)
    ]
    return config(agents={"list": agents}, **more)
