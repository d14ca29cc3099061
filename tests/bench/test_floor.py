"""The floor answers as the load generator wants it, with every number of duties."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from bench import servers
from bench.floor import DUTIES, server
from bench.wire import FAST

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="the benchmark reads /proc"
)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ExitStack() as stack:
        yield servers.started(stack, tmp_path_factory.mktemp("provider"))


@pytest.mark.slow
@pytest.mark.parametrize("duties", [DUTIES.index("heads"), DUTIES.index("kept")])
def test_it_answers_and_keeps_what_it_is_told_to(
    provider: str, tmp_path: Path, duties: int
) -> None:
    with server(provider, tmp_path, duties) as floor:
        for stream in (True, False):
            told = floor.load(model=FAST, stream=stream, concurrency=2, requests=6)
            assert told["requests"] == 6
    with closing(sqlite3.connect(tmp_path / "sessions.sqlite3")) as sessions:
        (stored,) = sessions.execute("SELECT count(*) FROM turns").fetchone()
    assert stored == (12 if DUTIES[duties] == "kept" else 0)
