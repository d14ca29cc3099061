"""The proof of a device's identity: a signature of its request and of the connection's nonce."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum

from ...errors import Unauthenticated
from .records import VerifySignature

MAX_SKEW = 120.0
"""Seconds that a signature may be away from our clock, in either direction."""

_KEY_BYTES = 32
# What stands before the key in the PEM form: SubjectPublicKeyInfo of the algorithm ed25519.
_SPKI = bytes.fromhex("302a300506032b6570032100")
# Points are 255 bits of y and the sign of x. Below: the y of the eight points whose order divides
# 8; signatures by these can be made without a private key.
_FIELD = 2**255 - 19
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = frozenset((0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8))
_PEM_BEGIN, _PEM_END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"


class ProofFault(StrEnum):
    """Why a proof is refused; the values are the control protocol's."""

    NONCE_MISSING = "device-nonce-missing"
    NONCE_MISMATCH = "device-nonce-mismatch"
    SIGNATURE = "device-signature"
    STALE = "device-signature-stale"
    DEVICE_ID = "device-id-mismatch"
    PUBLIC_KEY = "device-public-key"


class ProofRefused(Unauthenticated):
    """The device has not proven its identity."""

    code = "device_proof_refused"

    def __init__(self, message: str, fault: ProofFault) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Proof:
    """The proof as received. `signed_at`: milliseconds of Unix time."""

    device_id: str
    public_key: str
    signature: str
    signed_at: int
    nonce: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The other signed data: the client and its request, as received."""

    client_id: str
    client_mode: str
    role: str
    scopes: tuple[str, ...]
    token: str
    platform: str = ""
    device_family: str = ""


def check_proof(
    proof: Proof, claim: Claim, *, nonce: str, now: float, verify: VerifySignature
) -> str:
    """The device's public key in base64url. Raises ProofRefused.

    `nonce`: the challenge of this connection.
    """
    key = _raw_key(proof.public_key)
    if key is None or not _is_sound(key):
        raise ProofRefused("device public key invalid", ProofFault.PUBLIC_KEY)
    if not _same(proof.device_id, hashlib.sha256(key).hexdigest()):
        raise ProofRefused("device identity mismatch", ProofFault.DEVICE_ID)
    if abs(now - proof.signed_at / 1_000) > MAX_SKEW:
        raise ProofRefused("device signature expired", ProofFault.STALE)
    if not proof.nonce:
        raise ProofRefused("device nonce required", ProofFault.NONCE_MISSING)
    if not _same(proof.nonce, nonce):
        raise ProofRefused("device nonce mismatch", ProofFault.NONCE_MISMATCH)
    signature = _decoded(proof.signature)
    payloads = (payload_v3(proof, claim), payload_v2(proof, claim))
    if signature is None or not any(verify(key, made, signature) for made in payloads):
        raise ProofRefused("device signature invalid", ProofFault.SIGNATURE)
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()


def payload_v2(proof: Proof, claim: Claim) -> bytes:
    """The payload that clients of the second version sign."""
    return _encoded("v2", proof, claim)


def payload_v3(proof: Proof, claim: Claim) -> bytes:
    """The payload of the third version, with the platform and device family."""
    return _encoded("v3", proof, claim, _plain(claim.platform), _plain(claim.device_family))


def _encoded(version: str, proof: Proof, claim: Claim, *more: str) -> bytes:
    parts = (
        version,
        proof.device_id,
        claim.client_id,
        claim.client_mode,
        claim.role,
        ",".join(claim.scopes),
        str(proof.signed_at),
        claim.token,
        proof.nonce or "",
        *more,
    )
    return "|".join(parts).encode("utf-8", "surrogatepass")


def _plain(text: str) -> str:
    """Trimmed, with ASCII letters in lower case (the case of others depends on the language)."""
    return "".join(char.lower() if char.isascii() else char for char in text.strip())


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(
        one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass")
    )


def _is_sound(key: bytes) -> bool:
    """Whether the key has its canonical form and is not a point of small order."""
    y = int.from_bytes(key, "little") & ((1 << 255) - 1)
    return y < _FIELD and y not in _SMALL_ORDER


def _raw_key(text: str) -> bytes | None:
    text = text.strip()
    if not text.startswith(_PEM_BEGIN):
        raw = _decoded(text)
        return raw if raw is not None and len(raw) == _KEY_BYTES else None
    if not text.endswith(_PEM_END):
        return None
    body = "".join(text[len(_PEM_BEGIN) : -len(_PEM_END)].split())
    der = _decoded(body.replace("+", "-").replace("/", "_"))
    if der is None or len(der) != len(_SPKI) + _KEY_BYTES or not der.startswith(_SPKI):
        return None
    return der[len(_SPKI) :]


def _decoded(text: str) -> bytes | None:
    """base64url, with or without padding; None for anything else, and if unused bits are set."""
    bare = text.rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    try:
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    canonical = base64.urlsafe_b64encode(raw).decode()
    is_canonical = padded.replace("+", "-").replace("/", "_") == canonical
    return raw if is_canonical and text in (bare, padded) else None
