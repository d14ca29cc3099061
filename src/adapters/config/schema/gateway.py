"""`gateway.*`: listening, authentication, endpoints, reloads and limits."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from .fields import (
    Count,
    Milliseconds,
    PathText,
    PortNumber,
    Seconds,
    SecretText,
    Section,
    SomeDollars,
    SomeMilliseconds,
    Text,
    Whole,
    setting,
)

Bind = Literal["auto", "lan", "loopback", "custom", "tailnet"]
Mode = Literal["token", "password", "none"]
KeyText = Annotated[SecretText, StringConstraints(min_length=16)]
KeyHash = Annotated[str, StringConstraints(pattern="^sha256:[0-9a-f]{64}$")]
ImageType = Literal["image/jpeg", "image/png", "image/gif", "image/webp"]


class RateLimit(Section):
    max_attempts: Count = setting(10, addition=True)
    """How many wrong credentials within `windowMs` lock an address out. A repeated credential
    counts once a minute, or once in `windowMs` where that is longer."""
    window_ms: SomeMilliseconds = setting(60_000, addition=True)
    """The time in which wrong credentials are counted."""
    lockout_ms: SomeMilliseconds = setting(300_000, addition=True)
    """How long an address stays locked out."""
    max_addresses: Count = setting(10_000, addition=True)
    """How many addresses are tracked. The least recently seen is dropped first, a locked one never.
    When all are locked, further addresses share one counter."""


class ApiKeyEntry(Section):
    ours: ClassVar[bool] = True
    name: Text = setting(..., addition=True)
    """What the key is for; no two keys have one name. The sessions of the key belong to it."""
    key: KeyText | None = setting(None, addition=True, secret=True, machine="door")
    """The key that the client sends, at least 16 characters, best as `${VARIABLE}`."""
    key_hash: KeyHash | None = setting(None, addition=True, secret=True, machine="door")
    """In the place of `key`: `sha256:` and the SHA-256 of a random key, in hexadecimal."""
    agents: list[Text] | None = setting(None, addition=True)
    """The ids of the agents that the client may use; others do not exist for it. Left out: all."""
    scopes: list[Text] | None = setting(None, addition=True)
    """What the client may do. Left out: operator.read and operator.write."""
    requests_per_minute: Count | None = setting(None, addition=True)
    """Requests that begin runs or call tools, per minute. As many are admitted at once."""
    runs_at_once: Count | None = setting(None, addition=True)
    """Runs that are queued or executed at the same time."""
    tokens_per_day: Count | None = setting(None, addition=True)
    """Tokens, of input and output together, per day of UTC."""
    tokens_per_month: Count | None = setting(None, addition=True)
    """Tokens, of input and output together, per month of UTC."""
    cost_per_month: SomeDollars | None = setting(None, addition=True)
    """US dollars per month of UTC, by the prices of the models."""
    expires_at: Text | None = setting(None, addition=True)
    """When the key expires: a date or time in ISO 8601, of UTC where it names no time zone."""


class Auth(Section):
    ours: ClassVar[bool] = True
    mode: Mode | None = setting(None, machine="door", free=("token", "password"))
    """How clients authenticate. Left out: `password` if a password is known, else `token`. `none`:
    no authentication; it is allowed on loopback only, and requests from a proxy are rejected."""
    token: SecretText | None = setting(None, secret=True)
    """The secret of mode `token`. Left out: OPENSOUL_GATEWAY_TOKEN, then a generated one in the
    state directory."""
    password: SecretText | None = setting(None, secret=True)
    """The secret of mode `password`. Left out: OPENSOUL_GATEWAY_PASSWORD."""
    authenticators: list[Text] = setting(list, addition=True, restart=True, machine="program")
    """Installed authenticators to try when the secret is missing or wrong, in this order, by the
    names of their entry points in `opensoul.authenticators`."""
    keys: list[ApiKeyEntry] = setting(list, addition=True)
    """API keys of clients, besides those that `opensoul keys create` makes."""
    rate_limit: RateLimit = setting(RateLimit, addition=True)
    """Lockout after wrong credentials."""


class Images(Section):
    ours: ClassVar[bool] = True
    allow_url: bool = setting(False, machine="door", free=(False,))
    """Fetch pictures that clients name by http:// and https:// URLs, from the public internet
    only. Otherwise only data URLs are accepted."""
    allowed_mimes: list[ImageType] = setting(["image/jpeg", "image/png", "image/gif", "image/webp"])
    """The accepted types; the bytes of a picture decide which it has."""
    max_bytes: Count = 10 * 1024 * 1024
    """The largest picture, decoded from base64."""
    max_pixels: Count = setting(50_000_000, addition=True)
    """The most pixels of a picture: its width times its height."""
    max_redirects: Whole = 3
    """The most redirects on the way to a picture."""
    timeout_ms: SomeMilliseconds = 10_000
    """The time to fetch a picture."""


class Pdf(Section):
    max_pages: Count = setting(100, addition=True)
    """The pages that are read; the rest of the file is left out."""


class Files(Section):
    ours: ClassVar[bool] = True
    allowed_mimes: list[Text] = setting(
        [
            "text/plain",
            "text/markdown",
            "text/html",
            "text/csv",
            "application/json",
            "application/pdf",
        ]
    )
    """The accepted types. A file that is not a PDF file must be a text."""
    max_files: Count = setting(20, addition=True)
    """The most files in one request, those of its history included."""
    max_bytes: Count = setting(5 * 1024 * 1024, addition=True)
    """The largest file, decoded from base64."""
    max_chars: Count = setting(200_000, addition=True)
    """The longest text that a model gets of a file, in characters; the rest is left out."""
    timeout_ms: SomeMilliseconds = setting(10_000, addition=True)
    """The time to read the text of a PDF file."""
    pdf: Pdf = setting(Pdf, addition=True)
    """PDF files."""


class ChatCompletions(Section):
    enabled: bool = False
    """Serve `/v1/chat/completions` and `/v1/models`."""
    max_image_parts: Count = 100
    """The most pictures in one request, those of its history included."""
    max_total_image_bytes: Count = 20 * 1024 * 1024
    """The most bytes of all pictures in one request, decoded from base64."""
    images: Images = setting(Images)
    """Pictures in requests."""
    files: Files = setting(Files, addition=True)
    """Files in requests, whose text models get."""
    max_body_bytes: Count = setting(20 * 1024 * 1024, addition=True)
    """The largest request body, in bytes, both compressed and decompressed."""
    body_timeout_ms: SomeMilliseconds = setting(60_000, addition=True)
    """How long a client may take to send its body."""
    keepalive_ms: SomeMilliseconds = setting(10_000, addition=True)
    """The idle time after which a stream gets a comment."""
    write_timeout_ms: SomeMilliseconds = setting(60_000, addition=True)
    """How long a client may leave its stream unread before it is disconnected."""
    reasoning: Literal["include", "omit"] = setting("include", addition=True)
    """Whether answers have the model's reasoning, as `reasoning_content`. The header
    `x-opensoul-reasoning` of a request takes precedence."""


class Responses(Section):
    enabled: bool = False
    """Serve `/v1/responses` and `/v1/conversations`."""


class Messages(Section):
    ours: ClassVar[bool] = True
    enabled: bool = False
    """Serve `/v1/messages` and `/v1/messages/count_tokens`."""


class Completions(Section):
    ours: ClassVar[bool] = True
    enabled: bool = False
    """Serve `/v1/completions`."""


class Embeddings(Section):
    ours: ClassVar[bool] = True
    enabled: bool = False
    """Serve `/v1/embeddings`."""
    models: list[Text] = setting(list)
    """The embedding models, as `provider/model`. The first one answers requests that name an agent.
    `local/multilingual-e5-small` runs on this machine."""


class McpEndpoint(Section):
    ours: ClassVar[bool] = True
    enabled: bool = False
    """Serve the agents as tools of an MCP server at `/mcp`."""


class A2a(Section):
    ours: ClassVar[bool] = True
    enabled: bool = False
    """Serve `/.well-known/agent-card.json` and the methods of A2A."""


class Endpoints(Section):
    chat_completions: ChatCompletions = setting(ChatCompletions)
    """The OpenAI-compatible chat endpoint. Its limits for bodies, pictures, files and streams hold
    for the other endpoints, too."""
    responses: Responses = setting(Responses)
    """OpenAI's Responses API."""
    messages: Messages = setting(Messages, addition=True)
    """Anthropic's Messages API."""
    completions: Completions = setting(Completions, addition=True)
    """OpenAI's older completions of a prompt."""
    embeddings: Embeddings = setting(Embeddings, addition=True)
    """OpenAI's embeddings."""
    mcp: McpEndpoint = setting(McpEndpoint, addition=True)
    """The Model Context Protocol, with this Gateway as the server."""
    a2a: A2a = setting(A2a, addition=True)
    """The Agent2Agent protocol."""


