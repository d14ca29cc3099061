"""The configuration file as a thing to read and to edit: the port, its data, its refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import GatewayError, InvalidRequest

MakePatch = Callable[[Mapping[str, object]], Mapping[str, object]]
"""Gets what the main file holds as it is written, secrets too, and returns a merge patch for it."""


@dataclass(frozen=True, slots=True)
class ConfigIssue:
    """One finding. `path` is dotted, empty for the whole; `line` counts from 1."""

    path: str
    message: str
    file: str
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSnapshot:
    """The configuration at one moment, without its secrets.

    `raw` is the main file's text, None where there is none that could be shown safely; `parsed`
    is its value as it is written, includes unresolved. `config` is what holds, with includes and
    defaults, and empty where `valid` is false. `hash` is the SHA-256 of the main file's bytes in
    lower-case hexadecimal, of nothing where it is missing.
    """

    path: str
    exists: bool
    raw: str | None
    parsed: object
    valid: bool
    config: object
    hash: str
    issues: tuple[ConfigIssue, ...] = ()
    warnings: tuple[ConfigIssue, ...] = ()


class ConfigConflict(InvalidRequest):
    """The edit was made from another state of the file than the one it has now."""

    code = "config_conflict"


class ConfigRefused(InvalidRequest):
    """The edit, or what the file would become by it, is not valid. Nothing was written."""

    code = "config_invalid"

    def __init__(self, issues: Sequence[ConfigIssue], *, why: str = "invalid config") -> None:
        first = f": {issues[0].path or '<root>'}: {issues[0].message}" if issues else ""
        more = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
        super().__init__(f"{why}{first}{more}", param=issues[0].path or None if issues else None)
        self.issues = tuple(issues)


class ConfigUnwritable(GatewayError):
    """The file cannot be read or written, or somebody else is editing it for too long."""

    code = "config_unwritable"


class ConfigFile(Protocol):
    """Shows and edits the configuration file. Blocking; safe to call from several threads.

    An edit is checked as a whole, includes and variables too, before anything is written, and is
    written at once or not at all, with the former text kept as a backup; one that changes nothing
    writes nothing. Edits by several callers and programs follow one another. `base_hash` has to
    be the hash of the file as it is now; it may be left out only where there is no file. All
    raise ConfigConflict, ConfigRefused, InvalidRequest and ConfigUnwritable.
    """

    def snapshot(self, *, reader: bool = False) -> ConfigSnapshot:
        """The configuration now. Never raises: what is wrong is in `issues`.

        `reader`: for somebody who is no administrator, and sees less of it: no string at a key
        that the schema does not know, no comment, and not where files are.
        """
        ...

    def replace(self, raw: str, base_hash: str | None) -> ConfigSnapshot:
        """Make `raw` the file's text, with hidden secrets put back as the file has them."""
        ...

    def patch(self, raw: str, base_hash: str | None) -> ConfigSnapshot:
        """Merge the object `raw` (JSON5) into the file: null removes, lists replace.

        Whatever it does not concern stays as it is written, comments too. A hidden secret in it
        means the one that is there. A value that lives in an included file is refused.
        """
        ...

    def change(self, patch: Mapping[str, object] | MakePatch) -> ConfigSnapshot:
        """The same with plain data, on the file as it is now.

        A function is called while nobody else can edit, so that nothing in between gets lost.
        """
        ...

    def schema(self) -> Mapping[str, object]:
        """`schema` (JSON Schema), `uiHints` by dotted path, `version` and `generatedAt`."""
        ...


class SharedDocument(Protocol):
    """The configuration that all processes of a Gateway have, in a database, with a copy of it in a
    file of this process. Blocking; safe to call from several threads. Both raise
    ConfigUnwritable."""

    def pull(self) -> None:
        """Bring the copy up to date."""
        ...

    def push(self, base_hash: str | None, data: bytes) -> bool:
        """Replace the document, and the copy, if its SHA-256 is `base_hash` (None: if there is
        none). False, and nothing is changed, if it has another one."""
        ...


class ConfigurationBook(Protocol):
    """The configuration of all processes of a Gateway, in their database. All methods raise
    StoreFailed."""

    async def newest_hash(self) -> str | None:
        """The SHA-256 of the configuration in lower-case hexadecimal; None: there is none."""
        ...

    async def newest(self) -> bytes | None:
        """The configuration, as JSON5 in UTF-8; None: there is none."""
        ...

    async def replace(self, base_hash: str | None, data: bytes) -> bool:
        """Replace it if its hash is `base_hash` (None: if there is none); whether it was."""
        ...
