"""What a merge patch makes of the main file's text."""

from __future__ import annotations

from collections.abc import Mapping

from ....domain.ports.configuration import ConfigIssue, ConfigRefused, MakePatch
from ..errors import ConfigInvalid, Locations, dotted
from ..loading import Document, read
from ..read import Inputs, Unreadable, effective, foreign, merged, parse, same
from .placeholders import placeholders, restored_value
from .snapshots import Content, config_issues

_UNREADABLE = "invalid config; fix before patching"
_NOTHING_KEPT = "holds the placeholder of a secret, and the configuration has none there"


def patched(before: Content, make: MakePatch, locations: Locations, inputs: Inputs) -> str:
    """The text after the patch. Raises ConfigRefused, before anything is validated."""
    main = str(locations.config_path)
    text = before.text if before.exists else "{}\n"
    document, held = _held(text, locations, inputs)
    in_force = document.tree.plain()
    patch = effective(_with_secrets(make(held), in_force, main), in_force)
    issues = [
        ConfigIssue(
            dotted(path),
            f"stands in the included file {node.file}; change it there",
            node.file,
            document.files.line(node.file, node.path),
        )
        for path, node in foreign(patch, document.tree, held, main)
    ]
    if issues:
        raise ConfigRefused(issues, why="the patch reaches into an included file")
    return _rewritten(text or "", held, merged(held, patch), main)


def _held(
    text: str | None, locations: Locations, inputs: Inputs
) -> tuple[Document, dict[str, object]]:
    """The files as they are, and what the main one has written."""
    main = str(locations.config_path)
    if text is None:
        issue = ConfigIssue("", "cannot be read as text", main)
        raise ConfigRefused([issue], why=_UNREADABLE)
    try:
        document = read(locations, inputs, contents={main: text.encode("utf-8")})
    except ConfigInvalid as invalid:
        raise ConfigRefused(config_issues(invalid.issues), why=_UNREADABLE) from None
    held = parse(text)
    if not isinstance(held, dict):
        raise ConfigRefused([ConfigIssue("", "must be an object", main)], why=_UNREADABLE)
    return document, held


def _with_secrets(patch: Mapping[str, object], held: object, main: str) -> dict[str, object]:
    """The patch with what is in force where it has placeholders, so that nothing changes there."""
    kept = placeholders(dict(patch), held)
    missing = [path for path, source in kept.items() if source is None]
    if missing:
        raise ConfigRefused([ConfigIssue(dotted(path), _NOTHING_KEPT, main) for path in missing])
    restored = restored_value(dict(patch), kept, held)
    return restored if isinstance(restored, dict) else {}


def _rewritten(text: str, held: Mapping[str, object], new: object, main: str) -> str:
    if same(held, new) or not isinstance(new, dict):
        return text
    # The library that keeps comments takes its time to load, and nothing else needs it.
    from .rewriting import Unwritable, rewritten

    why = "its spelling cannot be kept"
    try:
        result = rewritten(text, held, new)
        if same(parse(result), new):
            return result
    except Unwritable as error:
        why = str(error)
    except Unreadable:
        pass
    message = f"cannot be changed in place: {why}; replace the whole text instead"
    raise ConfigRefused([ConfigIssue("", message, main)])
