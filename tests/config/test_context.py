"""`agents.defaults.compaction` and `contextPruning`: what becomes of long histories."""

from __future__ import annotations

import pytest

from opensoul.domain.agents import Agent, CompactionSettings, PruningSettings
from tests.config.place import Place


def agent(place: Place, defaults: str) -> Agent:
    settings = place.load(f"{{ agents: {{ defaults: {{ {defaults} }} }} }}").settings
    return settings.agents.default


def test_a_history_is_compacted_by_default_and_nothing_is_pruned(place: Place) -> None:
    main = agent(place, "")

    assert main.compaction == CompactionSettings()
    assert main.pruning is None


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("mode: 'off'", CompactionSettings(enabled=False)),
        ("mode: 'default'", CompactionSettings(in_parts=False)),
        ("reserveTokens: 30000", CompactionSettings(reserve_tokens=30_000)),
        ("reserveTokens: 3000", CompactionSettings(reserve_tokens=20_000)),
        ("reserveTokens: 9, reserveTokensFloor: 0", CompactionSettings(reserve_tokens=9)),
        (
            "keepRecentTokens: 5, maxHistoryShare: 0.2",
            CompactionSettings(keep_recent_tokens=5, max_history_share=0.2),
        ),
    ],
)
def test_compaction_is_configured(place: Place, keys: str, expected: CompactionSettings) -> None:
    assert agent(place, f"compaction: {{ {keys} }}").compaction == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("mode: 'off', ttl: '1h'", None),
        ("mode: 'cache-ttl'", PruningSettings(ttl=300.0)),
        ("mode: 'cache-ttl', ttl: '90s'", PruningSettings(ttl=90.0)),
        ("mode: 'cache-ttl', ttl: '1.5h'", PruningSettings(ttl=5_400.0)),
        ("mode: 'cache-ttl', ttl: '7'", PruningSettings(ttl=420.0)),
        (
            "mode: 'cache-ttl', keepLastAssistants: 1, softTrimRatio: 0.1, hardClearRatio: 0.2, "
            "minPrunableToolChars: 3, tools: { allow: ['a'], deny: ['b*'] }, "
            "softTrim: { maxChars: 9, headChars: 4, tailChars: 5 }, "
            "hardClear: { enabled: false, placeholder: 'gone' }",
            PruningSettings(300.0, 1, 0.1, 0.2, 3, ("a",), ("b*",), 9, 4, 5, False, "gone"),
        ),
    ],
)
def test_pruning_is_configured(place: Place, keys: str, expected: PruningSettings | None) -> None:
    assert agent(place, f"contextPruning: {{ {keys} }}").pruning == expected


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ("compaction: { mode: 'never' }", "compaction.mode"),
        ("compaction: { maxHistoryShare: 0.95 }", "compaction.maxHistoryShare"),
        ("contextPruning: { ttl: 'soon' }", "contextPruning.ttl"),
        ("contextPruning: { softTrimRatio: 2 }", "contextPruning.softTrimRatio"),
    ],
)
def test_a_wrong_value_is_named(place: Place, keys: str, path: str) -> None:
    issue = place.issue(f"{{ agents: {{ defaults: {{ {keys} }} }} }}")

    assert issue.path == f"agents.defaults.{path}"
