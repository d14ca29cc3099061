"""Who may do what: principals, scopes, credentials, addresses and lockout."""

from ..scopes import ALL_SCOPES, Scope, covers
from .addresses import ClientAddress, Network, client_address, stands_for_many
from .authentication import (
    EVERY_AGENT,
    Credential,
    DeviceCredential,
    Grant,
    Principal,
    authorize,
)
from .keys import KEY_PRINCIPAL, KEYS, grant_of_key, key_principal
from .lockout import Lockout, owner_of
from .policy import NEEDS, Action, Resource, may, require
from .shared_secret import SHARED_SECRET, SharedSecret, is_local

__all__ = [
    "ALL_SCOPES",
    "EVERY_AGENT",
    "KEYS",
    "KEY_PRINCIPAL",
    "NEEDS",
    "SHARED_SECRET",
    "Action",
    "ClientAddress",
    "Credential",
    "DeviceCredential",
    "Grant",
    "Lockout",
    "Network",
    "Principal",
    "Resource",
    "Scope",
    "SharedSecret",
    "authorize",
    "client_address",
    "covers",
    "grant_of_key",
    "is_local",
    "key_principal",
    "may",
    "owner_of",
    "require",
    "stands_for_many",
]
