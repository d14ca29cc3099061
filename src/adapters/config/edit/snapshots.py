"""Snapshots of the configuration for people and programs: content and issues."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from ....domain.ports.configuration import ConfigIssue, ConfigSnapshot
from ..errors import ConfigInvalid, Issue
from ..loading import build, read
from ..locations import Locations
from ..read import Inputs, Unreadable, cleaned, parse
from .placeholders import hidden_text
from .redaction import redacted, redacted_value


@dataclass(frozen=True, slots=True)
class Content:
    """The main file's bytes; None if it is missing or (`exists`) cannot be read."""

    data: bytes | None
    exists: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data or b"").hexdigest()

    @property
    def text(self) -> str | None:
        """The text; None if it is missing or not UTF-8."""
        try:
            return None if self.data is None else self.data.decode("utf-8")
        except UnicodeDecodeError:
            return None

    def value(self) -> object:
        """The value of the text. Raises Unreadable."""
        text = self.text
        if text is None:
            raise Unreadable("cannot be read as text")
        return parse(text)


def content_of(locations: Locations) -> Content:
    """The main file as it is now."""
    try:
        return Content(locations.config_path.read_bytes(), exists=True)
    except FileNotFoundError:
        return Content(None, exists=False)
    except (OSError, ValueError):
        return Content(None, exists=True)


def snapshot_of(
    content: Content, locations: Locations, inputs: Inputs, *, reader: bool = False
) -> ConfigSnapshot:
    """The configuration with this content of the main file. Never raises."""
    main = str(locations.config_path)
    issues: tuple[ConfigIssue, ...] = ()
    warnings: tuple[ConfigIssue, ...] = ()
    config: object = {}
    try:
        contents = {} if content.data is None else {main: content.data}
        loaded = build(read(locations, inputs, contents=contents), locations, inputs)
        config = redacted(loaded, reader=reader)
        warnings = tuple(ConfigIssue("", note, main) for note in loaded.settings.notes)
    except ConfigInvalid as invalid:
        issues = config_issues(invalid.issues)
    raw, parsed = _written(content, reader)
    return ConfigSnapshot(
        path=main,
        exists=content.exists,
        raw=raw,
        parsed=parsed,
        valid=not issues,
        config=config,
        hash=content.sha256,
        issues=issues,
        warnings=warnings,
    )


def config_issues(issues: Iterable[Issue]) -> tuple[ConfigIssue, ...]:
    """The issues as values of the domain."""
    return tuple(ConfigIssue(issue.path, issue.message, issue.file, issue.line) for issue in issues)


def _written(content: Content, reader: bool) -> tuple[str | None, object]:
    """The text and its value without secrets; no text where these cannot be separated from it."""
    try:
        value = content.value()
    except Unreadable:
        return None, {}
    text = hidden_text(content.text or "", value, reader=reader)
    return text, cleaned(redacted_value(value, reader=reader))
