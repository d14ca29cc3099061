"""References to secrets, `{source, provider, id}`, and the variables and files they lead to."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from ..errors import KeyPath, guess, listing
from ..schema.secrets import SecretProvider, SecretsSection
from .documents import Files, Node, signature_of
from .environment import Report

DEFAULT = "default"
_SOURCES = ("env", "file", "exec")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_BYTES = 1_048_576
_EXEC = (
    "names a program, and none is ever run to get a secret; put the secret into a file "
    '(source "file") or into an environment variable (source "env")'
)


class NoSecret(Exception):
    """A reference cannot be resolved; the message does not quote a secret."""


@dataclass(frozen=True, slots=True)
class SecretRefs:
    """Resolves references. Secret files are watched like configuration files."""

    env: Mapping[str, str]
    files: Files
    absolute: Callable[[str], str]
    """Makes a path of the configuration absolute."""
    section: SecretsSection = field(default_factory=SecretsSection)

    def value(self, node: Node, path: KeyPath, report: Report) -> str | None:
        """The secret; None after reporting why it cannot be resolved."""
        written = node.plain()
        try:
            return self._value(written if isinstance(written, dict) else {})
        except NoSecret as error:
            report(path, str(error))
            return None

    def _value(self, reference: Mapping[str, object]) -> str:
        texts = {key: item for key, item in reference.items() if isinstance(item, str)}
        unknown = [key for key in reference if key not in ("source", "provider", "id", "path")]
        if len(texts) < len(reference) or unknown:
            message = 'a reference to a secret is { source: "env", id: "NAME" } or { source: "file"'
            raise NoSecret(f'{message}, id: "/path/to/file" }}, also with a provider')
        match texts["source"]:
            case "env":
                return self._variable(texts)
            case "file":
                return self._file(texts)
            case "exec":
                raise NoSecret(_EXEC)
            case other:
                raise NoSecret(
                    f"the source must be {listing(_SOURCES[:2])}{guess(other, _SOURCES)}"
                )

    def _variable(self, reference: Mapping[str, str]) -> str:
        provider = self._provider(reference, self.section.defaults.env)
        name = reference.get("id", "")
        if not _NAME.fullmatch(name):
            raise NoSecret("the id must be the name of an environment variable")
        allowed = None if provider is None else provider.allowlist
        if allowed is not None and name not in allowed:
            raise NoSecret(f"the allowlist of its provider does not have {name}")
        if not self.env.get(name):
            state = "empty" if name in self.env else "not set"
            raise NoSecret(f"the environment variable {name} is {state}")
        return self.env[name]

    def _file(self, reference: Mapping[str, str]) -> str:
        if "path" in reference:
            return self._content(reference["path"], _MAX_BYTES)
        provider = self._provider(reference, self.section.defaults.file)
        pointer = reference.get("id", "")
        if provider is None:
            return self._content(pointer, _MAX_BYTES)
        if provider.path is None:
            raise NoSecret("its provider has no path")
        text = self._content(provider.path, provider.max_bytes)
        return text if provider.mode == "singleValue" else _pointed(text, pointer)

    def _provider(self, reference: Mapping[str, str], usual: str) -> SecretProvider | None:
        """The provider of that source; None if the default one is not configured."""
        name = reference.get("provider", usual)
        provider = self.section.providers.get(name)
        if provider is None:
            if name == DEFAULT:
                return None
            known = self.section.providers
            raise NoSecret(
                f"there is no provider of secrets `{name}`{guess(name, known)} "
                f"In secrets.providers: {listing(sorted(known))}"
            )
        if provider.source == "exec":
            raise NoSecret(_EXEC)
        if provider.source != reference["source"]:
            raise NoSecret(f"the provider of secrets `{name}` has the source `{provider.source}`")
        return provider

    def _content(self, name: str, limit: int) -> str:
        """The content of a file without the final line break. It must not be world-writable."""
        if not name.strip() or "\0" in name:
            raise NoSecret("the id must be the path of a file")
        file = self.absolute(name)
        self.files.signatures[file] = signature_of(file)
        try:
            data = _read(file, limit)
        except FileNotFoundError:
            raise NoSecret(f"there is no file {file}") from None
        except OSError as error:
            raise NoSecret(f"{file} cannot be read: {error.strerror or 'unusable'}") from None
        try:
            return re.sub(r"\r?\n\Z", "", data.decode("utf-8"))
        except UnicodeDecodeError:
            raise NoSecret(f"{file} is not UTF-8 text") from None


def providers_of(root: Node) -> SecretsSection:
    """The section `secrets`; its defaults if it is invalid."""
    members = root.value if isinstance(root.value, dict) else {}
    try:
        written = members["secrets"].plain() if "secrets" in members else {}
        return SecretsSection.model_validate(written)
    except ValidationError:
        return SecretsSection()


def _read(file: str, limit: int) -> bytes:
    # Opening a pipe must not block.
    opened = os.open(Path(file), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(opened, "rb") as stream:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            raise NoSecret(f"{file} is not a file")
        if os.name == "posix" and found.st_mode & stat.S_IWOTH:
            raise NoSecret(f"{file} can be changed by every user; run `chmod o-w` on it")
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise NoSecret(f"{file} has more than {limit} bytes")
    return data


def _pointed(text: str, pointer: str) -> str:
    """The string at a JSON pointer in a JSON text."""
    try:
        value: object = json.loads(text)
    except ValueError:
        raise NoSecret(
            "the file of its provider is not JSON; or is its mode `singleValue`?"
        ) from None
    if not pointer.startswith("/"):
        raise NoSecret("the id must be a JSON pointer, such as /providers/openai/apiKey")
    for step in pointer[1:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise NoSecret(f"the file of its provider has no text at {pointer}")
    return value