class Cors(Section):
    ours: ClassVar[bool] = True
    origins: list[Text] = setting(list, addition=True, machine="address")
    """The origins of web pages that may send HTTP requests and read the answers, such as
    https://app.example; exact, without patterns. `*`: those of all, which is an error in mode
    `none`. A page needs the secret all the same; cookies are never accepted."""


class Http(Section):
    endpoints: Endpoints = setting(Endpoints)
    """The HTTP endpoints."""
    cors: Cors = setting(Cors, addition=True)
    """Requests of web pages that others serve (CORS)."""
    max_bytes_in_flight: Count = setting(512 * 1024 * 1024, addition=True)
    """Bytes of requests that are read or processed at the same time, over HTTP and WebSocket
    together, including those of waiting runs. Further requests are rejected as busy. A request
    takes up to four times its size in memory."""


class Tls(Section):
    ours: ClassVar[bool] = True
    enabled: bool = setting(False, restart=True, machine="door", free=(True,))
    """Serve HTTPS; needs `certPath` and `keyPath`."""
    cert_path: PathText | None = setting(None, restart=True, machine="file")
    """The certificate chain, PEM."""
    key_path: PathText | None = setting(None, restart=True, machine="file")
    """The certificate's private key, PEM."""
    ca_path: PathText | None = setting(None, restart=True, machine="file")
    """Certificate authorities that clients must be signed by, PEM."""


