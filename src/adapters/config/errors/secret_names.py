"""Names of keys whose values are secrets, for places that no schema describes."""

from __future__ import annotations

import re

_WHOLE = frozenset(
    (
        "apihash", "auth", "code", "env", "environment", "extraheaders", "headers", "jwk", "jwks",
        "jwt", "key", "mnemonic", "nonce", "otp", "pass", "passcode", "pem", "pfx", "pin", "psk",
        "pwd", "salt", "sas", "seed", "sig", "ticket", "totp", "vars", "variables",
    )
)  # fmt: skip
_ENDS = (
    "accesscode", "apihash", "authcode", "authorization", "bearer", "connectionstring",
    "connectionuri", "connectionurl", "connstr", "cookie", "credential", "databaseuri",
    "databaseurl", "dsn", "hmac", "hookaddress", "hookuri", "hookurl", "invitecode", "jwt", "keyid",
    "keypem", "otp", "pairingcode", "passcode", "passphrase", "passwd", "password", "passwort",
    "pem", "pincode", "privatekeypath", "psk", "pwd", "recoverycode", "secret", "serviceaccount",
    "signature", "token", "totp", "webhook",
)  # fmt: skip
_HOLDS = ("password", "passphrase", "secret", "privatekey", "credential", "apikey", "accesstoken")
_LAST = frozenset(("code", "mnemonic", "nonce", "pass", "pem", "pin", "salt", "sas", "seed", "sig"))
"""Names that are secrets only as a word of their own: `devicePin` is one, `spin` is not."""
_WORD = re.compile(r"[A-Z]?[a-z]++|[A-Z]++(?![a-z])")
_KEYS = "key"
_NO_SECRET_KEYS = ("hotkey", "mainkey", "primarykey", "publickey", "sessionkey", "shortcutkey")
_LONGEST = 256
"""A longer name is none, and counts as a secret itself."""


def sounds_secret(name: str) -> bool:
    """Whether strings at a key of that name are secrets; case and separators do not count."""
    if len(name) > _LONGEST:
        return True
    plain = "".join(filter(str.isalpha, name.lower()))
    words = _WORD.findall(name)
    last = words[-1].lower() if words else ""
    return last in _LAST or any(map(_is_secret, (plain, plain.removesuffix("s"))))


def _is_secret(name: str) -> bool:
    if name.endswith(_KEYS):
        return not name.endswith(_NO_SECRET_KEYS)
    return name in _WHOLE or name.endswith(_ENDS) or any(part in name for part in _HOLDS)
