"""The frames of the control protocol, versions 3 and 4; each is one JSON object.

Every model is closed: an unknown key is an error, except in the parameters of methods that only
read. docs/protocol.md and its JSON Schema are generated from these models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from .....domain.text import unsafe_in_name

OLDEST_PROTOCOL = 3
NEWEST_PROTOCOL = 4


def _without_hidden_characters(value: str) -> str:
    """Reject hidden characters in a name, key or id, which is displayed to other people."""
    problem = unsafe_in_name(value)
    if problem:
        raise ValueError(problem)
    return value


NAMING = AfterValidator(_without_hidden_characters)
Name = Annotated[str, Field(min_length=1, max_length=256), NAMING]
SessionKeyText = Annotated[str, Field(min_length=1, max_length=512), NAMING]
"""A session key as a client wrote it; the grammar allows 512 bytes of the canonical form."""
Key = Annotated[str, Field(min_length=1, max_length=512)]
"""The same for a session that exists, or for nothing."""
Text = Annotated[str, Field(max_length=4_096)]
Count = Annotated[int, Field(ge=0)]


class Frame(BaseModel):
    """Base class: camel case, no unknown keys, no type coercion."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        # Build validators on first use, for a faster start.
        defer_build=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        strict=True,
    )


class RequestFrame(Frame):
    """A client's request. `traceparent`: W3C trace context, at most 128 characters."""

    type: Literal["req"]
    id: Annotated[str, Field(min_length=1, max_length=256)]
    method: Annotated[str, Field(min_length=1, max_length=128)]
    params: Any = None
    traceparent: Annotated[str, Field(max_length=128)] | None = None
    expected_profile_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class ErrorShape(Frame):
    """The error of a request. `retry_after_ms`: milliseconds."""

    code: Annotated[str, Field(min_length=1)]
    message: Annotated[str, Field(min_length=1)]
    details: Any = None
    retryable: bool | None = None
    retry_after_ms: Count | None = None


class ResponseFrame(Frame):
    """The response to the request with the same id; `agent` has two responses."""

    type: Literal["res"] = "res"
    id: str
    ok: bool
    payload: Any = None
    error: ErrorShape | None = None


class StateVersion(Frame):
    """Grows with every change of presence or health."""

    presence: Count
    health: Count


class EventFrame(Frame):
    """An event. `seq` numbers the events of this connection from 1; a missing number is an event
    that was dropped because the client was too slow."""

    type: Literal["event"] = "event"
    event: Annotated[str, Field(min_length=1)]
    payload: Any = None
    seq: Count | None = None
    state_version: StateVersion | None = None


ClientId = Literal[
    "webchat-ui",
    "webchat",
    "cli",
    "gateway-client",
    "node-host",
    "test",
    "fingerprint",
    "opensoul-control-ui",
    "opensoul-tui",
    "opensoul-macos",
    "opensoul-linux",
    "opensoul-ios",
    "opensoul-android",
    "opensoul-probe",
    "openclaw-control-ui",
    "openclaw-browser-copilot",
    "openclaw-tui",
    "openclaw-macos",
    "openclaw-linux",
    "openclaw-ios",
    "openclaw-watchos",
    "openclaw-android",
    "openclaw-worker",
    "openclaw-probe",
]
ClientMode = Literal["webchat", "cli", "ui", "backend", "node", "worker", "probe", "test"]


class ClientInfo(Frame):
    """The program that connects."""

    id: ClientId
    display_name: Annotated[Text, NAMING] | None = None
    version: Name
    platform: Name
    device_family: Annotated[Text, NAMING] | None = None
    model_identifier: Annotated[Text, NAMING] | None = None
    mode: ClientMode
    instance_id: Name | None = None
    build_id: Annotated[str, Field(min_length=1, max_length=96), NAMING] | None = None
    time_zone: Annotated[str, Field(min_length=1, max_length=64), NAMING] | None = None


class DeviceProof(Frame):
    """A device's identity and its signature over this connection.

    `public_key`: the raw ed25519 key, base64url without padding, or PEM; `signed_at`:
    milliseconds of Unix time.
    """

    id: Name
    public_key: Annotated[str, Field(min_length=1, max_length=1_024)]
    signature: Annotated[str, Field(min_length=1, max_length=256)]
    signed_at: Count
    nonce: Annotated[str, Field(max_length=256)] | None = None


class ConnectAuth(Frame):
    """The client's credentials."""

    token: Text | None = None
    password: Text | None = None
    bootstrap_token: Text | None = None
    device_token: Text | None = None
    approval_runtime_token: Text | None = None
    agent_runtime_identity_token: Text | None = None


class ConnectParams(Frame):
    """The parameters of `connect`, the first request of every connection."""

    min_protocol: Annotated[int, Field(ge=1)]
    max_protocol: Annotated[int, Field(ge=1)]
    client: ClientInfo
    caps: list[Name] = Field(default_factory=list, max_length=64)
    commands: list[Name] = Field(default_factory=list, max_length=256)
    permissions: dict[str, bool] = Field(default_factory=dict)
    path_env: Text | None = None
    role: str | None = None
    scopes: Annotated[list[Name], Field(max_length=64)] | None = None
    device: DeviceProof | None = None
    auth: ConnectAuth | None = None
    locale: Text | None = None
    user_agent: Text | None = None
    computer_use: Any = None
    worker_runs: Any = None
    model_catalog: Any = None


class Server(Frame):
    """The Gateway. `host` and `commit` belong to protocol 3."""

    version: str
    conn_id: str
    host: str | None = None
    commit: str | None = None


class Features(Frame):
    """The supported methods and events."""

    methods: list[str]
    events: list[str]


class SessionDefaults(Frame):
    """The defaults for requests without a session key."""

    default_agent_id: str
    main_key: str
    main_session_key: str
    scope: str


class Snapshot(Frame):
    """The state of the Gateway at the time of the connection."""

    presence: list[dict[str, Any]]
    health: dict[str, Any]
    state_version: StateVersion
    uptime_ms: Count
    config_path: str | None = None
    state_dir: str | None = None
    session_defaults: SessionDefaults | None = None
    auth_mode: str | None = None


class HelloAuth(Frame):
    """The connection's role, and the scopes that its requests are checked against."""

    role: str
    scopes: list[str]
    device_token: str | None = None
    issued_at_ms: Count | None = None


class Policy(Frame):
    """Limits: bytes of one message, bytes queued for the client, milliseconds between ticks."""

    max_payload: Count
    max_buffered_bytes: Count
    tick_interval_ms: Count


class HelloOk(Frame):
    """The response to `connect`."""

    type: Literal["hello-ok"] = "hello-ok"
    protocol: int
    server: Server
    features: Features
    snapshot: Snapshot
    auth: HelloAuth
    policy: Policy


class Challenge(Frame):
    """The payload of `connect.challenge`. `ts`: milliseconds of Unix time."""

    nonce: str
    ts: Count
