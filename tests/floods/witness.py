"""Another client, in a process of its own: `python -m tests.floods.witness PORT`.

It asks `/healthz` every 50 ms until its input ends, and prints the longest that an answer took, in
seconds.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.05
_ROOT = Path(__file__).parents[2]


@dataclass
class Waited:
    """`longest`: seconds; known once the witness has ended."""

    longest: float = 0.0


@contextmanager
def witnessing(port: int) -> Iterator[Waited]:
    """A witness for as long as the context lasts."""
    waited = Waited()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.floods.witness", str(port)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asking\n"
        try:
            yield waited
        finally:
            out, _ = process.communicate()
    waited.longest = float(out)


def _longest(port: int, over: threading.Event) -> float:
    connection, longest = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0.0
    while not over.is_set():
        began = time.perf_counter()
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        assert response.status == 200
        response.read()
        longest = max(longest, time.perf_counter() - began)
        over.wait(EVERY)
    return longest


def _main() -> None:
    over = threading.Event()

    def wait_for_end_of_input() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    print("asking", flush=True)
    print(_longest(int(sys.argv[1]), over))


if __name__ == "__main__":
    _main()
