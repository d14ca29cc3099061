"""Opens a WebSocket and performs the handshake: challenge, `connect`, `hello-ok`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from .device import DeviceIdentity
from .errors import ConnectFailed, HandshakeRefused
from .frames import MAX_MESSAGE, Answer, Event, read_frame, request_text
from .options import Options

_ID = "connect"
_DEFAULT_TICK = 30.0
_NOT_A_GATEWAY = "The server at this address does not speak the Gateway's protocol."


@dataclass(frozen=True, slots=True)
class Hello:
    """The `hello-ok` of an accepted connection. `scopes`: the scopes it was granted."""

    protocol: int
    server_version: str
    connection_id: str
    role: str
    scopes: tuple[str, ...]
    methods: frozenset[str]
    tick: float
    """Seconds between the Gateway's tick events."""
    max_payload: int
    device_token: str | None = field(default=None, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


async def shake_hands(socket: aiohttp.ClientWebSocketResponse, options: Options) -> Hello:
    """Answer the challenge and return the `hello-ok`. Raises HandshakeRefused, ConnectFailed."""
    challenge = await _receive(socket)
    nonce, at = _challenge(challenge)
    await socket.send_str(request_text(_ID, "connect", connect_params(options, nonce, at)))
    while True:
        frame = await _receive(socket)
        if isinstance(frame, Answer) and frame.id == _ID:
            if frame.error is not None:
                raise _rejection(frame)
            return read_hello(frame.payload)


def connect_params(options: Options, nonce: str, at: int) -> dict[str, Any]:
    """The parameters of `connect`; `at` is the challenge's time in milliseconds."""
    auth = {
        "token": options.token,
        "password": options.password,
        "deviceToken": options.device_token,
    }
    credentials = {name: value for name, value in auth.items() if value}
    params: dict[str, Any] = {
        "minProtocol": options.min_protocol,
        "maxProtocol": options.max_protocol,
        "client": _program(options),
        "caps": list(options.caps),
        "role": options.role,
        "scopes": list(options.scopes),
    }
    if credentials:
        params["auth"] = credentials
    if options.device is not None:
        token = credentials.get("token") or credentials.get("deviceToken") or ""
        params["device"] = _proof(options.device, options, token, nonce, at)
    return params


def _program(options: Options) -> dict[str, str]:
    program = {
        "id": options.client_id,
        "version": options.version,
        "platform": options.platform,
        "deviceFamily": options.device_family,
        "mode": options.mode,
    }
    if options.display_name is not None:
        program["displayName"] = options.display_name
    return program


def _proof(
    device: DeviceIdentity, options: Options, token: str, nonce: str, at: int
) -> dict[str, Any]:
    """The device's signature over this connection, in version 3 of the format."""
    signed = (
        "v3",
        device.id,
        options.client_id,
        options.mode,
        options.role,
        ",".join(options.scopes),
        str(at),
        token,
        nonce,
        _normalised(options.platform),
        _normalised(options.device_family),
    )
    return {
        "id": device.id,
        "publicKey": device.public_key,
        "signature": device.sign("|".join(signed).encode()),
        "signedAt": at,
        "nonce": nonce,
    }


def _normalised(text: str) -> str:
    """Trimmed, ASCII letters in lower case, as both sides sign it."""
    return "".join(c.lower() if c.isascii() else c for c in text.strip())


def read_hello(payload: object) -> Hello:
    """Decode a `hello-ok`; fields that an older server omits get their defaults."""
    hello = payload if isinstance(payload, dict) else {}
    server, auth, policy, features = (
        _section(hello, name) for name in ("server", "auth", "policy", "features")
    )
    tick = policy.get("tickIntervalMs")
    limit = policy.get("maxPayload")
    token = auth.get("deviceToken")
    return Hello(
        protocol=hello["protocol"] if isinstance(hello.get("protocol"), int) else 0,
        server_version=str(server.get("version", "")),
        connection_id=str(server.get("connId", "")),
        role=str(auth.get("role", "")),
        scopes=tuple(map(str, auth.get("scopes") or ())),
        methods=frozenset(map(str, features.get("methods") or ())),
        tick=tick / 1_000 if isinstance(tick, int) and tick > 0 else _DEFAULT_TICK,
        max_payload=limit if isinstance(limit, int) and limit > 0 else 0,
        device_token=token if isinstance(token, str) else None,
        raw=hello,
    )


def _section(hello: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = hello.get(name)
    return section if isinstance(section, dict) else {}


def _challenge(frame: Event | Answer) -> tuple[str, int]:
    match frame:
        case Event("connect.challenge", {"nonce": str(nonce), "ts": int(at)}) if nonce.strip():
            return nonce, at
        case _:
            raise ConnectFailed(_NOT_A_GATEWAY)


async def _receive(socket: aiohttp.ClientWebSocketResponse) -> Event | Answer:
    message = await socket.receive()
    if message.type is aiohttp.WSMsgType.TEXT:
        frame = read_frame(message.data)
        if frame is None:
            raise ConnectFailed(_NOT_A_GATEWAY)
        return frame
    if message.type is aiohttp.WSMsgType.CLOSE:
        reason = (
            message.extra
            or f"The Gateway closed the connection with code {message.data} and no reason."
        )
        retryable = message.data in (1001, 1012, 1013)
        raise HandshakeRefused(str(reason), close_code=message.data, retryable=retryable)
    if message.type is aiohttp.WSMsgType.BINARY:
        raise ConnectFailed(_NOT_A_GATEWAY)
    raise ConnectFailed("The connection ended during the handshake.")


def _rejection(answer: Answer) -> HandshakeRefused:
    error = answer.error
    assert error is not None  # noqa: S101 - checked by the caller
    details = error.details if isinstance(error.details, dict) else {}
    return HandshakeRefused(
        error.message,
        code=error.code,
        details=details,
        retryable=error.retryable,
        retry_after=error.retry_after,
    )


async def open_socket(
    http: aiohttp.ClientSession, options: Options
) -> aiohttp.ClientWebSocketResponse:
    """Open a WebSocket to the address. Raises ConnectFailed, HandshakeRefused."""
    try:
        return await http.ws_connect(
            options.url, ssl=options.tls, max_msg_size=MAX_MESSAGE, headers=upgrade_headers(options)
        )
    except aiohttp.WSServerHandshakeError as error:
        if error.status < 400 or error.status == 404:  # A Gateway upgrades on any path.
            raise ConnectFailed(
                f"The server at {options.url} is not a Gateway (HTTP status {error.status})."
            ) from None
        busy = error.status == 503
        raise HandshakeRefused(
            f"{options.url} rejected the upgrade with HTTP status {error.status}: {error.message}",
            retryable=busy,
        ) from None
    except aiohttp.ServerFingerprintMismatch:
        raise ConnectFailed(
            f"The certificate of {options.url} does not match the expected fingerprint."
        ) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ConnectFailed(f"Cannot connect to {options.url}: {_reason(error)}") from None


def upgrade_headers(options: Options) -> dict[str, str]:
    """The shared secret as an `Authorization` header of the upgrade.

    The Gateway then exempts the connection from its limits on unauthenticated connections. The
    header is omitted if `connect` has no secret or two, if the secret cannot be a header value, or
    if the address has user information, which aiohttp sends as `Authorization` itself.
    """
    secrets = [secret for secret in (options.token, options.password) if secret]
    if len(secrets) != 1 or "@" in options.url:
        return {}
    [secret] = secrets
    fits = secret.isascii() and secret.isprintable() and secret == secret.strip()
    return {"Authorization": f"Bearer {secret}"} if fits else {}


def _reason(error: Exception) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else None
    if cause is not None and cause.errno and cause.errno > 0:
        return os.strerror(cause.errno)  # asyncio's message would repeat the address.
    if cause is not None and cause.strerror:
        return cause.strerror
    return str(error) or type(error).__name__


async def open_connection(
    http: aiohttp.ClientSession, options: Options
) -> tuple[aiohttp.ClientWebSocketResponse, Hello]:
    """Connect and perform the handshake within `options.timeout`. Raises ConnectFailed,
    HandshakeRefused."""
    socket: aiohttp.ClientWebSocketResponse | None = None
    hello: Hello | None = None
    try:
        async with asyncio.timeout(options.timeout):
            socket = await open_socket(http, options)
            hello = await shake_hands(socket, options)
            return socket, hello
    except TimeoutError:
        raise ConnectFailed(
            f"No Gateway answered at {options.url} within {options.timeout:g} s."
        ) from None
    except ConnectionError:
        raise ConnectFailed("The connection ended during the handshake.") from None
    finally:
        if socket is not None and hello is None:
            await socket.close()
