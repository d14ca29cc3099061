"""Builds what happens to long histories, from `agents.defaults`."""

from __future__ import annotations

import re
from typing import NamedTuple

from ....domain.agents import CompactionSettings, PruningSettings
from ..read import Building
from ..schema.agents import CompactionSection, PruningSection

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|h|d)?", re.IGNORECASE | re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


class Context(NamedTuple):
    compaction: CompactionSettings
    pruning: PruningSettings | None


def build_context(building: Building) -> Context:
    defaults = building.config.agents.defaults
    return Context(_compaction(defaults.compaction), _pruning(building, defaults.context_pruning))


def _compaction(section: CompactionSection) -> CompactionSettings:
    reserve = max(section.reserve_tokens or 0, section.reserve_tokens_floor)
    return CompactionSettings(
        enabled=section.mode != "off",
        in_parts=section.mode != "default",
        reserve_tokens=reserve,
        keep_recent_tokens=section.keep_recent_tokens,
        max_history_share=section.max_history_share,
    )


def _pruning(building: Building, section: PruningSection) -> PruningSettings | None:
    """None: nothing is pruned."""
    match = _DURATION.fullmatch(section.ttl.strip())
    if match is None:
        message = "must be a number and `s`, `m`, `h` or `d`, such as `5m`"
        building.report(message, "agents", "defaults", "contextPruning", "ttl")
    if match is None or section.mode == "off":
        return None
    return PruningSettings(
        ttl=float(match[1]) * _SECONDS[(match[2] or "m").lower()],
        keep_last_assistants=section.keep_last_assistants,
        soft_trim_ratio=section.soft_trim_ratio,
        hard_clear_ratio=section.hard_clear_ratio,
        min_prunable_chars=section.min_prunable_tool_chars,
        allow=tuple(section.tools.allow),
        deny=tuple(section.tools.deny),
        soft_max_chars=section.soft_trim.max_chars,
        soft_head_chars=section.soft_trim.head_chars,
        soft_tail_chars=section.soft_trim.tail_chars,
        hard_clear=section.hard_clear.enabled,
        placeholder=section.hard_clear.placeholder,
    )
