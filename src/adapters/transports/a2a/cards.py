"""Agent cards.

The public card is the same for every agent, whether it exists or not: a stranger finds out where
the endpoint is and how to authenticate, and nothing about the agents. The extended card, for
clients with a credential, describes the agent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    APIKeySecurityScheme,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)

from ....domain.agents import Agent
from ....domain.settings import AuthMode, Settings
from ..http.context import RequestContext
from ..http.json_text import dumps

_VERSIONS = ("1.0", "0.3")
_VERSION = "1"
"""Of the agents: they have none of their own."""
_TEXT = "text/plain"
_DATA = "application/json"
_HOST = re.compile(r"[A-Za-z0-9._~:\[\]-]{1,255}")


def public_card(url: str, settings: Settings) -> AgentCard:
    """The card of the endpoint at `url` for strangers."""
    return _card(
        url,
        settings,
        "OpenSoul",
        "An agent behind an OpenSoul Gateway. Its extended card describes it to clients with a "
        "credential.",
        AgentSkill(
            id="conversation",
            name="Conversation",
            description="Answers messages.",
            tags=["conversation"],
        ),
        (_TEXT, _DATA),
    )


def extended_card(url: str, settings: Settings, agent: Agent) -> AgentCard:
    """The card of `agent`, which the endpoint at `url` serves, for authenticated clients."""
    modes = dict.fromkeys((_TEXT, _DATA, *settings.chat.images.types, *settings.chat.files.types))
    return _card(
        url,
        settings,
        agent.name,
        f"The agent {agent.id} of an OpenSoul Gateway.",
        AgentSkill(
            id=agent.id,
            name=agent.name,
            description=f"A conversation with the agent {agent.id}, which uses its own tools.",
            tags=["conversation"],
        ),
        tuple(modes),
    )


def public_body(card: AgentCard) -> bytes:
    """A card as it is served, with the fields of both versions."""
    return dumps(agent_card_to_dict(card))


def base_url(context: RequestContext, scheme: str, host: str) -> str:
    """The address that the client has used, which a trusted proxy may have changed."""
    if context.client.through_proxy:
        scheme = _first(context, b"x-forwarded-proto") or scheme
        host = _first(context, b"x-forwarded-host") or host
    scheme = "https" if scheme.lower() == "https" else "http"
    return f"{scheme}://{host if _HOST.fullmatch(host) else 'localhost'}"


def _first(context: RequestContext, name: bytes) -> str:
    return context.headers.get(name, b"").decode("latin-1").partition(",")[0].strip()


def _card(
    url: str,
    settings: Settings,
    name: str,
    description: str,
    skill: AgentSkill,
    input_modes: Sequence[str],
) -> AgentCard:
    card = AgentCard(
        name=name,
        description=description,
        version=_VERSION,
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version=version)
            for version in _VERSIONS
        ],
        capabilities=AgentCapabilities(
            streaming=True, push_notifications=False, extended_agent_card=True
        ),
        default_input_modes=input_modes,
        default_output_modes=[_TEXT],
        skills=[skill],
    )
    if settings.auth.mode is not AuthMode.NONE:
        schemes = {
            "bearer": SecurityScheme(
                http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="bearer")
            ),
            "apiKey": SecurityScheme(
                api_key_security_scheme=APIKeySecurityScheme(location="header", name="x-api-key")
            ),
        }
        for key, scheme in schemes.items():
            card.security_schemes[key].CopyFrom(scheme)
            card.security_requirements.append(SecurityRequirement(schemes={key: StringList()}))
    return card
