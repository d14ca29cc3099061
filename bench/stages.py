"""The time of the stages of a request, from the header Server-Timing.

    python -m bench.stages

Prints the median of every stage in milliseconds, for responses that are not streamed.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import aiohttp

from . import servers
from .process import TOKEN
from .wire import FAST, SHORT

_REQUESTS = 800
_CONCURRENCY = (1, 16)

Stages = dict[str, list[float]]


async def collect(port: int, model: str, concurrency: int) -> Stages:
    """The milliseconds of each stage in `_REQUESTS` requests."""
    told: Stages = defaultdict(list)
    left = iter(range(_REQUESTS))
    body = {"model": f"opensoul:{model}", "messages": [{"role": "user", "content": "Hello!"}]}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for _ in left:
                async with session.post(url, json=body, headers=headers) as answer:
                    await answer.read()
                    answer.raise_for_status()
                    for stage in answer.headers["server-timing"].split(", "):
                        name, _, duration = stage.partition(";dur=")
                        told[name].append(float(duration))

        await asyncio.gather(*(work() for _ in range(concurrency)))
    return told


def main() -> None:
    opensoul = Path(sys.executable).with_name("opensoul")
    with tempfile.TemporaryDirectory(prefix="stages-") as folder, ExitStack() as stack:
        home = Path(folder)
        address = servers.started(stack, home / "provider")
        gateway = stack.enter_context(servers.gateway(opensoul)(address, home / "gateway"))
        gateway.load(model=SHORT, concurrency=16, seconds=1)
        for model in (SHORT, FAST):
            for concurrency in _CONCURRENCY:
                told = asyncio.run(collect(gateway.port, model, concurrency))
                medians = (f"{name} {statistics.median(each):.2f}" for name, each in told.items())
                sys.stdout.write(f"{model}, {concurrency} at a time: {', '.join(medians)}\n")


if __name__ == "__main__":
    main()
