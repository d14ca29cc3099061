"""A device's proof: its id, its key, its signature, our nonce and our clock."""

from __future__ import annotations

import hashlib
import string
from dataclasses import replace

import pytest

from opensoul.adapters.system.signatures import verify_signature
from opensoul.domain.access.devices.proofs import (
    Claim,
    Proof,
    ProofFault,
    ProofRefused,
    check_proof,
)
from tests.fakes.devices import Device, base64url

NOW = 1_000_000.0
CLAIM = Claim("cli", "cli", "operator", ("operator.read", "b"), "secret", " Linux ", "ÄPC")


def check(proof: Proof, claim: Claim = CLAIM, nonce: str = "n") -> str:
    return check_proof(proof, claim, nonce=nonce, now=NOW, verify=verify_signature)


def fault(proof: Proof, claim: Claim = CLAIM, nonce: str = "n") -> tuple[str, ProofFault]:
    with pytest.raises(ProofRefused) as refused:
        check(proof, claim, nonce)
    return refused.value.message, refused.value.fault


@pytest.fixture(scope="module")
def device() -> Device:
    return Device()


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("at", [NOW, NOW - 120, NOW + 120])
def test_both_payloads_are_accepted_within_two_minutes(
    device: Device, version: int, at: float
) -> None:
    assert check(device.proof(CLAIM, nonce="n", at=at, version=version)) == device.public_key


def test_a_key_may_come_as_pem(device: Device) -> None:
    proof = device.proof(CLAIM, nonce="n", at=NOW)
    assert check(replace(proof, public_key=device.pem)) == device.public_key


@pytest.mark.parametrize(
    ("platform", "signed"), [("Linux", "linux"), (" macOS 15 ", "macos 15"), ("", "")]
)
def test_platforms_are_signed_trimmed_and_in_lower_case(
    device: Device, platform: str, signed: str
) -> None:
    proof = device.proof(replace(CLAIM, platform=signed), nonce="n", at=NOW)
    assert check(proof, replace(CLAIM, platform=platform))


def test_letters_beyond_ascii_keep_their_case(device: Device) -> None:
    proof = device.proof(replace(CLAIM, device_family="äpc"), nonce="n", at=NOW)
    assert fault(proof) == ("device signature invalid", ProofFault.SIGNATURE)


@pytest.mark.parametrize("away", [-121, 121, -600, 10**12])
def test_a_signature_of_another_time_is_refused(device: Device, away: float) -> None:
    proof = device.proof(CLAIM, nonce="n", at=NOW + away)
    assert fault(proof) == ("device signature expired", ProofFault.STALE)


@pytest.mark.parametrize("nonce", [None, ""])
def test_a_signature_without_nonce_is_refused(device: Device, nonce: str | None) -> None:
    proof = device.proof(CLAIM, nonce=nonce, at=NOW, version=2)
    assert fault(proof) == ("device nonce required", ProofFault.NONCE_MISSING)


def test_a_signature_over_another_connections_nonce_is_refused(device: Device) -> None:
    proof = device.proof(CLAIM, nonce="n", at=NOW)
    assert check(proof)
    assert fault(proof, nonce="m") == ("device nonce mismatch", ProofFault.NONCE_MISMATCH)
    # Nor is it of use to say that the nonce was the right one.
    told = fault(replace(proof, nonce="m"), nonce="m")
    assert told == ("device signature invalid", ProofFault.SIGNATURE)


@pytest.mark.parametrize(
    "changed",
    [
        replace(CLAIM, client_id="test"),
        replace(CLAIM, client_mode="ui"),
        replace(CLAIM, role="node"),
        replace(CLAIM, scopes=("operator.admin",)),
        replace(CLAIM, scopes=("b", "operator.read")),
        replace(CLAIM, token="other"),
    ],
)
@pytest.mark.parametrize("version", [2, 3])
def test_what_was_signed_cannot_be_changed(device: Device, changed: Claim, version: int) -> None:
    proof = device.proof(CLAIM, nonce="n", at=NOW, version=version)
    assert fault(proof, changed) == ("device signature invalid", ProofFault.SIGNATURE)


