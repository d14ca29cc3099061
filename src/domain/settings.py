"""The settings of one configuration generation, as the domain reads them.

A generation is immutable. A change of configuration makes a new one and swaps it in whole; who
holds the old one (a Run in flight) keeps exactly what it was accepted with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from .agents import AgentDirectory
from .api_keys import ApiKey
from .models import ModelDirectory, ModelTarget, Secret
from .sessions import SessionSettings
from .tools import Names, ServerSandbox


class AuthMode(StrEnum):
    TOKEN = "token"  # noqa: S105 - the name of a mode
    PASSWORD = "password"  # noqa: S105 - the name of a mode
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LockoutSettings:
    """After `max_attempts` wrong credentials within `window` seconds: refused for `duration` s."""

    max_attempts: int = 10
    window: float = 60.0
    duration: float = 300.0
    max_addresses: int = 10_000
    """How many addresses are remembered at most: the one longest silent is forgotten first, one
    that is locked never."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """`secret` is None only in mode `none`."""

    mode: AuthMode
    secret: Secret | None = None
    lockout: LockoutSettings = field(default_factory=LockoutSettings)
    keys: tuple[ApiKey, ...] = ()
    """The API keys of the configuration."""


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """Limits for each picture of a request."""

    allow_url: bool = False
    """Fetch pictures from URLs."""
    types: tuple[str, ...] = ("image/jpeg", "image/png", "image/gif", "image/webp")
    max_bytes: int = 10 * 1024 * 1024
    max_pixels: int = 50_000_000
    max_redirects: int = 3
    timeout: float = 10.0
    """Seconds to fetch one."""


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Limits for the files of a request, which become texts."""

    types: tuple[str, ...] = (
        "text/plain",
        "text/markdown",
        "text/html",
        "text/csv",
        "application/json",
        "application/pdf",
    )
    max_files: int = 20
    max_bytes: int = 5 * 1024 * 1024
    max_chars: int = 200_000
    max_pages: int = 100
    timeout: float = 10.0
    """Seconds to read one PDF file."""


@dataclass(frozen=True, slots=True)
class ChatEndpointSettings:
    enabled: bool = False
    max_body_bytes: int = 20 * 1024 * 1024
    body_timeout: float = 60.0
    """Seconds a client may take to send its body."""
    keepalive: float = 10.0
    """Seconds of silence after which a stream gets a comment."""
    write_timeout: float = 60.0
    """Seconds a client may leave its stream unread before it counts as gone."""
    reasoning: bool = True
    """Answers have the model's reasoning, unless a request's header says otherwise."""
    max_images: int = 100
    """Pictures in one request, those of its history included."""
    max_image_bytes: int = 20 * 1024 * 1024
    """Bytes of all pictures in one request, decoded."""
    images: ImageSettings = field(default_factory=ImageSettings)
    files: FileSettings = field(default_factory=FileSettings)


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """The endpoints beside chat completions that are served. The limits of `ChatEndpointSettings`
    hold for them, too."""

    responses: bool = False
    messages: bool = False
    completions: bool = False
    embeddings: bool = False
    mcp: bool = False
    a2a: bool = False

    @property
    def begins_runs(self) -> bool:
        """One of them answers with a run."""
        return any((self.responses, self.messages, self.completions, self.mcp, self.a2a))

    @property
    def lists_models(self) -> bool:
        """One of them has clients that ask for the list of models."""
        return self.responses or self.messages or self.completions or self.embeddings


@dataclass(frozen=True, slots=True)
class LaneSettings:
    max_concurrent: int = 64
    """Runs that work at the same time, over all sessions."""
    max_waiting: int = 20
    """Runs that may wait in one session."""
    max_queued: int = 1_000
    """Runs that may wait in all sessions together."""
    max_subagents: int = 8
    """Runs of sub-agents that work at the same time, at each depth."""


