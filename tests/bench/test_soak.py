"""What counts as flat, and that the long programs work at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from bench.flatness import Allowance, trend
from bench.process import ROOT
from bench.soak import ALLOWANCES, Sample, line, trends

TIMES = [float(second) for second in range(0, 200, 10)]
ALLOWANCE = Allowance(ratio=0.1, least=1.0)


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        ([100.0] * 20, True),
        ([10.0 * min(n, 5) for n in range(20)], True),  # It grows during the warm-up only.
        ([100.0 + (n % 2) * 50 for n in range(20)], True),
        ([100.0] * 19 + [1_000.0], True),  # One outlier.
        ([200.0 - n for n in range(20)], True),
        ([100.0 + 0.5 * n for n in range(20)], True),  # 7 % in the time that counts.
        ([100.0 + 2 * n for n in range(20)], False),
        ([100.0 + 2 * n + (n % 2) * 20 for n in range(20)], False),
        ([100.0 + 40 * (n // 8) for n in range(20)], False),  # Steps.
    ],
)
def test_a_figure_is_flat_that_grows_little_after_the_warm_up(
    values: list[float], flat: bool
) -> None:
    assert trend(TIMES, values, ALLOWANCE).flat is flat


def test_small_figures_may_grow_by_a_fixed_amount() -> None:
    assert trend(TIMES, [n / 20 for n in range(20)], ALLOWANCE).flat


def test_too_few_samples_are_no_verdict() -> None:
    with pytest.raises(ValueError, match="too few"):
        trend(TIMES[:4], [1.0] * 4, ALLOWANCE)
    with pytest.raises(ValueError, match="too few"):
        trends([])


def samples(**growth: float) -> list[Sample]:
    """Figures of which those named grow by so much each sample."""
    return [
        {"at": at, "runs": 100.0 * n}
        | {name: 1e7 + growth.get(name, 0.0) * n for name in ALLOWANCES}
        for n, at in enumerate(TIMES)
    ]


@pytest.mark.parametrize("name", ["rss", "descriptors", "threads", "opensoul.sqlite3"])
def test_a_growing_figure_is_reported_by_its_name(name: str) -> None:
    found = trends(samples(**{name: 2e6}))
    assert [one for one, figure in found.items() if not figure.flat] == [name]
    assert "NOT FLAT" in line(name, found[name])


def test_the_run_log_may_grow_by_the_records_of_its_runs() -> None:
    # 20 samples with 100 runs each leave 1,400 runs after the warm-up, so 1.3 MiB beyond 2 MiB.
    assert trends(samples(**{"runs.sqlite3": 2e5}))["runs.sqlite3"].flat
    assert not trends(samples(**{"runs.sqlite3": 4e5}))["runs.sqlite3"].flat


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_few_kills_violate_nothing() -> None:
    done = run("bench.chaos", "--kills", "4", "--seed", "1", "--check-every", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "After 4 kills (seed 1): 0 violations" in done.stdout


@pytest.mark.slow
def test_a_short_soak_writes_its_samples(tmp_path: Path) -> None:
    out = tmp_path / "samples.json"
    done = run("bench.soak", "--minutes", "0.15", "--every", "0.5", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(orjson.loads(out.read_bytes())["samples"]) >= 10
