"""Draws the newest results as an SVG image for the README: `python -m bench.chart`.

The image shows processor time per request and throughput of the yardstick, the Gateway, and the
peers if they were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import orjson

from .report import median

RESULTS = Path(__file__).parent / "results"
PICTURE = RESULTS / "overview.svg"

_PANELS = (
    ("nonstream-16", "not streamed, 16 at a time"),
    ("stream-1", "50 chunks, one at a time"),
    ("stream-16", "50 chunks, 16 at a time"),
    ("stream-64", "50 chunks, 64 at a time"),
)
_NAMES = {"yardstick": "bare Quart", "gateway": "OpenSoul", "litellm": "LiteLLM"}
_COLOURS = {"yardstick": "#9aa5b1", "gateway": "#2f6fde", "litellm": "#d98e3f"}
_WIDTH, _LEFT, _BAR, _GAP = 760, 190, 16, 4
_HALF = 200
"""The length of the longest bar of a column."""
_COLUMNS = (("cpu_ms", "ms of processor time per request", 190), ("rps", "requests a second", 470))
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.t{font-weight:600;font-size:14px}"
    "@media(prefers-color-scheme:dark){text{fill:#9da7b3}}"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One server's medians in one case."""

    server: str
    cpu_ms: float
    rps: float


Panel = tuple[str, list[Bar]]


def newest(kind: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The newest results of a kind."""
    paths = sorted(folder.glob(f"{kind}-*.json"))
    return orjson.loads(paths[-1].read_bytes()) if paths else None


def panels(run: dict[str, Any], peers: dict[str, Any] | None) -> list[Panel]:
    """The measured cases with their bars."""
    found: list[Panel] = []
    for name, title in _PANELS:
        rounds = dict(run["cases"].get(name, {}))
        for server, figures in (peers or {"cases": {}})["cases"].get(name, {}).items():
            rounds.setdefault(server, figures)
        bars = [
            Bar(server, median(rounds[server], "cpu_ms"), median(rounds[server], "rps"))
            for server in _NAMES
            if server in rounds
        ]
        if bars:
            found.append((title, bars))
    return found


def svg(found: Sequence[Panel], caption: str) -> str:
    """The SVG text."""
    body: list[str] = []
    y = 64
    # Each panel has its own scale and shows numbers, since a peer may be fifty times slower.
    for title, bars in found:
        body.append(f'<text class="t" x="16" y="{y}">{escape(title)}</text>')
        y += 10
        for bar in bars:
            body.extend(_bar(bar, bars, y))
            y += _BAR + _GAP
        y += 26
    heads = [f'<text x="{x}" y="30">{escape(title)}</text>' for _, title, x in _COLUMNS]
    end = f'<text x="16" y="{y}">{escape(caption)}</text>'
    size = f'width="{_WIDTH}" height="{y + 20}" viewBox="0 0 {_WIDTH} {y + 20}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        "<title>Processor time and throughput of the Gateway and others</title>",
        f"<style>{_STYLE}</style>",
        *heads,
        *body,
        end,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bar(bar: Bar, bars: Sequence[Bar], y: int) -> Iterator[str]:
    yield f'<text x="{_LEFT - 12}" y="{y + 13}" text-anchor="end">{_NAMES[bar.server]}</text>'
    for column, _, x in _COLUMNS:
        value = float(getattr(bar, column))
        most = max(float(getattr(each, column)) for each in bars)
        length = max(value / most * _HALF, 1.0)
        shown = f"{value:.2f}" if column == "cpu_ms" else f"{value:,.0f}"
        yield (
            f'<rect x="{x}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2" '
            f'fill="{_COLOURS[bar.server]}"/>'
        )
        yield f'<text x="{x + length + 6:.1f}" y="{y + 13}">{shown}</text>'


def caption(run: dict[str, Any]) -> str:
    """The date and machine of the measurement."""
    machine = run["machine"]
    return (
        f"Medians of {run['pace']['rounds']} rounds, {run['when'][:10]}: one process each, "
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}"
    )


def main() -> None:
    run = newest("run")
    if run is None:
        raise SystemExit("There are no results yet: `make bench` makes some.")
    PICTURE.write_text(svg(panels(run, newest("peers")), caption(run)))


if __name__ == "__main__":
    main()
