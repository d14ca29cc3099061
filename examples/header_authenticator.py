"""An authenticator of your own: a reverse proxy logs people in and names them in a header.

Name it in your package's metadata, and then in the configuration:

    [project.entry-points."opensoul.authenticators"]    gateway: { auth: {
    proxy = "header_authenticator:HeaderAuthenticator"    authenticators: ["proxy"] } }
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from opensoul.api import ALL_SCOPES, Credential, Grant, Scope

HEADER = b"x-forwarded-user"
PEOPLE: Mapping[str, Grant] = MappingProxyType(
    {
        "ada": Grant("ada", principal="ada", scopes=ALL_SCOPES),
        # Only this agent, and of its sessions and runs only grace's own.
        "grace": Grant(
            "grace",
            principal="grace",
            scopes=frozenset({Scope.READ, Scope.WRITE}),
            agents=frozenset({"guide"}),
        ),
    }
)


class HeaderAuthenticator:
    """Fits the port `Authenticator`; nothing is inherited, the shape is enough."""

    def __init__(self, people: Mapping[str, Grant] = PEOPLE) -> None:
        self.people = dict(people)

    async def authenticate(self, credential: Credential) -> Grant | None:
        """The grant of the person in the header.

        The header counts from a proxy of `gateway.trustedProxies` alone, since anybody can send it.
        The proxy has to remove the header from what its own clients send.
        """
        if not credential.client.through_proxy:
            return None
        name = credential.headers.get(HEADER, b"").decode("utf-8", "replace")
        return self.people.get(name)

    def stands(self, grant: Grant) -> bool:
        """False ends connections and streams of a person who was removed, or has another grant."""
        current = self.people.get(grant.id)
        return current is not None and current.revision == grant.revision
