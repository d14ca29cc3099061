"""Secrets at the places where files of the family have them, each recognisable by its number."""

from __future__ import annotations

import json
from itertools import count

_numbers = count(1)
PLANTED: dict[str, str] = {}
"""The planted text by what is planted there."""


def plant(what: str) -> str:
    """A secret that no pattern knows, as people make them up."""
    PLANTED[what] = f"hunter{next(_numbers)}two"
    return PLANTED[what]


NAMED = (
    "pass", "psk", "pin", "otp", "totpSeed", "passcode", "pwd", "passphrase", "connectionString",
    "connStr", "dsn", "databaseUrl", "privateKeyPem", "keyPem", "pem", "webhook", "webhookUrl",
    "incoming_webhook", "hookUrl", "apiHash", "signature", "sig", "hmac", "salt", "seed",
    "mnemonic", "cookie", "sessionCookies", "bearer", "authorization", "auth", "jwt",
    "clientSecret", "CLIENT_SECRET", "access-key", "accessKeyId", "encryptKey", "verificationToken",
    "appToken",
    "key", "keys", "licenseKey", "serviceAccount", "credentials", "recoveryCode", "pairingCode",
    "passwort", "sas", "nonce", "ticket",
)  # fmt: skip
"""Names whose strings are secrets."""

channel: dict[str, object] = {name: plant(f"named {name}") for name in NAMED}
channel |= {
    "pinNumber": {"pin": 4711},
    "env": {"ANYTHING": plant("a variable of a program")},
    "headers": {"X-Any": plant("a header")},
    "args": ["--token", plant("behind an option"), f"--password={plant('in an option')}"],
    "command": f"run --api-key {plant('in a command')}",
    "pairs": [{"name": "X-Api-Key", "value": plant("the value of a name")}],
    "address": f"https://h/x?code={plant('a code in a query')}&v=2",
    "user": f"https://me:{plant('a password in a URL')}@h/",
    "slash": f"postgres://me:{plant('a password before a slash')}/x@h/db",
    "hook": f"https://hooks.example/services/{plant('in the path of a webhook')}",
    "sql": f"Server=h;Uid=u;Password={plant('in a connection string')};",
    "prose": f"The password is {plant('in a sentence')}.",
    "armoured": f"-----BEGIN KEY-----\n{plant('in a PEM block')}\n-----END KEY-----",
    "scheme": f"Bearer {plant('behind Bearer')}",
    "prefix": f"sk-{plant('behind a known prefix')}",
    "random": "c4f9Zt7Qk2Lm8Xw3Vb6N",
}
channel["nickname"] = plant("at a name that says nothing")
channel["list"] = [plant("in a list"), 48213]
channel[plant("a key")] = True
channel["accounts"] = {"+49 171 5550": {"label": plant("below a telephone number")}}

COMMENTS = f"""
// nobody knows {plant("in a comment")}
// token: "{plant("an old token in a comment")}"
/* apiKey: {plant("without quotes in a comment")},
   see https://h/?code={plant("in a URL in a comment")} */
"""
WHOLE = {
    "gateway": {
        "auth": {"token": plant("the token"), "password": plant("the password")},
        "remote": {"url": "wss://h", "note": plant("at a key without effect")},
    },
    "env": {"A": plant("a variable"), "vars": {"B": plant("another variable")}},
    "models": {
        "providers": {
            "p": {
                "baseUrl": f"https://h/v1?code={plant('a code of a provider')}",
                "apiKey": plant("a key of a provider"),
                "headers": {"X": plant("a header of a provider")},
                "proxy": f"http://u:{plant('the password of a proxy')}@h:1",
                "models": [{"id": "m", "params": {"user": plant("a parameter")}}],
            }
        }
    },
    "agents": {
        "defaults": {"model": "p/m"},
        "list": [{"id": "main", "name": "Molty", "workspace": "/srv/" + plant("a path")}],
    },
    "logging": {"file": "/var/log/" + plant("the log's path")},
    "channels": {"some": channel},
    "unheardOf": {"deep": [{"er": plant("at an unknown key")}]},
}
FOR_ADMINISTRATORS = (
    "at a name that says nothing", "in a list", "a key", "below a telephone number",
    "in a comment", "at a key without effect", "a parameter", "a path", "the log's path",
    "at an unknown key",
)  # fmt: skip
"""What nothing marks as a secret, so that administrators see it."""


def text() -> str:
    """The file."""
    return COMMENTS + json.dumps(WHOLE, indent=1)