@dataclass(frozen=True, slots=True)
class RunLogSettings:
    """How long the events of ended Runs are kept; a change needs a restart.

    `keep_seconds`: after the end, so long is an idempotency key known too. `keep_bytes`: of all
    Runs together, roughly; the oldest go first.
    """

    keep_seconds: float = 86_400.0
    keep_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    """`level`: silent, fatal, error, warn, info, debug, trace. `style`: pretty, compact, json."""

    level: str = "info"
    console_level: str | None = None
    style: str = "pretty"
    file: str | None = None
    content: bool = False
    """Write the text of messages into the log; off by default."""
    max_file_bytes: int = 100 * 1024 * 1024
    """Size from which on `file` is renamed and a new one begun."""
    keep_files: int = 5
    """How many renamed files are kept."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    cert_path: str
    key_path: str
    ca_path: str | None = None


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where the server listens; a change needs a restart. `hosts`: addresses; the first one
    is printed."""

    hosts: tuple[str, ...] = ("127.0.0.1",)
    port: int = 18_789
    tls: TlsSettings | None = None
    http2: bool = False


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Which names the Gateway goes by, besides addresses and those of this machine.

    `allowed_origins`: of web pages that may connect, as browsers write them; `allowed_hosts`: names
    without a port. All in lower case.
    """

    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """`memory`: nothing outlives the process. `path`: the database file. `url`: the database that
    several processes share, in place of files; `listen_url`: its address without a pooler, where
    `url` is that of one. A change needs a restart."""

    memory: bool = False
    path: str = ""
    url: Secret | None = None
    listen_url: Secret | None = None

    @property
    def place(self) -> str:
        """What to call it in a report."""
        if self.url is not None:
            return "postgresql"
        return "memory" if self.memory else self.path


class NodeRole(StrEnum):
    """What a process does: accept requests, execute Runs, or both."""

    ALL = "all"
    GATEWAY = "gateway"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """This process among those of a Gateway. `name` is for people. `lease`: the seconds after which
    others take over the Runs of a process that has stopped. `agents`: those whose Runs it executes;
    None: all. A change needs a restart."""

    role: NodeRole = NodeRole.ALL
    name: str = ""
    lease: float = 10.0
    agents: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class McpServerSettings:
    """A server of tools: a program (`command`), or one that is reached at `url`.

    `allow` and `deny` are patterns of the server's own names of its tools; `deny` wins. Timeouts
    are seconds.
    """

    name: str
    enabled: bool = True
    command: str = ""
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, Secret], ...] = ()
    cwd: str | None = None
    url: str = ""
    sse: bool = False
    """`url` speaks the older transport with two endpoints."""
    headers: tuple[tuple[str, Secret], ...] = ()
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    connection_timeout: float = 30.0
    request_timeout: float = 60.0
    sandbox: ServerSandbox = field(default_factory=ServerSandbox)
    """Of a program."""


@dataclass(frozen=True, slots=True)
class Settings:
    agents: AgentDirectory
    auth: AuthSettings
    generation: str = ""
    """Names this configuration: of two with one name, what all processes of a Gateway share is the
    same."""
    chat: ChatEndpointSettings = field(default_factory=ChatEndpointSettings)
    endpoints: EndpointSettings = EndpointSettings()
    models: ModelDirectory = field(default_factory=ModelDirectory)
    embedding_models: tuple[ModelTarget, ...] = ()
    """The first one answers where a request names an agent."""
    sessions: SessionSettings = field(default_factory=SessionSettings)
    lanes: LaneSettings = field(default_factory=LaneSettings)
    runs: RunLogSettings = field(default_factory=RunLogSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    listen: ListenSettings = field(default_factory=ListenSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    node: NodeSettings = field(default_factory=NodeSettings)
    control: ControlSettings = field(default_factory=ControlSettings)
    text_commands: bool = True
    """Messages such as `/status` are commands."""
    transports: tuple[str, ...] = ()
    """Installed transports to serve besides our own; a change needs a restart."""
    authenticators: tuple[str, ...] = ()
    """Installed authenticators to ask after our own, in order; a change needs a restart."""
    mcp_servers: tuple[McpServerSettings, ...] = ()
    direct_tools: Names = field(default_factory=Names)
    """The tools that clients may call without a Run, where the policy allows them."""
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may read the answers to their HTTP requests, in lower case; `*`:
    of all. Empty: no header of CORS is sent."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    max_bytes_in_flight: int = 512 * 1024 * 1024
    """Bytes of requests that are being read or in work, over all connections."""
    max_connections_per_address: int = 256
    """TCP connections of one address; loopback and trusted proxies may have more."""
    shutdown_linger: float = 10.0
    """Seconds after a request to stop in which requests are answered as before, so that clients and
    load balancers leave by themselves."""
    shutdown_grace: float = 20.0
    """Seconds after those that runs may continue."""
    notes: tuple[str, ...] = ()
    """What the configuration says that has no effect (yet): one sentence each, for the operator."""
