"""The address of the Gateway and its credentials, from the options or else the configuration.

The configured secret is sent to the configured Gateway only: an address on the command line needs
its own secret, unless it is the same port of this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from ..common.banner import base_url
from ..common.configuration import load_config, locations_of
from ..common.errors import CommandError
from ..common.holder import serving_address
from ..common.state import Command, Seconds, State, common_options, remembered
from .secret_options import secret_options

if TYPE_CHECKING:
    from ....client import Options
    from ....client.options import Tls
    from ....domain.settings import Settings


READ = ("operator.read",)
WRITE = ("operator.write",)
ADMIN = ("operator.admin",)
PAIRING = ("operator.pairing",)
APPROVALS = ("operator.approvals",)
ALL = ("operator.admin", "operator.read", "operator.write", *APPROVALS, *PAIRING)

DEFAULT_TIMEOUT = 10.0

_ADDRESS = (
    remembered("--url", "wire_url", metavar="URL", help="The Gateway; default: as configured."),
    *secret_options("token", "to send with --url", prefix="wire_"),
    *secret_options("password", "to send with --url", prefix="wire_"),
)
_TIMEOUT = remembered(
    "--timeout",
    "wire_timeout",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help=f"How long to wait for the Gateway (default {DEFAULT_TIMEOUT:g}).",
)


def address_options(command: Command) -> Command:
    """`--url`, the secrets, and what is common to all commands."""
    for option in reversed(_ADDRESS):
        command = option(command)
    return common_options(command)


def wire_options(command: Command) -> Command:
    """The options of `address_options`, and `--timeout`."""
    return _TIMEOUT(address_options(command))


_WORKER = (
    "The configuration is that of a worker (node.role), which serves only its health and metrics."
    " Pass --url with the address of a node whose role is `gateway` or `all`."
)


@dataclass(frozen=True, slots=True)
class Target:
    """A Gateway and the credentials for it. `tls`: which certificates to trust.

    `is_own`: the credentials come from the configuration.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: Tls = True
    state_dir: Path | None = None
    is_own: bool = False

    @property
    def is_local(self) -> bool:
        """Whether it is a loopback address."""
        return is_loopback(urlsplit(self.url).hostname or "")

    @property
    def has_secret(self) -> bool:
        """Whether a secret grants the scopes. A device has to be paired again for more scopes."""
        return self.token is not None or self.password is not None

    def options(self, scopes: Sequence[str], *, as_device: bool = False, **more: Any) -> Options:
        """The options of a client: with the secret, or else as a device.

        With a secret no device is needed, and an unpaired one would be rejected. `as_device`: use
        both, to pair this machine.
        """
        from ....client import DeviceFileInvalid, DeviceIdentity, DeviceTokens, Options
        from ...version import version

        known: dict[str, Any] = {"client_id": "cli", "mode": "cli", "version": version()}
        if self.state_dir is not None and (as_device or not (self.has_secret or self.is_local)):
            identity = self.state_dir / "identity"
            try:
                known["device"] = DeviceIdentity.load_or_create(identity / "device.json")
            except DeviceFileInvalid as error:
                raise CommandError(str(error), code="device_file_invalid") from None
            known["device_tokens"] = DeviceTokens(identity / "device-auth.json")
        return Options(
            url=self.url,
            token=self.token,
            password=self.password,
            tls=self.tls,
            scopes=tuple(scopes),
            **(known | more),
        )


def timeout_of(state: State) -> float:
    """The timeout of each call in seconds."""
    return float(state.options.get("wire_timeout", DEFAULT_TIMEOUT))


def reach(state: State) -> Target:
    """The Gateway of the command. Raises CommandError."""
    token, password = (state.options.get(f"wire_{name}") for name in ("token", "password"))
    address = state.options.get("wire_url")
    if address is None:
        return _configured(state, token, password)
    url = websocket_url(address)
    if token is not None or password is not None:
        return Target(url, token, password, state_dir=locations_of(state).state_dir)
    if not is_loopback(urlsplit(url).hostname or "") and _has_device_token(state, url):
        return Target(url, state_dir=locations_of(state).state_dir)
    own = _configured(state, None, None)
    if is_same(own.url, url):
        return replace(own, url=url)
    raise CommandError(
        f"{address} is not the configured Gateway, so the configured secret is not sent there: "
        "pass --token-file or --password-file (or --token, --password).",
        code="credentials_needed",
    )


def _has_device_token(state: State, url: str) -> bool:
    from ....client import DeviceTokens

    file = locations_of(state).state_dir / "identity" / "device-auth.json"
    return DeviceTokens(file).get(url, "operator") is not None


def _configured(state: State, token: str | None, password: str | None) -> Target:
    from ....adapters.system.files import TokenFile

    def held(at: Path) -> str:
        # A lookup must not generate a token.
        file = TokenFile(at)
        return file.read_or_create() if file.path.exists() else "none-was-made-yet"

    loaded = load_config(state, generated_token=held)
    settings, directory = loaded.settings, loaded.locations.state_dir
    if settings.node.role == "worker" and "wire_url" not in state.options:
        raise CommandError(_WORKER, code="worker")
    url = websocket_url(serving_address(directory) or base_url(settings))
    is_own = token is None and password is None
    if is_own and settings.auth.secret is not None:
        secret = settings.auth.secret.reveal()
        by_password = settings.auth.mode == "password"
        token, password = (None, secret) if by_password else (secret, None)
    return Target(url, token, password, _trusted(settings, url), directory, is_own)


def _trusted(settings: Settings, url: str) -> Tls:
    """The fingerprint of the configured certificate, so that self-signed ones are trusted."""
    if settings.listen.tls is None or not url.startswith("wss:"):
        return True
    import hashlib
    import ssl

    import aiohttp

    path = settings.listen.tls.cert_path
    try:
        text = Path(path).read_text("ascii")
        leaf = text[: text.index("-----END CERTIFICATE-----") + 25]
        der = ssl.PEM_cert_to_DER_cert(leaf[leaf.index("-----BEGIN CERTIFICATE-----") :])
    except (OSError, ValueError) as error:
        raise CommandError(f"The certificate {path} cannot be read: {error}", code="tls") from None
    return aiohttp.Fingerprint(hashlib.sha256(der).digest())


_SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}


def websocket_url(text: str) -> str:
    """The address of the WebSocket. Raises CommandError for an invalid one."""
    try:
        parts = urlsplit(text if "://" in text else f"ws://{text}")
        is_address = bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:  # An invalid port or bracket.
        is_address = False
    if not is_address or parts.scheme not in _SCHEMES:
        # Not quoted, as it may contain a password.
        raise CommandError(
            "Invalid --url. Expected something like ws://127.0.0.1:18789", code="usage"
        )
    scheme = _SCHEMES[parts.scheme]
    return urlunsplit((scheme, parts.netloc, parts.path or "/", parts.query, ""))


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "wss" else 80)


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_same(own: str, url: str) -> bool:
    """Whether an address is that of the own Gateway, under any name of loopback."""
    hosts = [urlsplit(one).hostname or "" for one in (own, url)]
    return _port(own) == _port(url) and (hosts[0] == hosts[1] or all(map(is_loopback, hosts)))
