"""Who may do what: principals, scopes, credentials, addresses and lockout."""

from .addresses import ClientAddress, Network, client_address, stands_for_many
from .authentication import (
    ALL_SCOPES,
    Credential,
    DeviceCredential,
    Grant,
    Principal,
    Scope,
    authorize,
    covers,
)
from .lockout import Lockout, owner_of
from .shared_secret import SHARED_SECRET, SharedSecret, is_local

__all__ = [
    "ALL_SCOPES",
    "SHARED_SECRET",
    "ClientAddress",
    "Credential",
    "DeviceCredential",
    "Grant",
    "Lockout",
    "Network",
    "Principal",
    "Scope",
    "SharedSecret",
    "authorize",
    "client_address",
    "covers",
    "is_local",
    "owner_of",
    "stands_for_many",
]
