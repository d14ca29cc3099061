"""Files as people have them, written anew: what is in force of each, and which notes are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from opensoul.adapters.config import Loaded
from opensoul.domain.sessions.policy import ResetMode
from opensoul.domain.settings import AuthMode
from opensoul.domain.tools import SandboxMode

from .place import Place, agent, refs

FILES = Path(__file__).parent / "files"


def _no_key(provider: str, variable: str) -> str:
    return (
        f"There is no API key for the provider `{provider}`, so its calls will fail: set "
        f"{variable} or models.providers.{provider}.apiKey."
    )


def secret_of(loaded: Loaded) -> str:
    secret = loaded.settings.auth.secret
    assert secret is not None
    return secret.reveal()


def setup_wizard(loaded: Loaded) -> None:
    settings = loaded.settings
    assert refs(loaded) == ["openai/gpt-5.2"]
    assert agent(loaded).workspace.endswith("/.openclaw/workspace")
    assert (settings.auth.mode, secret_of(loaded)) == (AuthMode.TOKEN, "5f2d0c8e4b6a7991")
    assert settings.listen.port == 18789
    assert settings.lanes.max_concurrent == 4
    assert settings.models.choose("GPT").ref == "openai/gpt-5.2"


def chat_bot(loaded: Loaded) -> None:
    settings = loaded.settings
    assert refs(loaded) == ["openai/gpt-5-mini", "openai/gpt-5.2"]
    assert agent(loaded).instructions == "You are Clawd. Your theme: space lobster."
    assert settings.sessions.reset.at_hour == 5
    assert settings.sessions.reset_by_type["dm"].idle == 14_400.0
    assert settings.sessions.reset_by_type["group"].idle == 7_200.0


def many_agents(loaded: Loaded) -> None:
    settings = loaded.settings
    assert [one.id for one in settings.agents] == ["home", "work", "family"]
    assert settings.agents.default.id == "home"
    assert refs(loaded, "work") == ["openai/gpt-5-mini"]
    assert dict(agent(loaded, "family").models[0].params) == {"temperature": 0.2}


def local_models(loaded: Loaded) -> None:
    (target,) = agent(loaded).models
    assert target.ref == "ollama/qwen2.5-coder:32b"
    assert target.provider.base_url == "http://127.0.0.1:11434/v1"
    assert target.context_window == 32_768


def openrouter(loaded: Loaded) -> None:
    first, second = agent(loaded).models
    assert first.provider.base_url == "https://openrouter.ai/api/v1"
    assert first.model == "anthropic/claude-sonnet-4-5"
    assert first.provider.api_key is not None
    assert first.provider.api_key.reveal() == "sk-or-0123"
    assert second.model == "google/gemini-3-flash-preview"


def anthropic_only(loaded: Loaded) -> None:
    assert refs(loaded) == ["anthropic/claude-opus-4-6", "anthropic/claude-sonnet-4-5"]
    assert agent(loaded).models[0].provider.base_url == "https://api.anthropic.com/v1"
    assert agent(loaded).timeout == 900.0
    assert agent(loaded).models[0].context_window == 150_000


def docker_proxies(loaded: Loaded) -> None:
    settings = loaded.settings
    assert secret_of(loaded) == "outside"
    assert settings.listen.hosts == ("0.0.0.0",)  # noqa: S104 - what the file asks for
    assert [str(network) for network in settings.trusted_proxies] == [
        "172.18.0.2/32",
        "10.0.0.0/8",
    ]
    assert settings.auth.lockout.max_attempts == 5
    assert settings.chat.enabled
    provider = agent(loaded).models[0].provider
    assert provider.base_url == "http://vllm:8000/v1"
    assert provider.api_key is not None
    assert provider.api_key.reveal() == "none"
    assert agent(loaded).workspace == "/data/workspace"


def tailscale(loaded: Loaded) -> None:
    settings = loaded.settings
    assert settings.listen.hosts == ("100.64.0.9",)
    assert (settings.auth.mode, secret_of(loaded)) == (AuthMode.PASSWORD, "outside")


def secret_references(loaded: Loaded) -> None:
    assert secret_of(loaded) == "outside"
    corp, openai = (target.provider for target in agent(loaded).models)
    assert corp.api_key is not None
    assert corp.api_key.reveal() == "corp-key"
    assert [(name, text.reveal()) for name, text in corp.headers] == [
        ("X-Team", "blue"),
        ("X-Access", "header-secret"),
    ]
    assert openai.api_key is not None
    assert openai.api_key.reveal() == "openai-key"


def automation(loaded: Loaded) -> None:
    assert refs(loaded) == ["openai/gpt-5.2"]
    (files,) = loaded.settings.mcp_servers
    assert (files.name, files.command, files.args[0]) == ("files", "npx", "-y")
    assert [(name, value.reveal()) for name, value in files.env] == [("A", "$A")]


def sandbox_tools(loaded: Loaded) -> None:
    assert {one.sandbox.mode for one in loaded.settings.agents} == {SandboxMode.ALL}
    assert [one.id for one in loaded.settings.agents] == ["main", "reader"]
    (rule,) = loaded.settings.sessions.send_policy.rules
    assert (rule.allow, rule.channel, rule.raw_key_prefix) == (False, "discord", "agent:reader:")


def entries(loaded: Loaded) -> None:
    settings = loaded.settings
    assert [one.id for one in settings.agents] == ["main", "ops"]
    assert settings.agents.default.id == "ops"
    assert agent(loaded, "ops").workspace == "/srv/agents/ops"
    assert settings.sessions.reset.mode is ResetMode.NONE
    assert secret_of(loaded) == "outside"


def opensoul(loaded: Loaded) -> None:
    settings = loaded.settings
    soul = agent(loaded, "soul")
    assert (soul.instructions, soul.timeout) == ("Be kind.", 30.0)
    assert dict(soul.models[0].params) == {"stop": ["$END", "%END%"]}
    assert settings.lanes.max_waiting == 3
    assert settings.shutdown_grace == 5.0
    assert settings.control.allowed_hosts == ("soul.example.com",)


@dataclass(frozen=True)
class File:
    """`inert` and `unknown`: the keys that are noted as such; `notes`: the other notes."""

    name: str
    holds: Callable[[Loaded], None]
    inert: str = ""
    unknown: str = ""
    notes: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


def _family_mode(place: str, mode: str) -> str:
    return (
        f"{place}.sandbox.mode `{mode}` does not exist here, so that `exec` and MCP servers that "
        "are programs refuse to run; use `bubblewrap`, or `off`."
    )


KEY = {"OPENAI_API_KEY": "k"}
ALL = [
    File(
        "setup-wizard",
        setup_wizard,
        "auth tools.web messages "
        "commands.native commands.nativeSkills commands.restart commands.ownerDisplay "
        "session.dmScope hooks gateway.tailscale gateway.nodes skills plugins",
        env=KEY,
    ),
    File(
        "chat-bot",
        chat_bot,
        "agents.defaults.typingMode "
        "agents.defaults.heartbeat agents.list[].identity.emoji agents.list[].groupChat channels "
        "messages web session.scope session.maintenance session.identityLinks",
        notes=(
            "agents.defaults.thinkingDefault `adaptive` has no effect: it is none of the known "
            "levels.",
            _no_key("openai", "OPENAI_API_KEY"),
        ),
    ),
    File(
        "many-agents",
        many_agents,
        "agents.defaults.models.*.agentRuntime agents.defaults.sandbox.scope "
        "agents.defaults.cliBackends "
        "agents.list[].agentDir "
        "agents.list[].runtime agents.list[].sandbox.workspaceAccess bindings broadcast acp",
        "agents.list[].params",
        notes=(_family_mode("agents.list.2", "all"), _family_mode("agents.defaults", "non-main")),
        env=KEY,
    ),
    File(
        "local-models",
        local_models,
        "models.providers.*.injectNumCtxForOpenAICompat "
        "models.providers.*.models[].cost.cacheWrite models.bedrockDiscovery "
        "agents.defaults.models.*.streaming agents.defaults.memorySearch",
        notes=(
            "models.providers.lmstudio has the api `openai-responses`, which is not available "
            "here; use `openai-completions`, which the same providers mostly answer.",
        ),
    ),
    File(
        "openrouter",
        openrouter,
        "env.shellEnv agents.defaults.imageModel agents.defaults.imageGenerationModel "
        "agents.defaults.pdfModel tools.web tools.media talk "
        "browser",
        "agents.defaults.pdfMaxPages",
    ),
    File(
        "anthropic-only",
        anthropic_only,
        "auth agents.defaults.elevatedDefault agents.defaults.humanDelay ui update",
        notes=(_no_key("anthropic", "ANTHROPIC_API_KEY"),),
    ),
    File(
        "docker-proxies",
        docker_proxies,
        "gateway.auth.rateLimit.exemptLoopback gateway.allowRealIpFallback "
        "gateway.controlUi.enabled gateway.controlUi.basePath "
        "gateway.controlUi.dangerouslyAllowHostHeaderOriginFallback "
        "gateway.http.endpoints.responses.maxUrlParts "
        "gateway.http.securityHeaders gateway.channelHealthCheckMinutes gateway.tools.deny "
        "logging.redactSensitive diagnostics",
        "models.providers.*.models[].compat.thinkingFormat agents.defaults.model.timeoutMs",
        env={"OPENCLAW_GATEWAY_TOKEN": "outside"},
    ),
    File(
        "tailscale",
        tailscale,
        "gateway.auth.allowTailscale gateway.tailscale gateway.controlUi.allowInsecureAuth "
        "gateway.controlUi.root gateway.remote gateway.push gateway.reload.deferralTimeoutMs "
        "discovery nodeHost canvasHost",
        env=KEY | {"OPENCLAW_GATEWAY_PASSWORD": "outside"},
    ),
    File(
        "secret-references",
        secret_references,
        "channels",
        "secrets.providers.*.timeoutMs secrets.providers.*.command secrets.providers.*.args "
        "secrets.providers.*.jsonOnly secrets.defaults.exec secrets.resolution",
        env={"GATEWAY_SECRET": "outside", "OPENAI_KEY": "openai-key"},
    ),
    File(
        "automation",
        automation,
        "hooks cron skills plugins memory approvals cli media audio "
        "commands.mcp commands.plugins commands.ownerAllowFrom commands.ownerDisplay "
        "commands.ownerDisplaySecret",
        "agents.defaults.additionalSystemPrompt",
        env=KEY,
    ),
    File(
        "sandbox-tools",
        sandbox_tools,
        "agents.defaults.sandbox.backend agents.defaults.sandbox.scope "
        "agents.defaults.sandbox.workspaceAccess agents.defaults.sandbox.docker "
        "agents.defaults.sandbox.browser agents.defaults.sandbox.prune "
        "agents.defaults.elevatedDefault agents.defaults.embeddedPi agents.list[].tools.fs "
        "tools.exec.host tools.elevated tools.loopDetection accessGroups",
        "tools.exec.strictInlineEval",
        notes=(_family_mode("agents.defaults", "all"),),
        env=KEY,
    ),
    File(
        "entries-2026-9",
        entries,
        "agents.ownership agents.defaults.modelPolicy agents.defaults.modelSelectionScope "
        "agents.defaults.heartbeat session.dmScope transcripts",
        env=KEY | {"CLAW_TOKEN": "outside"},
    ),
    File(
        "opensoul",
        opensoul,
        "gateway.controlUi.continuity",
        env={"OPENSOUL_GATEWAY_TOKEN": "outside"},
    ),
]


@pytest.mark.parametrize("file", ALL, ids=lambda file: file.name)
def test_a_real_file_is_in_force_with_exactly_these_notes(place: Place, file: File) -> None:
    place.env |= file.env
    place.tailnet = "100.64.0.9"
    (place.home / "secrets.json").write_text('{"providers": {"corp": {"apiKey": "corp-key"}}}')
    (place.home / "header.txt").write_text("header-secret\n")
    loaded = place.load((FILES / f"{file.name}.json5").read_text(encoding="utf-8"))
    file.holds(loaded)
    inert = [note for note in loaded.settings.notes if " has no effect here" in note]
    unknown = [note for note in loaded.settings.notes if " is not known here" in note]
    others = [note for note in loaded.settings.notes if note not in (*inert, *unknown)]
    assert [note.partition(" ")[0] for note in inert] == file.inert.split()
    assert [note.partition(" ")[0] for note in unknown] == file.unknown.split()
    assert tuple(others) == file.notes


def test_every_file_has_its_test() -> None:
    assert {path.stem for path in FILES.iterdir()} == {file.name for file in ALL}