class Reload(Section):
    mode: Literal["off", "restart", "hot", "hybrid"] = "hybrid"
    """How a changed file is handled: `hybrid` and `hot` apply it while serving, `restart` only
    reports that a restart is needed, `off` ignores it."""
    debounce_ms: Milliseconds = 300
    """How long a file must be stable before its change is applied."""


class Shutdown(Section):
    ours: ClassVar[bool] = True
    linger_seconds: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = setting(
        10, addition=True
    )
    """How long requests are answered as before after a stop was requested, while `/readyz` is 503
    and each answer says that its connection ends (`Connection: close`, or GOAWAY). Connections that
    are idle are closed after that. It should be longer than a load balancer needs to see that the
    node is not ready, and than clients keep an idle connection (5 s with httpx and `openai`). Only
    for nodes with a shared database (`store.url`) that are no workers; others do not wait, since
    nobody else answers their clients."""
    grace_seconds: Seconds = setting(20, addition=True)
    """How long runs may continue after `lingerSeconds`."""


class Runs(Section):
    ours: ClassVar[bool] = True
    keep_hours: Annotated[int, Field(ge=1, le=8_760)] = setting(24, addition=True, restart=True)
    """How long a run and its idempotency key are kept after its end."""
    keep_megabytes: Count = setting(256, addition=True, restart=True)
    """The most space for the events of all runs; those of the oldest are deleted first."""


class DirectTools(Section):
    ours: ClassVar[bool] = True
    allow: list[Text] = setting(list, addition=True)
    """The tools that clients may call: names, patterns with `*`, and groups such as `group:memory`.
    The rules of `tools` have to allow them as well."""


class GatewayTools(Section):
    invoke: DirectTools = setting(DirectTools, addition=True)
    """Calls by clients, without a run: `/tools/invoke` and the method `tools.invoke`."""


class ControlUi(Section):
    allowed_origins: list[Text] = setting(list, machine="address")
    """The origins of web pages that may connect, such as https://panel.example. Pages from the
    Gateway's own host and port are always allowed, and pages of other servers on this machine if a
    secret is required. In mode `none` the list applies to HTTP requests as well."""


class GatewaySection(Section):
    port: PortNumber = setting(18_789, restart=True)
    """The one port, for HTTP and WebSocket. `--port` and OPENSOUL_GATEWAY_PORT win over it."""
    mode: Literal["local", "remote"] | None = None
    """`local`: this machine serves. `remote` has no effect."""
    bind: Bind = setting("loopback", restart=True, machine="address", free=("loopback",))
    """Which addresses to listen on. `loopback` and `auto`: 127.0.0.1 and ::1; `lan`: all of IPv4;
    `tailnet`: this machine's address in 100.64.0.0/10; `custom`: `customBindHost`."""
    custom_bind_host: str | None = setting(
        None, addition=True, restart=True, machine="address", free=("127.0.0.1", "::1")
    )
    """The IP address to listen on with bind `custom`."""
    auth: Auth = setting(Auth)
    """How clients authenticate."""
    trusted_proxies: list[str] = setting(list, machine="address")
    """IP addresses and networks of reverse proxies whose forwarding headers are trusted."""
    max_connections_per_address: Count = setting(256, addition=True)
    """The most connections of one address. Loopback and `trustedProxies` are exempt, as many
    clients share them."""
    http2: bool = setting(False, addition=True, restart=True)
    """Serve HTTP/2 as well, over TLS and by prior knowledge. Otherwise only HTTP/1.1 is offered,
    and HTTP/2 connections are rejected."""
    tls: Tls = setting(Tls)
    """HTTPS."""
    http: Http = setting(Http)
    """HTTP endpoints and limits."""
    transports: list[Text] = setting(list, addition=True, restart=True, machine="program")
    """Installed transports to serve in addition, by the names of their entry points in
    `opensoul.transports`."""
    reload: Reload = setting(Reload)
    """How changed configuration files are handled."""
    shutdown: Shutdown = setting(Shutdown, addition=True)
    """How the Gateway stops."""
    runs: Runs = setting(Runs, addition=True)
    """How long ended runs are kept."""
    tools: GatewayTools = setting(GatewayTools)
    """Tools that clients use."""
    control_ui: ControlUi = setting(ControlUi)
    """The web page that controls the Gateway."""
    allowed_hosts: list[Text] = setting(list, addition=True, machine="address")
    """Host names of the Gateway, without a port: of a reverse proxy, or of this machine in its
    network. A WebSocket for another name is rejected, and without authentication every request. IP
    addresses, `localhost` and the hosts of `controlUi.allowedOrigins` are implied."""
