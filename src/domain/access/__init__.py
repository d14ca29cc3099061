"""Who may do what: principals, scopes, credentials, addresses and lockout."""

from .addresses import ClientAddress, Network, client_address, stands_for_many
from .authentication import (
    ALL_SCOPES,
    Credential,
    Principal,
    Scope,
    authenticate,
    authorize,
    count_failure,
    covers,
    recognise,
)
from .lockout import Lockout, owner_of

__all__ = [
    "ALL_SCOPES",
    "ClientAddress",
    "Credential",
    "Lockout",
    "Network",
    "Principal",
    "Scope",
    "authenticate",
    "authorize",
    "client_address",
    "count_failure",
    "covers",
    "owner_of",
    "recognise",
    "stands_for_many",
]
