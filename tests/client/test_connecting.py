"""Connecting: what is sent, what is refused, and in whose words."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from opensoul.client import (
    CallFailed,
    Client,
    ConnectFailed,
    ConnectionLost,
    DeviceFileInvalid,
    DeviceIdentity,
    DeviceTokens,
    HandshakeRefused,
    Options,
    TimedOut,
)
from opensoul.client.handshake import upgrade_headers
from opensoul.client.options import MoreOptions

from .conftest import Connect
from .fake_gateway import TOKEN, FakeGateway

pytestmark = pytest.mark.both_loops

URL = "ws://127.0.0.1:1"


async def test_it_says_who_it_is_and_learns_what_it_may(
    fake: FakeGateway, connect: Connect
) -> None:
    async with connect(
        scopes=("operator.read",), display_name="d", caps=("tool-events",)
    ) as client:
        assert client.hello.protocol == 4
        assert client.hello.server_version == "9"
        assert client.hello.scopes == ("operator.read",)
        assert client.hello.methods == {"agent"}
    [params] = fake.connects
    assert params["auth"] == {"token": TOKEN}
    assert (params["minProtocol"], params["maxProtocol"]) == (4, 4)
    assert params["client"]["id"] == "gateway-client"
    assert params["client"]["displayName"] == "d"
    assert params["caps"] == ["tool-events"]
    assert "device" not in params


@pytest.mark.parametrize(
    ("options", "is_sent"),
    [
        (Options(url=URL, token=TOKEN), True),
        (Options(url=URL, password=TOKEN), True),
        (Options(url=URL), False),
        (Options(url=URL, token="a", password="b"), False),
        (Options(url=URL, token="schlüssel"), False),
        (Options(url=URL, token=" spaces "), False),
        (Options(url=URL, token="line\nbreak"), False),
        (Options(url="ws://name:word@127.0.0.1:1", token=TOKEN), False),
    ],
)
def test_the_secret_is_a_header_of_the_upgrade_too_where_it_fits(
    options: Options, is_sent: bool
) -> None:
    sent = {"Authorization": f"Bearer {TOKEN}"} if is_sent else {}
    assert upgrade_headers(options) == sent


async def test_the_short_form_connects_too(fake: FakeGateway) -> None:
    async with Client.connect(fake.url, token=TOKEN, mode="probe", min_protocol=3) as client:
        assert client.hello.role == "operator"
    assert fake.connects[0]["minProtocol"] == 3


async def test_a_refusal_is_told_in_the_gateways_words(fake: FakeGateway, connect: Connect) -> None:
    fake.refusal = {
        "code": "INVALID_REQUEST",
        "message": "unauthorized: gateway token mismatch",
        "details": {"code": "AUTH_TOKEN_MISMATCH"},
        "retryable": True,
        "retryAfterMs": 1500,
    }
    fake.close_with = (1008, "unauthorized")
    with pytest.raises(HandshakeRefused, match="gateway token mismatch") as refused:
        await connect().__aenter__()
    assert refused.value.details["code"] == "AUTH_TOKEN_MISMATCH"
    assert refused.value.retryable
    assert refused.value.retry_after == 1.5


async def test_a_close_alone_is_a_refusal_with_its_reason(
    fake: FakeGateway, connect: Connect
) -> None:
    fake.close_with = (1008, "not like this")
    with pytest.raises(HandshakeRefused, match="not like this") as refused:
        await connect().__aenter__()
    assert (refused.value.close_code, refused.value.retryable) == (1008, False)


@pytest.mark.parametrize(
    "challenge",
    [
        {"type": "event", "event": "connect.challenge", "payload": {"nonce": " ", "ts": 1}},
        {"type": "event", "event": "welcome", "payload": {}},
        {"hello": "world"},
    ],
)
async def test_who_speaks_something_else_is_no_gateway(
    fake: FakeGateway, connect: Connect, challenge: dict[str, object]
) -> None:
    fake.challenge = challenge
    with pytest.raises(ConnectFailed, match="does not speak"):
        await connect().__aenter__()


async def test_where_nobody_listens_it_says_so(connect: Connect) -> None:
    words = r"Cannot connect to ws://127\.0\.0\.1:9: Connection refused$"
    with pytest.raises(ConnectFailed, match=words):
        await connect(url="ws://127.0.0.1:9").__aenter__()


async def test_where_something_else_answers_it_says_so(fake: FakeGateway, connect: Connect) -> None:
    with pytest.raises(ConnectFailed, match=r"is not a Gateway \(HTTP status 404\)"):
        await connect(url=f"{fake.url}/absent").__aenter__()


async def test_who_never_answers_is_given_up(connect: Connect) -> None:
    left = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    silent = await asyncio.start_server(take, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent:
        with pytest.raises(ConnectFailed, match="within"):
            await connect(url=f"ws://127.0.0.1:{port}", timeout=0.05).__aenter__()
        await left.wait()


async def test_a_call_is_answered_or_fails_in_the_gateways_words(
    fake: FakeGateway, connect: Connect
) -> None:
    fake.answers["health"] = {"fine": 1}
    async with connect() as client:
        assert await client.health() == {"fine": 1}
        with pytest.raises(CallFailed, match="unknown method: x") as failed:
            await client.call("x", {"a": 1})
    assert failed.value.code == failed.value.reason == "INVALID_REQUEST"


async def test_a_call_that_is_not_answered_ends_in_time(
    fake: FakeGateway, connect: Connect
) -> None:
    async def never(_: object, method: str) -> bool:
        return method == "slow"

    fake.before_answer = never
    async with connect() as client:
        with pytest.raises(TimedOut, match="slow"):
            await client.call("slow", timeout=0.05)


async def test_what_is_too_large_is_not_sent(fake: FakeGateway, connect: Connect) -> None:
    async with connect() as client:
        with pytest.raises(CallFailed, match="100000"):
            await client.call("x", {"text": "y" * 100_001})
    assert fake.methods("x") == []


async def test_before_and_after_its_time_a_client_is_not_connected(connect: Connect) -> None:
    client = connect()
    with pytest.raises(ConnectionLost):
        await client.call("health")
    with pytest.raises(ConnectionLost):
        assert client.hello
    async with client:
        pass
    with pytest.raises(ConnectionLost, match="closed"):
        await client.call("health")


async def test_a_device_proves_its_identity(
    fake: FakeGateway, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "identity" / "device.json"
    device = DeviceIdentity.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert DeviceIdentity.load_or_create(path).id == device.id
    async with connect(device=device, scopes=("operator.read", "operator.write")):
        pass
    [params] = fake.connects
    proof, client = params["device"], params["client"]
    raw = base64.urlsafe_b64decode(proof["publicKey"] + "=")
    assert proof["id"] == device.id == hashlib.sha256(raw).hexdigest()
    assert proof["signedAt"] == 1_795_387_339_604
    signed = (
        f"v3|{device.id}|gateway-client|backend|operator|operator.read,operator.write|"
        f"{proof['signedAt']}|{TOKEN}|n|{client['platform']}|{client['deviceFamily'].lower()}"
    )
    signature = base64.urlsafe_b64decode(proof["signature"] + "==")
    Ed25519PublicKey.from_public_bytes(raw).verify(signature, signed.encode())


async def test_a_device_token_is_kept_and_used_until_it_is_refused(
    fake: FakeGateway, connect: Connect, tmp_path: Path
) -> None:
    device = DeviceIdentity.load_or_create(tmp_path / "device.json")
    tokens = DeviceTokens(tmp_path / "device-auth.json")
    fake.hello_auth = {"deviceToken": "of this device"}
    async with connect(device=device, device_tokens=tokens):
        pass
    async with connect(device=device, device_tokens=tokens, token=None):
        pass
    assert fake.connects[1]["auth"] == {"deviceToken": "of this device"}
    assert tokens.get("ws://elsewhere", "operator") is None
    fake.refusal = {
        "code": "INVALID_REQUEST",
        "message": "no",
        "details": {"code": "AUTH_DEVICE_TOKEN_MISMATCH"},
    }
    with pytest.raises(HandshakeRefused):
        await connect(device=device, device_tokens=tokens, token=None).__aenter__()
    assert tokens.get(fake.url, "operator") is None


def test_a_damaged_identity_is_not_replaced_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    path.write_text("{}")
    with pytest.raises(DeviceFileInvalid, match="Delete the file"):
        DeviceIdentity.load_or_create(path)


def test_connect_takes_every_option_by_its_name() -> None:
    fields = {field.name for field in dataclasses.fields(Options)}
    assert MoreOptions.__optional_keys__ == fields - {"url", "scopes"}
