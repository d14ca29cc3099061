"""The message of a ready Gateway: its address, its agents, and a command to try it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ....domain.agents import Agent, AgentDirectory
    from ....domain.settings import Settings

_QUESTION = "Say hello in one sentence."
_SWITCH = "gateway: { http: { endpoints: { chatCompletions: { enabled: true } } } }"


def start_message(
    settings: Settings,
    *,
    token: str | None,
    config: str | None = None,
    secret_from_options: bool = False,
) -> str:
    """The message, several lines without a line break at the end.

    `token` is printed in full; if None, the command calls `opensoul token show`, with the value of
    the option `config`, if any. `secret_from_options`: the secret came from the start command, so
    that no command can print it.
    """
    address = base_url(settings)
    lines = [f"OpenSoul Gateway is ready at {address}"]
    others = [_url(settings, host) for host in settings.listen.hosts[1:]]
    if others:
        lines.append(f"  also at {', '.join(others)}")
    lines += ["", "Agents", *_agents(settings.agents), ""]
    if settings.node.role == "worker":
        lines += ["This process is a worker (node.role): it executes what other nodes accept."]
    elif settings.chat.enabled:
        secret = _secret(settings, token, config, secret_from_options)
        lines += ["Try it", f"  {_curl(settings, secret)}"]
    else:
        lines += [
            "The chat endpoint, POST /v1/chat/completions, is off. To switch it on, write "
            "into the configuration file:",
            f"  {_SWITCH}",
        ]
    if settings.notes:
        lines += ["", "Notes", *(f"  - {note}" for note in settings.notes)]
    return "\n".join(lines)


def base_url(settings: Settings) -> str:
    """The URL for clients on this machine, without a trailing slash."""
    return _url(settings, settings.listen.hosts[0])


def _url(settings: Settings, host: str) -> str:
    address = ip_address(host)
    if address.is_unspecified:
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    name = f"[{address}]" if address.version == 6 else str(address)
    scheme = "http" if settings.listen.tls is None else "https"
    return f"{scheme}://{name}:{settings.listen.port}"


def _agents(agents: AgentDirectory) -> Iterator[str]:
    width = max(len(agent.id) for agent in agents)
    for agent in agents:
        default = "  (default)" if agent is agents.default else ""
        name = "" if agent.name in ("", agent.id) else f"{agent.name}, "
        yield f"  {agent.id:{width}}  {name}{_models(agent)}{default}"


def _models(agent: Agent) -> str:
    if agent.python is not None:
        return f"Python, {agent.python.target}"
    if not agent.models:
        return f"no model, runner {agent.runner}"
    primary, *fallbacks = [target.ref for target in agent.models]
    return f"{primary}, then {', '.join(fallbacks)}" if fallbacks else primary


def _secret(
    settings: Settings, token: str | None, config: str | None, from_options: bool
) -> str | None:
    """The secret for use in double quotes in a shell; None if there is none."""
    if settings.auth.secret is None:
        return None
    if token is not None:
        return _between_double_quotes(token)
    if from_options:
        return f"YOUR_{settings.auth.mode.upper()}"
    option = "" if config is None else f" --config {shlex.quote(config)}"
    return f"$(opensoul token show{option})"


def _curl(settings: Settings, secret: str | None) -> str:
    body = {
        "model": f"opensoul:{settings.agents.default.id}",
        "stream": True,
        "messages": [{"role": "user", "content": _QUESTION}],
    }
    tls = settings.listen.tls
    parts = ["curl -N", f"{base_url(settings)}/v1/chat/completions"]
    if tls is not None:
        parts.append(f"--cacert {shlex.quote(tls.cert_path)}")
    if secret is not None:
        parts.append(f'-H "Authorization: Bearer {secret}"')
    parts.append('-H "Content-Type: application/json"')
    parts.append(f"-d {shlex.quote(json.dumps(body, separators=(',', ':')))}")
    return " ".join(parts)


def _between_double_quotes(text: str) -> str:
    return "".join(f"\\{char}" if char in '\\"$`' else char for char in text)
