"""A device's identity (an ed25519 key pair) and the tokens that Gateways issued to it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# cryptography is imported lazily: most clients authenticate with a shared secret, not a device.


class DeviceFileInvalid(ValueError):
    """The file holds no valid device identity; the message says what to do."""


class DeviceIdentity:
    """The key pair of this device. `id` is the SHA-256 of the raw public key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = key.public_key().public_bytes_raw()
        self.id = hashlib.sha256(self._public).hexdigest()

    @classmethod
    def load_or_create(cls, path: Path) -> DeviceIdentity:
        """Read the identity from `path`; create the file (mode 0600) if it does not exist.

        Raises DeviceFileInvalid, OSError.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        try:
            return cls._load(path)
        except FileNotFoundError:
            made = cls(Ed25519PrivateKey.generate())
            write_private(path, made._document())
            return cls._load(path)

    @property
    def public_key(self) -> str:
        """The raw public key as base64url, without padding."""
        return _base64url(self._public)

    def sign(self, data: bytes) -> str:
        """The signature as base64url, without padding."""
        return _base64url(self._key.sign(data))

    @classmethod
    def _load(cls, path: Path) -> DeviceIdentity:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        try:
            pem = json.loads(path.read_text("utf-8"))["privateKeyPem"]
            key = serialization.load_pem_private_key(pem.encode(), password=None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DeviceFileInvalid(
                f"{path} holds no valid device identity. Delete the file to create a new identity; "
                "the new device has to be approved again."
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise DeviceFileInvalid(f"{path} holds a key that is not ed25519. Delete the file.")
        return cls(key)

    def _document(self) -> dict[str, Any]:
        from cryptography.hazmat.primitives import serialization

        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        private = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return {
            "version": 1,
            "deviceId": self.id,
            "publicKeyPem": public.decode(),
            "privateKeyPem": private.decode(),
            "createdAtMs": int(time.time() * 1_000),
        }


class DeviceTokens:
    """A file of tokens by Gateway address and role. A token is only sent to its own Gateway."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, url: str, role: str) -> str | None:
        """The token that the Gateway at `url` issued for the role."""
        by_role = self._read().get(url, {})
        entry = by_role.get(role) if isinstance(by_role, dict) else None
        token = entry.get("token") if isinstance(entry, dict) else None
        return token if isinstance(token, str) else None

    def put(self, url: str, role: str, token: str, scopes: Sequence[str]) -> None:
        gateways = self._read()
        entry = {"token": token, "scopes": list(scopes), "updatedAtMs": int(time.time() * 1_000)}
        gateways[url] = {**gateways.get(url, {}), role: entry}
        write_private(self._path, {"version": 1, "gateways": gateways})

    def remove(self, url: str, role: str) -> None:
        gateways = self._read()
        if gateways.get(url, {}).pop(role, None) is not None:
            write_private(self._path, {"version": 1, "gateways": gateways})

    def _read(self) -> dict[str, Any]:
        try:
            gateways = json.loads(self._path.read_text("utf-8"))["gateways"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return gateways if isinstance(gateways, dict) else {}


def write_private(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file of mode 0600 atomically."""
    # Two calls: `mkdir(parents=True)` applies the mode to the last directory only.
    path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=2)
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
