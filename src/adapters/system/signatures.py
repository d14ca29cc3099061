"""Signatures of devices: ed25519."""

from __future__ import annotations


def verify_signature(public_key: bytes, payload: bytes, signature: bytes) -> bool:
    """Whether `signature` is the payload's signature by the raw 32-byte public key."""
    # Imported lazily: most Gateways have no paired devices.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, payload)
    except (InvalidSignature, ValueError):
        return False
    return True
