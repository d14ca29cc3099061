"""What becomes of the samples: figures, verdicts, the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import orjson

from bench import chart, machine
from bench.report import figures, load_lines, ratios, special_lines


def a_round(rps: float, cpu_ms: float) -> dict[str, Any]:
    spread = {"p50": 2.0, "p90": 3.0, "p99": 4.0, "max": 5.0}
    told: dict[str, Any] = {"rps": rps, "cpu_ms": cpu_ms, "busy": 0.9, "written": 12_000.0}
    return told | {"latency_ms": spread, "first_token_ms": spread}


def side_by_side() -> dict[str, list[dict[str, Any]]]:
    return {
        "yardstick": [a_round(1_000, 1.0), a_round(900, 1.1), a_round(1_100, 0.9)],
        "gateway": [a_round(500, 1.5), a_round(450, 2.2), a_round(660, 1.8)],
    }


def test_ratios_compare_what_was_measured_at_the_same_time() -> None:
    assert ratios(side_by_side(), "cpu_ms") == [1.5, 2.0, 2.0]
    assert any(
        "x 2.00   (rounds: 1.50 2.00 2.00)" in s for s in load_lines("stream-16", side_by_side())
    )


def test_a_wanted_figure_is_met_or_missed() -> None:
    found = {figure.name: figure for figure in figures({"stream-16": side_by_side()})}
    assert not found["stream-16, throughput to the yardstick"].met
    assert not found["stream-16, CPU to the yardstick"].met
    assert found["stream-16, kB written per request"].met
    assert "MISSED stream-16, CPU to the yardstick: 2 (at most 1.7)" in str(
        [figure.line for figure in found.values()]
    )


def test_the_longer_body_is_taken_off_a_long_session() -> None:
    rounds = {
        "yardstick": [{"cpu_ms": 1.5, "empty_cpu_ms": 0.5}],
        "gateway": [{"cpu_ms": 4.0, "empty_cpu_ms": 2.0}],
    }
    (figure,) = figures({"session-2000": rounds})
    assert figure.reached == 1.5
    assert figure.met


def test_resent_messages_are_compared_with_a_request_without_a_session() -> None:
    rounds = {"gateway": [{"cpu_ms": 6.0, "branch_cpu_ms": 14.0, "alone_cpu_ms": 10.0}]}
    resent, again = figures({"resent-2000": rounds})
    assert (resent.reached, again.reached) == (0.6, 1.4)
    assert (resent.met, again.met) == (True, False)


def test_every_special_figure_is_told() -> None:
    rounds = {"gateway": [{"idle": 80e6, "delay_ms": {"p50": 0.5}, "ready": 0.61}]}
    text = "\n".join(special_lines("resident", rounds))
    assert "idle 80.0 MB" in text
    assert "delay_ms p50 0.5" in text
    assert "ready 0.61 s" in text


def test_the_picture_is_made_from_the_newest_results(tmp_path: Path) -> None:
    about = {"when": "2026-01-02 03:04 UTC", "machine": machine.machine(), "pace": {"rounds": 3}}
    for name, cases in (("run-1", {}), ("run-2", {"stream-16": side_by_side()})):
        (tmp_path / f"{name}.json").write_bytes(orjson.dumps(about | {"cases": cases}))
    run = chart.newest("run", tmp_path)
    assert run is not None
    assert chart.newest("peers", tmp_path) is None
    picture = chart.svg(chart.panels(run, None), chart.caption(run))
    ElementTree.fromstring(picture)  # noqa: S314 - our own
    assert "50 chunks, 16 at a time" in picture
    assert "OpenSoul" in picture
    assert "LiteLLM" not in picture


def test_the_machine_is_described_without_a_name_or_a_path() -> None:
    told = orjson.dumps(machine.machine()).decode()
    assert str(Path.home()) not in told
    assert "/" not in told.replace("GenuineIntel/", "")
