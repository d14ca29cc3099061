"""The grants of API keys."""

from __future__ import annotations

from ..api_keys import ApiKey
from ..scopes import Scope
from .authentication import EVERY_AGENT, Grant

KEYS = "keys"
"""The name of their authenticator."""
API_KEY = "api-key"


KEY_PRINCIPAL = "key:"
"""How the ids of the Principals of keys begin; the id of the key follows."""


def key_principal(key_id: str) -> str:
    """The id of the Principal of a key."""
    return KEY_PRINCIPAL + key_id


def grant_of_key(key: ApiKey) -> Grant:
    """The key's grant. With operator.admin it is an operator's; any other one is confined to the
    sessions, runs and approvals of the key."""
    agents = EVERY_AGENT if key.agents is None else key.agents
    admin = key.agents is None and Scope.ADMIN in key.scopes
    scopes = ",".join(sorted(key.scopes))
    return Grant(
        id=key.id,
        principal=key_principal(key.id),
        scopes=key.scopes,
        agents=None if admin else agents,
        revision=f"{key.digest[:16]}/{scopes}/{','.join(sorted(agents))}",
        issuer=KEYS,
        method=API_KEY,
        key_id=key.id,
    )
