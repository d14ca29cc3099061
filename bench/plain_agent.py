"""What the adapter of Python functions costs: the processor time of a Gateway for a streamed answer
of 50 chunks, from an async generator function and from the runner `echo`.

    python -m bench.plain_agent [--isolation thread] [--concurrency 16] [--rounds 9] [--seconds 2]

Both agents are of one Gateway, which is a process of its own, and are loaded in turn. The ratio of
the medians may be 1.15; the exit status is 1 above that. With `process`, the time of the agent's
process is not in the figure.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import orjson

from .process import TOKEN, Server, free_port
from .run import OPENSOUL

MOST = 1.15
CHUNKS = 50
_ECHOED = "[echo after 0 messages] "
TEXT = "tok " * (CHUNKS - len(_ECHOED.split()))
"""The question whose echo has so many words."""
CODE = f"""
async def agent(run):
    for word in range({CHUNKS}):
        yield "tok "
"""


def gateway(home: Path, isolation: str) -> Server:
    """A Gateway with both agents."""
    (home / "bench_plain_agent.py").write_text(CODE)
    runner = {"use": "python", "target": "bench_plain_agent:agent", "isolation": isolation}
    config = {
        "gateway": {
            "auth": {"token": TOKEN},
            "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
        },
        "agents": {
            "defaults": {"maxConcurrent": 1_000},
            "list": [{"id": "echo", "runner": "echo"}, {"id": "plain", "runner": runner}],
        },
    }
    (home / "opensoul.json").write_bytes(orjson.dumps(config))
    port = free_port()
    own = {
        "HOME": str(home),
        "OPENSOUL_STATE_DIR": str(home / "state"),
        "OPENSOUL_CONFIG_PATH": str(home / "opensoul.json"),
    }
    command = [str(OPENSOUL), "gateway", "run", "--port", str(port)]
    return Server("gateway", command, port, home, own)


def milliseconds(server: Server, agent: str, *, seconds: float, concurrency: int) -> float:
    """The processor time of one answer."""
    figures = server.load(
        model=agent, text=TEXT, stream=True, seconds=seconds, warm=0.5, concurrency=concurrency
    )
    cpu: float = figures["cpu_ms"]
    return cpu


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the adapter of Python functions.")
    parser.add_argument("--isolation", choices=["thread", "inline", "process"], default="thread")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    chosen = parser.parse_args()
    pace = {"seconds": chosen.seconds, "concurrency": chosen.concurrency}
    times: dict[str, list[float]] = {"echo": [], "plain": []}
    with (
        tempfile.TemporaryDirectory(prefix="plain-agent-") as folder,
        gateway(Path(folder), chosen.isolation) as server,
    ):
        for number in range(chosen.rounds):
            for agent in sorted(times, reverse=bool(number % 2)):
                times[agent].append(milliseconds(server, agent, **pace))
    echo, plain = (statistics.median(times[agent]) for agent in ("echo", "plain"))
    ratio = plain / echo
    sys.stdout.write(
        f"{CHUNKS} chunks: echo {echo:.2f} ms, a function {plain:.2f} ms of processor time "
        f"({chosen.isolation}): {ratio:.2f} times, at most {MOST:g}\n"
    )
    return 1 if ratio > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
