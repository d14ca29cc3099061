"""`GET /metrics`, for Prometheus."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dependency_injector import providers

from opensoul.adapters.transports.metrics import exposition
from opensoul.domain.errors import StoreFailed
from opensoul.domain.ports import Metric, MetricKind
from tests.app.serving import SECRET, Served, config, serving

ECHO = {"list": [{"id": "main", "runner": "echo"}]}
_LINE = re.compile(r"(?P<name>[a-z_]+) (?P<value>[0-9.e+-]+|nan)")


async def scraped(served: Served) -> Mapping[str, float]:
    """The values by name. Each has a help and a type before it."""
    async with served.client.get("/metrics", headers=served.authorization) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = (await response.text()).splitlines()
    values = {}
    for help_, type_, line in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        found = _LINE.fullmatch(line)
        assert found is not None
        name = found["name"]
        assert help_.startswith(f"# HELP {name} ")
        assert type_ in (f"# TYPE {name} gauge", f"# TYPE {name} counter")
        values[name.removeprefix("opensoul_")] = float(found["value"])
    return values


async def test_a_gateway_measures_itself(tmp_path: Path) -> None:
    async with serving(tmp_path, config(agents=ECHO)) as served:
        await served.text(user="u")
        values = await scraped(served)
    assert values["node_slots"] > 1
    assert {name: values[name] for name in values if name != "node_slots"} == {
        "store_up": 1,
        "runs_waiting": 0,
        "runs_queued": 0,
        "runs_running": 0,
        "runs_paused": 0,
        "node_runs": 0,
        "lease_losses_total": 0,
        "take_overs_total": 0,
    }


async def test_metrics_are_for_readers(tmp_path: Path) -> None:
    keys = [{"name": "one", "key": f"osk_{'a' * 40}", "agents": ["main"]}]
    whole = config(agents=ECHO)
    whole["gateway"]["auth"] = {"token": SECRET, "keys": keys}
    async with serving(tmp_path, whole) as served:
        async with served.client.get("/metrics") as stranger:
            assert stranger.status == 401
        restricted = {"Authorization": f"Bearer {keys[0]['key']}"}
        async with served.client.get("/metrics", headers=restricted) as refused:
            assert refused.status == 403


class Away:
    """A Meter of a store that cannot be read."""

    async def metrics(self) -> Sequence[Metric]:
        raise StoreFailed("away")


async def test_what_cannot_be_measured_is_left_out(tmp_path: Path) -> None:
    class Steady:
        async def metrics(self) -> Sequence[Metric]:
            return (Metric("steady", "Here.", 2),)

    meters = providers.Object([Away(), Steady()])
    async with serving(tmp_path, config(agents=ECHO), meters=meters) as served:
        assert await scraped(served) == {"store_up": 0, "steady": 2}


def test_a_help_of_several_lines_is_one_line() -> None:
    metric = Metric("a_total", "one\\\ntwo", 1e15, MetricKind.COUNTER)
    assert exposition([metric]).splitlines() == [
        "# HELP opensoul_a_total one\\\\\\ntwo",
        "# TYPE opensoul_a_total counter",
        "opensoul_a_total 1e+15",
    ]
