"""Detects secrets, by the names of keys and inside texts.

Texts may come from clients, so every pattern is linear in the text: no part of it can begin at
more than a bounded number of places.
"""

from __future__ import annotations

import re
from itertools import pairwise

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
"""Secret only as a separate word: `devicePin` is, `spin` is not."""
_WORD = re.compile(r"[A-Z]?[a-z]++|[A-Z]++(?![a-z])")
_KEYS = "key"
_NO_SECRET_KEYS = ("hotkey", "mainkey", "primarykey", "publickey", "sessionkey", "shortcutkey")
_LONGEST = 256
"""A longer name counts as a secret itself."""


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


REDACTED = "__OPENSOUL_REDACTED__"

_URL = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{0,31}+://)([^\s\"'<>`]++)")
_PARAMETER = re.compile(r"[^&;?#]++")
_PLAIN_VALUE = re.compile(r".{0,3}|v?\d{1,4}(?:[.-]\d{1,4}){0,3}(?:-preview)?")
"""A number, a version or a date."""
_ASSIGNED = re.compile(
    r"(?<![\w.-])-{0,2}(?P<name>[A-Za-z_][\w.-]{0,63}+)"
    r"(?P<between>[\"']?[ \t]{0,8}+[:=]{1,2}[ \t]{0,8}+)"
    r"(?P<value>\"[^\"\n]*+\"?|'[^'\n]*+'?|[^\s,;&\"'<>]++)"
)
_OPTION = re.compile(
    r"(?<!\S)(?P<between>--?(?P<name>[A-Za-z][\w-]{0,63}+)[ \t]{1,8}+)(?P<value>[^\s\"']++)"
)
_STATED = re.compile(
    r"\b(?P<between>(?:password|passwort|passphrase|psk|pin|secret|token|key)[ \t]{1,4}+"
    r"(?:is|was|ist|war)[ \t]{1,4}+)(?P<value>\S++)",
    re.IGNORECASE,
)
_SCHEME = re.compile(
    r"\b(?P<between>(?P<scheme>bearer|basic)[ \t]{1,8}+)(?P<value>\S{4,}+)", re.IGNORECASE
)
_USER = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}+:[^\s:@/]{1,256}+@(?=[\w(\[])")
_PREFIX = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-|[spr]k_|gh[opsur]_|github_pat_|glpat-|xox[a-z]-|xapp-|AKIA|ASIA|AIza"
    r"|ya29\.|eyJ|hf_|gsk_|r8_|SG\.|npm_|dop_v1_|lin_api_|whsec_|AGE-SECRET-KEY-)[\w.~+/=-]{3,}+"
)
_RUN = re.compile(r"[\w+/=~.-]{16,}+")
_PIECE = re.compile(r"[\w+=~-]{16,}+")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ARMOUR = "-----BEGIN"


def masked(text: str) -> str:
    """`text` with REDACTED in place of what looks like a secret."""
    if _ARMOUR in text:
        text = f"{text[: text.index(_ARMOUR)]}{REDACTED}"
    if "://" in text:
        text = _URL.sub(_url, text)
    if ":" in text or "=" in text:
        text = _USER.sub(f"{REDACTED}@", text)
        text = _ASSIGNED.sub(_assigned, text)
    text = _OPTION.sub(_assigned, text)
    text = _STATED.sub(rf"\g<between>{REDACTED}", text)
    text = _SCHEME.sub(_scheme, text)
    text = _PREFIX.sub(REDACTED, text)
    return _RUN.sub(_run, text)


def is_key_like(text: str) -> bool:
    """Whether letters, cases and digits alternate too often for a name."""
    kinds = ["a" if c.islower() else "A" if c.isupper() else c.isdigit() for c in text]
    changes = sum(
        one != other and not (one == "A" and other == "a")
        for one, other in pairwise(kinds)
        if one is not False and other is not False
    )
    return len(text) >= 16 and changes >= max(4, len(text) / 5)


def _run(found: re.Match[str]) -> str:
    return _PIECE.sub(lambda piece: _piece(piece.group()), found.group())


def _piece(text: str) -> str:
    secret = REDACTED not in text and (is_key_like(text) or _UUID.search(text) is not None)
    return REDACTED if secret else text


def _assigned(found: re.Match[str]) -> str:
    value = found["value"]
    if REDACTED in value or not sounds_secret(found["name"]):
        return found.group()
    quote = value[0] if value[0] in "\"'" else ""
    return found.group()[: -len(value)] + f"{quote}{REDACTED}{quote}"


def _scheme(found: re.Match[str]) -> str:
    value = found["value"]
    # `basic understanding` is no credential.
    plain = found["scheme"].lower() == "basic" and value.isalpha() and value[1:].islower()
    return found.group() if plain else f"{found['between']}{REDACTED}"


def _url(found: re.Match[str]) -> str:
    scheme, rest = found.groups()
    end = next((i for i, char in enumerate(rest) if char in "/?#"), len(rest))
    host, behind = rest[:end], rest[end:]
    _, colon, port = host.partition(":")
    if "@" in host:
        host = f"{REDACTED}@{host.rpartition('@')[2]}"
    elif "@" in behind and colon and not port.isdigit() and not host.startswith("["):
        # A password with a slash in it, which a URL should not have.
        host, behind = f"{REDACTED}@", behind.rpartition("@")[2]
    end = next((i for i, char in enumerate(behind) if char in "?#"), len(behind))
    path, query = behind[:end], behind[end:]
    return f"{scheme}{host}{_path(host, path)}{_PARAMETER.sub(_parameter, query)}"


def _path(host: str, path: str) -> str:
    """The whole path of a webhook is a secret, as knowing it grants access."""
    if len(path) > 1 and "hook" in f"{host}{path}".lower():
        return f"/{REDACTED}"
    return "/".join(
        REDACTED if _is_secret_part(part) and REDACTED not in part else part
        for part in path.split("/")
    )


def _is_secret_part(part: str) -> bool:
    bot = part.startswith("bot") and ":" in part
    return bot or any(map(is_key_like, part.split(":"))) or _PREFIX.match(part) is not None


def _parameter(found: re.Match[str]) -> str:
    name, assigned, value = found.group().partition("=")
    if REDACTED in value or not (assigned and value):
        return REDACTED if is_key_like(name) else found.group()
    if not sounds_secret(name) and _PLAIN_VALUE.fullmatch(value):
        return found.group()
    return f"{name}={REDACTED}"
