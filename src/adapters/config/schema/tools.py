"""`tools.*`: which tools agents may use. Checked and accepted; nothing of it has an effect yet."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from .fields import Anything, Count, Milliseconds, Ratio, Section, Whole, setting

Profile = Literal["minimal", "coding", "messaging", "full"]


class ToolScope(Section):
    """Lists of tool names. `allow` replaces what a wider scope allows, `alsoAllow` adds to it."""

    allow: list[str] | None = None
    also_allow: list[str] | None = None
    deny: list[str] | None = None

    @model_validator(mode="after")
    def _one_way_to_allow(self) -> Self:
        if self.allow and self.also_allow:
            raise ValueError("`allow` and `alsoAllow` cannot both list tools in one place")
        return self


class ProviderScope(ToolScope):
    profile: Profile | None = None


class Perplexity(Section):
    api_key: str | None = setting(None, "", secret=True)
    base_url: str | None = None
    model: str | None = None


class WebSearch(Section):
    enabled: bool | None = None
    provider: Literal["brave", "perplexity"] | None = None
    api_key: str | None = setting(None, "", secret=True)
    max_results: Count | None = None
    timeout_seconds: Count | None = None
    cache_ttl_minutes: Whole | None = None
    perplexity: Perplexity | None = None


class WebFetch(Section):
    enabled: bool | None = None
    max_chars: Count | None = None
    max_chars_cap: Count | None = None
    timeout_seconds: Count | None = None
    cache_ttl_minutes: Whole | None = None
    max_redirects: Whole | None = None
    user_agent: str | None = None


class Web(Section):
    search: WebSearch | None = None
    fetch: WebFetch | None = None


class AgentToAgent(Section):
    enabled: bool | None = None
    allow: list[str] | None = None


class Elevated(Section):
    enabled: bool | None = None
    allow_from: dict[str, list[str | int]] | None = None


class ApplyPatch(Section):
    enabled: bool | None = None
    allow_models: list[str] | None = None


class Exec(Section):
    host: Literal["sandbox", "gateway", "node"] | None = None
    security: Literal["deny", "allowlist", "full"] | None = None
    ask: Literal["off", "on-miss", "always"] | None = None
    node: str | None = None
    path_prepend: list[str] | None = None
    safe_bins: list[str] | None = None
    background_ms: Count | None = None
    timeout_sec: Count | None = None
    cleanup_ms: Count | None = None
    notify_on_exit: bool | None = None
    apply_patch: ApplyPatch | None = None


class AgentExec(Exec):
    approval_running_notice_ms: Milliseconds | None = None


class NestedTools(Section):
    tools: ToolScope | None = None


class _CommonTools(ProviderScope):
    by_provider: dict[str, ProviderScope] | None = None
    elevated: Elevated | None = None
    sandbox: NestedTools | None = None


class AgentTools(_CommonTools):
    exec: AgentExec | None = None


class Tools(_CommonTools):
    exec: Exec | None = None
    web: Web | None = None
    media: Anything | None = None
    links: Anything | None = None
    message: Anything | None = None
    agent_to_agent: AgentToAgent | None = None
    subagents: NestedTools | None = None


class SoftTrim(Section):
    max_chars: Whole | None = None
    head_chars: Whole | None = None
    tail_chars: Whole | None = None


class HardClear(Section):
    enabled: bool | None = None
    placeholder: str | None = None


class PruningTools(Section):
    allow: list[str] | None = None
    deny: list[str] | None = None


class ContextPruning(Section):
    mode: Literal["off", "cache-ttl"] | None = None
    ttl: str | None = None
    keep_last_assistants: Whole | None = None
    soft_trim_ratio: Ratio | None = None
    hard_clear_ratio: Ratio | None = None
    min_prunable_tool_chars: Whole | None = None
    tools: PruningTools | None = None
    soft_trim: SoftTrim | None = None
    hard_clear: HardClear | None = None