def test_the_third_version_binds_the_platform_too(device: Device) -> None:
    changed = replace(CLAIM, platform="windows")
    assert check(device.proof(CLAIM, nonce="n", at=NOW, version=2), changed)
    told = fault(device.proof(CLAIM, nonce="n", at=NOW, version=3), changed)
    assert told == ("device signature invalid", ProofFault.SIGNATURE)


def test_the_first_version_is_not_accepted(device: Device) -> None:
    proof = device.proof(CLAIM, nonce="n", at=NOW)
    old = f"v1|{device.id}|cli|cli|operator|operator.read,b|{proof.signed_at}|secret"
    signed = replace(proof, signature=base64url(device.key.sign(old.encode())))
    assert fault(signed) == ("device signature invalid", ProofFault.SIGNATURE)


def test_an_id_that_is_not_the_keys_is_refused(device: Device) -> None:
    proof = device.proof(CLAIM, nonce="n", at=NOW)
    other = Device()
    for stolen in (
        replace(proof, device_id=other.id),
        replace(proof, public_key=other.public_key),
        replace(proof, device_id=device.id.upper()),
        replace(proof, device_id="ü\ud800"),
    ):
        assert fault(stolen) == ("device identity mismatch", ProofFault.DEVICE_ID)


@pytest.mark.parametrize(
    "key", ["?", "", "AAAA", "ü", "-----BEGIN PUBLIC KEY-----", "-" * 1_000, "A" * 1_000]
)
def test_a_key_that_is_none_is_refused(device: Device, key: str) -> None:
    proof = replace(device.proof(CLAIM, nonce="n", at=NOW), public_key=key)
    assert fault(proof) == ("device public key invalid", ProofFault.PUBLIC_KEY)


FIELD = 2**255 - 19
ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
ORDER_8_TOO = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"


def point(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


@pytest.mark.parametrize(
    "key",
    [
        *(point(y, sign) for y in (0, 1, FIELD - 1) for sign in (0, 1)),
        *(bytes.fromhex(y) for y in (ORDER_8, ORDER_8_TOO)),
        *(point(int.from_bytes(bytes.fromhex(y), "little"), 1) for y in (ORDER_8, ORDER_8_TOO)),
        *(point(FIELD + y, sign) for y in (0, 1, 2, 18) for sign in (0, 1)),
    ],
    ids=bytes.hex,
)
def test_a_key_that_proves_nothing_is_refused_whatever_verifies(device: Device, key: bytes) -> None:
    """Points of small order, and y beyond the field."""
    proof = device.proof(CLAIM, nonce="n", at=NOW)
    weak = replace(proof, public_key=base64url(key), device_id=hashlib.sha256(key).hexdigest())
    with pytest.raises(ProofRefused) as refused:
        check_proof(weak, CLAIM, nonce="n", now=NOW, verify=lambda *_: True)
    assert refused.value.fault is ProofFault.PUBLIC_KEY


def test_one_key_has_one_spelling(device: Device) -> None:
    proof = device.proof(CLAIM, nonce="n", at=NOW)
    key = device.public_key
    assert check(replace(proof, public_key=f"{key}=")) == key
    letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    following = letters[letters.index(key[-1]) + 1]  # Other bits behind the last byte.
    for spelling in (f"{key}==", f"{key}===", key[:-1] + following, f"{key[:-1]}={key[-1]}"):
        told = fault(replace(proof, public_key=spelling))
        assert told == ("device public key invalid", ProofFault.PUBLIC_KEY)


def test_pem_of_another_kind_is_refused(device: Device) -> None:
    proof = device.proof(CLAIM, nonce="n", at=NOW)
    wrapped = f"-----BEGIN PUBLIC KEY-----\n{'A' * 60}\n-----END PUBLIC KEY-----"
    told = fault(replace(proof, public_key=wrapped))
    assert told == ("device public key invalid", ProofFault.PUBLIC_KEY)


@pytest.mark.parametrize("signature", ["", "?", "AAAA", "ü", "A" * 86])
def test_a_signature_that_is_none_is_refused(device: Device, signature: str) -> None:
    proof = replace(device.proof(CLAIM, nonce="n", at=NOW), signature=signature)
    assert fault(proof) == ("device signature invalid", ProofFault.SIGNATURE)


def test_a_key_of_another_length_verifies_nothing() -> None:
    assert not verify_signature(b"short", b"", b"")
